"""Tiny random rankers of every architecture."""

from __future__ import annotations

from typing import Any

import pytest

SIZE: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.4,
}
T5: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
KINDS = (
    *("Bert", "Roberta", "Electra", "MPNet", "DebertaV2", "ModernBert", "DistilBert"),
    *("T5", "gated T5", "Llama", "causal Llama"),
)


def network_of(kind: str, words: int) -> Any:
    """A random network with ``words`` words, without dropout."""
    import torch
    import transformers

    torch.manual_seed(1)
    if kind.endswith("T5"):
        gate = "gated-gelu" if kind == "gated T5" else "relu"
        config = transformers.T5Config(
            vocab_size=words,
            **T5,
            feed_forward_proj=gate,
            decoder_start_token_id=0,
            initializer_factor=1.0 if gate == "gated-gelu" else 2.0,
        )
        return transformers.T5ForConditionalGeneration(config)
    name = kind.split()[-1]
    more: dict[str, Any] = {"pad_token_id": 0, "num_labels": 1, "max_position_embeddings": 72}
    size = dict(SIZE)
    if name == "DistilBert":
        size = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "initializer_range": 0.4}
    if name == "ModernBert":
        size["initializer_cutoff_factor"] = 2.0
        more |= {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    if name in ("Roberta", "MPNet"):
        more["pad_token_id"] = 0
    config = getattr(transformers, f"{name}Config")(vocab_size=words, **size, **more)
    head = "CausalLM" if kind.startswith("causal") else "SequenceClassification"
    return getattr(transformers, f"{name}For{head}")(config)


@pytest.fixture
def make_scorer(bert_tokenizer: Any, t5_tokenizer: Any) -> Any:
    """``make_scorer(kind)``: a scorer that gives logits."""
    pytest.importorskip("torch")

    def make(kind: str = "Bert", double: bool = False) -> Any:
        from robust_components.models.causal_scorer import CausalPairScorer
        from robust_components.models.pair_scorer import TransformersPairScorer

        tokenizer = t5_tokenizer if kind.endswith("T5") else bert_tokenizer
        network = network_of(kind, len(tokenizer))
        options: dict[str, Any] = {"output": "logit", "max_length": 64, "tokens_a_batch": 96}
        scorer: Any
        if kind == "causal Llama":
            prompt = ("query", "document", "relevant")
            scorer = CausalPairScorer(
                network, tokenizer, relevance_token="true", prompt=prompt, **options
            )
        else:
            scorer = TransformersPairScorer(network, tokenizer, **options)
        if double:
            scorer.network.double()
        return scorer

    return make
