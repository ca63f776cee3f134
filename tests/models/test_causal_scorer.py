"""Causal language models as rankers, on tiny random models built here."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from robust_components.models.causal_scorer import CausalPairScorer
from robust_components.models.pair_scorer import TransformersPairScorer

OPTIONS = {"relevance_token": "true", "prompt": ("query", "document", "relevant")}
TEXTS = ["the man", "river city a b c", "a"]


@pytest.fixture
def folder(bert_tokenizer, tmp_path):
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=len(bert_tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_folders_load_as_they_were(folder, bert_tokenizer):
    loaded = CausalPairScorer.from_pretrained(folder, output="logit", **OPTIONS)
    network = LlamaForCausalLM.from_pretrained(folder)
    made = CausalPairScorer(network, bert_tokenizer, output="logit", **OPTIONS)
    assert loaded.score("who", TEXTS) == made.score("who", TEXTS)
    assert len(set(made.score("who", TEXTS))) == len(TEXTS)
    assert loaded.name == str(folder)
    assert len(loaded.fingerprint) == 64


def test_other_models_are_refused(folder, tiny_ranker, make_t5, t5_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="BertForSequenceClassification, no causal language"):
        CausalPairScorer.from_pretrained(tiny_ranker)
    writer = tmp_path / "t5"
    make_t5().save_pretrained(writer)
    t5_tokenizer.save_pretrained(writer)
    with pytest.raises(ValueError, match=r"an encoder-decoder, .* TransformersPairScorer\.from_p"):
        CausalPairScorer.from_pretrained(writer)
    LlamaModel.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"weights lack .*head.* load a causal language model"):
        CausalPairScorer.from_pretrained(folder)


def test_a_causal_model_is_no_cross_encoder(folder):
    with pytest.raises(ValueError, match="is no trained ranker"):
        TransformersPairScorer.from_pretrained(folder)


@pytest.mark.parametrize(("word", "found"), [("true man", "is 2"), ("zebra", "is unknown")])
def test_the_relevance_token_is_one_known_token(folder, word, found):
    with pytest.raises(ValueError, match=f"relevance_token must be one token.*{found}"):
        CausalPairScorer.from_pretrained(folder, relevance_token=word)
