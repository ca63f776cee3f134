"""Causal language models that rank by the logit of one relevance token, as point-wise scorers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robust_components.models.encoder_batches import load_network
from robust_components.models.pair_encoding import PairEncoder
from robust_components.models.pair_scorer import (
    TransformersPairScorer,
    config_of,
    one_token,
)

PROMPT = ("Query:", "Passage:", "Does the passage answer the query?")
"""Words before the query, between, and after the document."""


class CausalPairScorer(TransformersPairScorer):
    """Scores a pair by the logit of one token as the first word after a prompt.

    As Llama-style rerankers do: the logit of "Yes" after the pair, through a sigmoid for
    probabilities. Rows are padded on the right; causal attention does not see the padding.

    Args:
        network: a Hugging Face causal language model.
        tokenizer: its fast tokenizer.
        relevance_token: what it writes for a relevant document; one token.
        prompt: words before the query, between, and after the document.
        options: see :class:`TransformersPairScorer`.

    Raises:
        ValueError: the relevance token is several tokens, or the model has no language head.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        relevance_token: str = "Yes",
        prompt: tuple[str, str, str] = PROMPT,
        **options: Any,
    ) -> None:
        if network.config.is_encoder_decoder or network.get_output_embeddings() is None:
            raise ValueError(
                f"{type(network).__name__} is no causal language model; pass it to "
                "TransformersPairScorer"
            )
        super().__init__(network, tokenizer, **options)
        pad_id = self.encoder.pad_id
        self.encoder = PairEncoder(tokenizer, self.max_length, prompt, pad_id=pad_id)
        self._token = one_token(tokenizer, relevance_token, "relevance_token")

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: str = "cpu",
        token: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> CausalPairScorer:
        """Load a causal language model by folder or hub id.

        Args:
            model: folder or hub id.
            device: a torch device.
            token: for private models on the hub.
            model_kwargs: for the model's ``from_pretrained``.
            tokenizer_kwargs: for the tokenizer's ``from_pretrained``.
            options: for the constructor.

        Raises:
            ValueError: the model is of another kind, or its weights lack the language head.
        """
        from transformers import AutoModelForCausalLM

        config = config_of(model, token, model_kwargs)
        others = [
            name
            for name in config.architectures or ()
            if "Classification" in name or "MaskedLM" in name
        ]
        if config.is_encoder_decoder or others:
            raise ValueError(
                f"{model} is {', '.join(others) or 'an encoder-decoder'}, no causal language "
                "model; load it with TransformersPairScorer.from_pretrained"
            )
        network, tokenizer, described = load_network(
            model,
            AutoModelForCausalLM,
            "ranker",
            "a causal language model",
            token=token,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
        )
        return cls(network, tokenizer, device=device, **{**described, **options})

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        known = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        logits: torch.Tensor = self.network(**known, use_cache=False).logits
        last = inputs["attention_mask"].sum(1) - 1
        return logits[torch.arange(len(last), device=last.device), last, self._token].unsqueeze(1)
