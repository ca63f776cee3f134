"""Labels by description: the label whose description lies nearest to the text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.models.prompt_classifier import distinct_labels
from robust_components.models.protocols import SentenceEncoder


class ZeroShotClassifier:
    """Classifies texts by the cosine of their embedding with those of label descriptions.

    Nothing is trained: write what each label means, as a text about it would. Probabilities are
    the softmax of ``scale`` times the cosines; they are no measured frequencies.

    Args:
        labels: from each label to its description, or to several, of which the nearest counts.
        encoder: a :class:`~robust_components.models.protocols.SentenceEncoder`; the embedded one
            when ``None``.
        scale: sharpness, above 0.

    Raises:
        TypeError, ValueError: a label or description is unusable, or ``scale`` is out of range.
    """

    def __init__(
        self,
        labels: Mapping[str, str | Sequence[str]],
        encoder: SentenceEncoder | None = None,
        *,
        scale: float = 20.0,
    ) -> None:
        self.labels = distinct_labels(list(labels))
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be a number above 0, got {scale!r}; try 20")
        given = {
            label: [found] if isinstance(found, str) else list(found)
            for label, found in labels.items()
        }
        for label, found in given.items():
            if not found or not all(isinstance(one, str) and one.strip() for one in found):
                raise ValueError(
                    f"the description of {label!r} must be a text or several, got {found!r}; "
                    "write what a text with that label is about"
                )
        if encoder is None:
            from robust_components.models.sentence_encoder import load_encoder

            encoder = load_encoder()
        self.encoder = encoder
        self.scale = float(scale)
        self._anchors = [_unit(encoder.encode(given[label])) for label in self.labels]
        written = json.dumps([given, self.scale], sort_keys=True).encode()
        inner = str(getattr(encoder, "fingerprint", "unknown"))
        self.name = f"zero-shot by {getattr(encoder, 'name', type(encoder).__name__)}"
        self.fingerprint = hashlib.sha256(inner.encode() + written).hexdigest()

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Float64 of shape (texts, labels); rows are in [0, 1] and add up to 1."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        vectors = _unit(self.encoder.encode(texts))
        cosines = np.stack([(vectors @ one.T).max(axis=1) for one in self._anchors], axis=1)
        raised = np.exp(self.scale * (cosines - cosines.max(axis=1, keepdims=True)))
        shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def classify(self, texts: Sequence[str]) -> list[str | None]:
        """The nearest label of each text, the first of equals."""
        return [self.labels[i] for i in self.probabilities(texts).argmax(axis=1)]


def _unit(vectors: Any) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays as it is."""
    rows: NDArray[np.float64] = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)
