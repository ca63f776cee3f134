"""Hugging Face cross-encoders as point-wise scorers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from robust_components.models.pair_encoding import encode_pairs, length_sorted

MONO_T5 = "Query: {query} Document: {document} Relevant:"


class TransformersPairScorer:
    """Scores (query, document) pairs with a cross-encoder; batches by length, keeps the order.

    Models with one label give a logit (mapped by ``output``), with two labels the probability of
    label 1, encoder-decoder models the probability of "true" against "false" as in monoT5
    (Nogueira et al. 2020). Logits are computed as float32.

    Args:
        network: a Hugging Face model.
        tokenizer: its fast tokenizer.
        output: ``"probability"`` (sigmoid, softmax) or ``"logit"``.
        max_length: tokens of a pair; longer documents are cut.
        tokens_a_batch: most tokens of a batch, padding included.
        name: for certificates.
        fingerprint: identity of the weights, for certificates.
        device: a torch device.

    Raises:
        ValueError: the model has neither one nor two labels and is no encoder-decoder.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        output: str = "probability",
        max_length: int = 512,
        tokens_a_batch: int = 4096,
        name: str = "cross-encoder",
        fingerprint: str = "unknown",
        device: str = "cpu",
    ) -> None:
        if output not in ("probability", "logit"):
            raise ValueError(f"output must be 'probability' or 'logit', got {output!r}")
        config = network.config
        self.seq2seq = bool(getattr(config, "is_encoder_decoder", False))
        if not self.seq2seq and config.num_labels not in (1, 2):
            raise ValueError(
                f"a ranker needs a model with 1 or 2 labels, got {config.num_labels}; load a "
                "cross-encoder for ranking, or wrap the model in an object with a score method"
            )
        self.network = network.to(device).eval()
        self.tokenizer = tokenizer
        self.output = output
        self.max_length = max_length
        self.tokens_a_batch = tokens_a_batch
        self.name = name
        self.fingerprint = fingerprint
        self.device = device
        if self.seq2seq:
            self._words = [
                tokenizer(word, add_special_tokens=False)["input_ids"][0]
                for word in ("false", "true")
            ]

    @classmethod
    def from_pretrained(
        cls, model: str | Path, *, device: str = "cpu", **options: Any
    ) -> TransformersPairScorer:
        """Load a cross-encoder or monoT5-style model by folder or hub id."""
        from transformers import (
            AutoConfig,
            AutoModelForSeq2SeqLM,
            AutoModelForSequenceClassification,
            AutoTokenizer,
        )

        config = AutoConfig.from_pretrained(model)
        kind = (
            AutoModelForSeq2SeqLM
            if config.is_encoder_decoder
            else AutoModelForSequenceClassification
        )
        network = kind.from_pretrained(model, torch_dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(model)
        digest = hashlib.sha256()
        for key, value in sorted(network.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.contiguous().view(torch.uint8).numpy().tobytes())
        options = {"name": str(model), "fingerprint": digest.hexdigest(), **options}
        return cls(network, tokenizer, device=device, **options)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in order; see ``output``."""
        if not documents:
            return []
        logits = self._logits([(query, document) for document in documents])
        if self.output == "logit":
            scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        elif logits.shape[1] == 1:
            scores = logits[:, 0].sigmoid()
        else:
            scores = logits.softmax(1)[:, 1]
        return [float(score) for score in scores]

    def truncates(self, query: str, documents: Sequence[str]) -> list[bool]:
        """Whether each document is cut when it is scored for ``query``."""
        if not documents:
            return []
        return encode_pairs(self.tokenizer, self._pairs(query, documents), self.max_length)[1]

    def _pairs(self, query: str, documents: Sequence[str]) -> list[tuple[str, str]]:
        return [(query, document) for document in documents]

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
        rows, _ = encode_pairs(self.tokenizer, pairs, self.max_length)
        labels = 2 if self.seq2seq else int(self.network.config.num_labels)
        found = torch.empty(len(pairs), labels)
        for batch in length_sorted([len(row["input_ids"]) for row in rows], self.tokens_a_batch):
            inputs = self.tokenizer.pad([rows[i] for i in batch], return_tensors="pt")
            inputs = {key: value.to(self.device) for key, value in inputs.items()}
            with torch.inference_mode():
                found[torch.tensor(batch)] = self._forward(inputs).float().cpu()
        return found

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self.seq2seq:
            logits: torch.Tensor = self.network(**inputs).logits
            return logits
        inputs.pop("token_type_ids", None)
        start = self.network.config.decoder_start_token_id
        first = torch.full((inputs["input_ids"].shape[0], 1), start, device=self.device)
        logits = self.network(**inputs, decoder_input_ids=first).logits[:, 0]
        return logits[:, self._words]
