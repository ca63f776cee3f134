"""Cross-encoders as point-wise scorers, on tiny random models built here."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from transformers import AutoTokenizer, BertModel

from robust_components.models.encoder_batches import fingerprint_of
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.ranking.scoring import check_pointwise

QUERY = "who is the man"
TEXTS = ["the man", "", "river city a b c d e f g h", "a", "the man is a river", "[SEP] [MASK] man"]
KINDS = ("bert 1", "bert 2", "t5")


@pytest.fixture(params=KINDS)
def made(request, make_bert, make_t5, bert_tokenizer, t5_tokenizer):
    """A network with its tokenizer."""
    if request.param == "t5":
        return make_t5(), t5_tokenizer
    return make_bert(int(request.param[-1])), bert_tokenizer


def by_hand(network, tokenizer, text):
    """The logits of one pair, with the library's own encoding."""
    network.eval()
    with torch.no_grad():
        if network.config.is_encoder_decoder:
            prompt = f"Query: {QUERY} Document: {text} Relevant:"
            inputs = tokenizer(" ".join(prompt.split()), return_tensors="pt")
            logits = network(**inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
            words = [tokenizer.convert_tokens_to_ids(word) for word in ("▁false", "▁true")]
            return logits[words]
        inputs = tokenizer([QUERY], [text], return_tensors="pt", padding=False, truncation=False)
        return network(**inputs).logits[0]


def test_scores_are_those_of_the_model_itself(made):
    network, tokenizer = made
    scorer = TransformersPairScorer(network, tokenizer, tokens_a_batch=32)
    plain = TEXTS[:5]
    scores = scorer.score(QUERY, plain)
    assert len(set(scores)) == len(plain)
    for text, score in zip(plain, scores, strict=True):
        logits = by_hand(network, tokenizer, text)
        expected = logits[0].sigmoid() if len(logits) == 1 else logits.softmax(0)[1]
        assert score == pytest.approx(float(expected), abs=1e-5)


def test_logits_are_what_the_probabilities_come_from(made):
    network, tokenizer = made
    logits = TransformersPairScorer(network, tokenizer, output="logit").score(QUERY, TEXTS)
    shares = TransformersPairScorer(network, tokenizer).score(QUERY, TEXTS)
    for logit, share in zip(logits, shares, strict=True):
        assert share == pytest.approx(1 / (1 + math.exp(-logit)), abs=5e-6)
        assert 0 <= share <= 1


@pytest.mark.parametrize("tokens", [1, 24, 10_000])
def test_a_score_depends_on_its_own_pair_alone(made, tokens):
    network, tokenizer = made
    scorer = TransformersPairScorer(network, tokenizer, tokens_a_batch=tokens)
    together = scorer.score(QUERY, TEXTS)
    alone = [scorer.score(QUERY, [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=5e-6)
    assert scorer.score(QUERY, TEXTS[::-1]) == pytest.approx(together[::-1], abs=5e-6)
    check_pointwise(scorer, QUERY, 1e-5)


def test_padding_side_of_the_tokenizer_changes_nothing(make_bert, bert_tokenizer):
    scorer = TransformersPairScorer(make_bert(1), bert_tokenizer)
    expected = scorer.score(QUERY, TEXTS)
    bert_tokenizer.padding_side = "left"
    try:
        left = TransformersPairScorer(make_bert(1), bert_tokenizer).score(QUERY, TEXTS)
    finally:
        bert_tokenizer.padding_side = "right"
    assert left == expected


def test_half_precision_weights_are_widened(make_bert, bert_tokenizer):
    network = make_bert(1).half()
    scorer = TransformersPairScorer(network, bert_tokenizer)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    check_pointwise(scorer, QUERY, 1e-5)


def test_training_mode_is_left(make_bert, bert_tokenizer):
    scorer = TransformersPairScorer(make_bert(1).train(), bert_tokenizer)
    assert scorer.score(QUERY, TEXTS) == scorer.score(QUERY, TEXTS)


def test_cuts_come_with_the_scores(made):
    network, tokenizer = made
    scorer = TransformersPairScorer(network, tokenizer, max_length=32)
    texts = ["a", "a " * 100, "", "a " * 10]
    scores, cuts = scorer.score_and_cuts(QUERY, texts)
    assert scores == scorer.score(QUERY, texts)
    assert cuts == scorer.truncates(QUERY, texts) == [False, True, False, False]
    assert scorer.score_and_cuts(QUERY, []) == ([], [])


def test_length_is_bounded_by_the_model(make_bert, bert_tokenizer):
    assert TransformersPairScorer(make_bert(1), bert_tokenizer).max_length == 64
    with pytest.raises(ValueError, match=r"max_length must be at most 64, .* got 65"):
        TransformersPairScorer(make_bert(1), bert_tokenizer, max_length=65)
    scorer = TransformersPairScorer(make_bert(1), bert_tokenizer)
    assert scorer.truncates(QUERY, ["a " * 50_000]) == [True]
    assert 0 < scorer.score(QUERY, ["a " * 50_000])[0] < 1


def test_a_model_that_takes_no_token_types(t5_tokenizer):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(
        vocab_size=len(t5_tokenizer), dim=16, hidden_dim=32, n_layers=1, n_heads=2, num_labels=1
    )
    scorer = TransformersPairScorer(DistilBertForSequenceClassification(config), t5_tokenizer)
    assert len(scorer.score(QUERY, TEXTS)) == len(TEXTS)


def test_an_encoder_decoder_with_labels_is_read_by_its_labels(t5_tokenizer):
    from transformers import T5Config, T5ForSequenceClassification

    config = T5Config(
        vocab_size=len(t5_tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    config.num_labels, config.decoder_start_token_id = 1, 0
    scorer = TransformersPairScorer(T5ForSequenceClassification(config), t5_tokenizer)
    assert not scorer.writes
    assert len(scorer.score(QUERY, TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("pad", [0, None])
def test_a_decoder_that_scores_the_last_token(t5_tokenizer, pad):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(
        vocab_size=len(t5_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=1,
        pad_token_id=pad,
        initializer_range=0.5,
    )
    scorer = TransformersPairScorer(LlamaForSequenceClassification(config), t5_tokenizer)
    together = scorer.score(QUERY, TEXTS)
    alone = [scorer.score(QUERY, [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=5e-6)
    assert len(set(together)) == len(TEXTS)


def test_bad_settings_are_refused(make_bert, make_t5, bert_tokenizer, t5_tokenizer):
    with pytest.raises(ValueError, match="1 or 2 labels, got 3"):
        TransformersPairScorer(make_bert(3), bert_tokenizer)
    with pytest.raises(ValueError, match="output must be 'probability' or 'logit', got 'rank'"):
        TransformersPairScorer(make_bert(1), bert_tokenizer, output="rank")
    with pytest.raises(ValueError, match="tokens_a_batch must be at least 1, got 0"):
        TransformersPairScorer(make_bert(1), bert_tokenizer, tokens_a_batch=0)
    with pytest.raises(ValueError, match="one token each for this tokenizer, 'no' is 2"):
        TransformersPairScorer(make_t5(), t5_tokenizer, answers=("no", "yes"))


def test_an_encoder_decoder_without_a_first_token_is_refused(make_t5, t5_tokenizer):
    network = make_t5()
    network.generation_config.decoder_start_token_id = None
    with pytest.raises(ValueError, match="names no decoder_start_token_id"):
        TransformersPairScorer(network, t5_tokenizer)


def test_folders_load_as_they_were(made, tmp_path):
    network, tokenizer = made
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scorer = TransformersPairScorer.from_pretrained(tmp_path, max_length=64)
    expected = TransformersPairScorer(network, tokenizer, max_length=64).score(QUERY, TEXTS)
    assert scorer.score(QUERY, TEXTS) == pytest.approx(expected, abs=5e-6)
    assert scorer.name == str(tmp_path)
    again = TransformersPairScorer.from_pretrained(tmp_path)
    assert len(scorer.fingerprint) == 64
    assert again.fingerprint == scorer.fingerprint


def test_fingerprints_tell_weights_apart(make_bert, bert_tokenizer):
    network = make_bert(1)
    first = fingerprint_of(network, bert_tokenizer)
    with torch.no_grad():
        network.classifier.bias += 1e-3
    assert fingerprint_of(network, bert_tokenizer) != first


def test_a_model_without_a_ranking_head_is_refused(make_bert, bert_tokenizer, tmp_path):
    BertModel(make_bert(1).config).save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).is_fast
    with pytest.raises(ValueError, match=r"is no trained ranker: its weights lack .*classifier"):
        TransformersPairScorer.from_pretrained(tmp_path)
