"""Tiny random Hugging Face models, built anew: no weights are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.tiny_models import TinyModels

WORDS = [*"abcdefgh", "who", "what", "is", "the", "man", "city", "river", "true", "false"]


@pytest.fixture(scope="session")
def bert_tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *WORDS, *"[]:?", "##a", "##b", "sep", "mask", "pad"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.enable_truncation(8)
    backend.enable_padding(length=8)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=64,
    )


@pytest.fixture(scope="session")
def t5_tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = ["<pad>", "</s>", "<unk>", "▁", ":", "▁Query", "▁Document", "▁Relevant"]
    pieces += [f"▁{word}" for word in WORDS] + list("abcdefgh")
    scores = [(piece, 0.0 if i < 3 else -float(i)) for i, piece in enumerate(pieces)]
    backend = Tokenizer(models.Unigram(scores, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    )


@pytest.fixture(scope="session")
def make_bert(bert_tokenizer: Any) -> Callable[[int], Any]:
    """``make_bert(labels)``: a random BERT with a head, its weights large enough to matter."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForSequenceClassification

    def make(labels: int) -> Any:
        torch.manual_seed(labels)
        config = BertConfig(
            vocab_size=len(bert_tokenizer),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=64,
            num_labels=labels,
            initializer_range=0.5,
        )
        return BertForSequenceClassification(config)

    return make


@pytest.fixture(scope="session")
def make_t5(t5_tokenizer: Any) -> Callable[[], Any]:
    torch = pytest.importorskip("torch")
    from transformers import T5Config, T5ForConditionalGeneration

    def make() -> Any:
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=len(t5_tokenizer),
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            initializer_factor=3.0,
        )
        return T5ForConditionalGeneration(config)

    return make


@pytest.fixture(scope="session")
def tiny_ranker(make_bert: Callable[[int], Any], bert_tokenizer: Any, tmp_path_factory: Any) -> str:
    """A folder with a tiny random cross-encoder."""
    folder = tmp_path_factory.mktemp("tiny_ranker")
    make_bert(1).save_pretrained(folder)
    bert_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_models() -> TinyModels:
    """Causal and encoder-decoder models with their tokenizers."""
    for module in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(module)
    return TinyModels()
