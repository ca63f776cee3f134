"""Hugging Face sequence classifiers: one probability a label for every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.models.encoder_batches import (
    in_order,
    load_network,
    reading_length,
)
from robust_components.models.text_encoding import TextEncoder
from robust_components.smoothing import FixedMechanism


class TransformersTextClassifier:
    """Classifies texts with a sequence classifier; batches by length, keeps the order.

    Probabilities are the softmax of the logits; for a model with one output, its sigmoid is that
    of the second label. They depend on their own text alone, up to float32 rounding (about 1e-6):
    rows are padded on the right and masked, and half-precision weights are widened to float32,
    because half-precision results would move with the batch by a hundredth.

    Args:
        network: a Hugging Face sequence classifier; moved to ``device``, to float32 and to
            evaluation mode.
        tokenizer: its fast tokenizer; see
            :class:`~robust_components.models.text_encoding.TextPieces` for special tokens in texts.
        labels: names in the order of the outputs; the model's own when ``None``.
        max_length: tokens of a text, at least 16; longer texts are cut at their end. By default
            512, or fewer where model or tokenizer says so.
        tokens_a_batch: most tokens of a batch, padding included, at least 1.
        mechanism: the masked copies the model was trained on, which ``CluCertClassifier`` then
            uses by default.
        name: for certificates.
        fingerprint: identity of the weights, for certificates.
        device: a torch device.

    Raises:
        ValueError: the labels are not distinct, do not fit the model, or do not exclude each other,
            or an argument is outside its range.
        TypeError: the tokenizer is not a fast one.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        labels: Sequence[str] | None = None,
        max_length: int | None = None,
        tokens_a_batch: int = 2048,
        mechanism: FixedMechanism | None = None,
        name: str = "sequence classifier",
        fingerprint: str = "unknown",
        device: str = "cpu",
    ) -> None:
        config = network.config
        self.labels = checked_labels(config, labels)
        self.max_length = reading_length(max_length, config, tokenizer)
        self.tokens_a_batch = positive_integer("tokens_a_batch", tokens_a_batch)
        pad_id = getattr(config, "pad_token_id", None)
        self.encoder = TextEncoder(tokenizer, self.max_length, pad_id=pad_id)
        if pad_id is None:  # decoders look for the last token that is none
            config.pad_token_id = self.encoder.pieces.pad_id
        self.network = network.to(device).float().eval()
        self.tokenizer = tokenizer
        self.mechanism = mechanism
        self.name = name
        self.fingerprint = fingerprint
        self.device = device

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
    ) -> TransformersTextClassifier:
        """Load a sequence classifier by folder or hub id.

        Args:
            model: folder or hub id.
            device: a torch device.
            token: for private models on the hub.
            model_kwargs: for the model's ``from_pretrained``.
            tokenizer_kwargs: for the tokenizer's ``from_pretrained``.
            options: for the constructor.

        Raises:
            ValueError: the weights lack a classification head, which would be made up at random.
            OSError: there is no such folder or id.
        """
        from transformers import AutoModelForSequenceClassification

        network, tokenizer, described = load_network(
            model,
            AutoModelForSequenceClassification,
            "classifier",
            "a sequence classifier",
            token=token,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
        )
        return cls(network, tokenizer, device=device, **{**described, **options})

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Float64 of shape (texts, labels); rows are in [0, 1] and add up to 1."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        logits = self._logits(self.encoder.encode(texts)[0])
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        found: NDArray[np.float64] = logits.softmax(1).numpy()
        return found

    def classify(self, texts: Sequence[str]) -> list[str | None]:
        """The likeliest label of each text, the first of equals."""
        return [self.labels[i] for i in self.probabilities(texts).argmax(axis=1)]

    def truncates(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the model reads."""
        return self.encoder.encode(texts)[1]

    def _logits(self, rows: Sequence[dict[str, list[int]]]) -> torch.Tensor:
        """Float64 logits of shape (rows, outputs), computed in float32."""
        return in_order(self._forward, self.encoder, rows, self.tokens_a_batch, self.device)

    @torch.inference_mode()
    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.network(**inputs).logits.double().cpu()
        return logits


def checked_labels(config: Any, labels: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the labels, at least two and distinct."""
    outputs = int(config.num_labels)
    if getattr(config, "problem_type", None) == "multi_label_classification" and outputs > 1:
        raise ValueError(
            f"the model gives {outputs} labels that do not exclude each other, and a certificate "
            "needs one label a text; wrap it in an object with labels and probabilities for one of "
            "them against the rest"
        )
    if labels is None:
        if outputs < 2:
            raise ValueError(
                "the model has one output, so that its two labels have no names; pass labels, "
                "such as labels=('other', 'toxic')"
            )
        labels = [str(config.id2label[i]) for i in range(outputs)]
    names = tuple(str(label) for label in labels)
    if len(set(names)) != len(names):
        raise ValueError(f"labels must be distinct, got {list(names)}; rename those that repeat")
    if len(names) != max(2, outputs):
        raise ValueError(
            f"labels must name the model's {max(2, outputs)} labels, got {len(names)}: "
            f"{list(names)}"
        )
    return names
