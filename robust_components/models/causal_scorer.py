"""Causal language models that rank by the logit of one relevance token, as point-wise scorers."""

from __future__ import annotations

from typing import Any

import torch

from robust_components.models.pair_encoding import PairEncoder
from robust_components.models.pair_scorer import TransformersPairScorer, _one_token

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
        self._token = _one_token(tokenizer, relevance_token)

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        known = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        logits: torch.Tensor = self.network(**known, use_cache=False).logits
        last = inputs["attention_mask"].sum(1) - 1
        return logits[torch.arange(len(last), device=last.device), last, self._token].unsqueeze(1)
