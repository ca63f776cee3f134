"""A sentence-transformers CrossEncoder as a point-wise scorer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class CrossEncoderScorer:
    """Scores pairs with a ``sentence_transformers.CrossEncoder`` of 1 or 2 labels.

    The model's own activation is not used, as it may be any function, even one of the whole list:
    raw logits are taken and mapped here.

    Args:
        model: a ``CrossEncoder``; kept in evaluation mode and, on CPU, best in float32.
        output: ``"probability"`` in [0, 1] (sigmoid of the logit, or of the difference of two), or
            ``"logit"``.
        batch_size: pairs a batch, at least 1.

    Raises:
        TypeError: ``model`` has no ``predict``.
        ValueError: it has neither 1 nor 2 labels, or half-precision weights.
    """

    def __init__(self, model: Any, *, output: str = "probability", batch_size: int = 64) -> None:
        if not callable(getattr(model, "predict", None)):
            raise TypeError(
                f"model must be a sentence_transformers.CrossEncoder, got {type(model).__name__}"
            )
        if output not in ("probability", "logit"):
            raise ValueError(f"output must be 'probability' or 'logit', got {output!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        labels = int(model.num_labels)
        if labels not in (1, 2):
            raise ValueError(
                f"a ranker needs a model with 1 or 2 labels, got {labels}; load a cross-encoder "
                "for ranking"
            )
        halves = sorted({str(p.dtype) for p in model.parameters() if p.dtype.itemsize < 4})
        if halves:
            raise ValueError(
                f"the model's weights are {', '.join(halves)}: its scores move with the batch by a "
                "hundredth, more than certificates allow; load it in float32 or call model.float()"
            )
        self.model = model
        self.output = output
        self.batch_size = batch_size
        self.name = _name(model)
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration and tokenizer."""
        if self._fingerprint is None:
            from robust_components.models.encoder_batches import fingerprint_of

            network = getattr(self.model, "model", None) or self.model
            self._fingerprint = fingerprint_of(network, self.model.tokenizer)
        return self._fingerprint

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in order; see ``output``."""
        if not documents:
            return []
        import torch

        self.model.eval()
        logits: NDArray[np.float64] = np.asarray(
            self.model.predict(
                [(query, document) for document in documents],
                batch_size=self.batch_size,
                activation_fn=torch.nn.Identity(),
                apply_softmax=False,
                show_progress_bar=False,
            ),
            dtype=np.float64,
        ).reshape(len(documents), -1)
        logit = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        if self.output == "logit":
            return [float(value) for value in logit]
        return [float(1.0 / (1.0 + np.exp(-value))) for value in np.clip(logit, -700, 700)]

    def score_and_cuts(
        self, query: str, documents: Sequence[str]
    ) -> tuple[list[float], list[bool]]:
        """Scores, and whether each pair was longer than the model reads."""
        return self.score(query, documents), self._cuts(query, documents)

    def _cuts(self, query: str, documents: Sequence[str]) -> list[bool]:
        newer = hasattr(self.model, "max_seq_length")
        longest = self.model.max_seq_length if newer else self.model.max_length
        if not documents or longest is None:
            return [False] * len(documents)
        ids = self.model.tokenizer(
            [query] * len(documents), list(documents), truncation=False, verbose=False
        )["input_ids"]
        return [len(one) > longest for one in ids]


def _name(model: Any) -> str:
    """The model's name or folder, as far as it tells."""
    config = getattr(model, "config", None)
    return str(getattr(config, "_name_or_path", "") or "cross-encoder")
