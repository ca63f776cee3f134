"""Sentence embeddings: the mean of an encoder's token states, of length 1."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.models.embedded import HUB_ID, base_fingerprint, base_path, need
from robust_components.models.text_encoding import TextEncoder


class TransformersEncoder:
    """Embeds texts with an encoder and mean pooling, as all-MiniLM-L6-v2 was trained.

    Models that pool otherwise, or add layers, are better loaded as a
    ``sentence_transformers.SentenceTransformer``, which offers ``encode`` as well. A vector depends
    on its own text alone, up to float32 rounding.

    Args:
        network: a Hugging Face encoder; moved to ``device``, to float32 and to evaluation mode.
        tokenizer: its fast tokenizer.
        max_length: tokens of a text, at least 16; longer texts are cut at their end.
        tokens_a_batch: most tokens of a batch, padding included, at least 1.
        name: for certificates.
        fingerprint: identity of the weights, for certificates.
        device: a torch device.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        max_length: int = 256,
        tokens_a_batch: int = 2048,
        name: str = "sentence encoder",
        fingerprint: str = "unknown",
        device: str = "cpu",
    ) -> None:
        self.network = network.to(device).float().eval()
        self.encoder = TextEncoder(tokenizer, max_length)
        self.tokens_a_batch = positive_integer("tokens_a_batch", tokens_a_batch)
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint
        self.device = device

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.network.config.hidden_size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Float64 unit vectors of shape (texts, dimension), in order."""
        import torch

        from robust_components.models.encoder_batches import in_order

        if not texts:
            return np.zeros((0, self.dimension))

        @torch.inference_mode()
        def means(inputs: dict[str, Any]) -> Any:
            states = self.network(**inputs).last_hidden_state
            kept = inputs["attention_mask"].unsqueeze(-1)
            return ((states * kept).sum(1) / kept.sum(1)).double().cpu()

        rows, _ = self.encoder.encode(texts)
        vectors: NDArray[np.float64] = in_order(
            means, self.encoder, rows, self.tokens_a_batch, self.device
        ).numpy()
        lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / lengths


class EmbeddedEncoder:
    """The embedded encoder, loaded when it is first asked."""

    name = HUB_ID

    @property
    def fingerprint(self) -> str:
        """Identity of the weights."""
        return load_encoder().fingerprint

    def encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """See :meth:`TransformersEncoder.encode`."""
        return load_encoder().encode(texts)


def load_encoder(model: str | Path | None = None, *, device: str = "cpu") -> TransformersEncoder:
    """The embedded encoder all-MiniLM-L6-v2, one for the whole process, or another by name.

    Args:
        model: folder or hub id of an encoder to pool by the mean; the embedded one when ``None``.
        device: a torch device.

    Raises:
        ImportError: torch or transformers is not installed.
        OSError: there is no such folder or id.
    """
    need("encoder", "torch", "transformers")
    if model is None:
        return _shared(device)
    from robust_components.models.encoder_batches import fingerprint_of

    network, tokenizer = _load(str(model))
    return TransformersEncoder(
        network,
        tokenizer,
        max_length=min(512, int(tokenizer.model_max_length)),
        name=str(model),
        fingerprint=fingerprint_of(network, tokenizer),
        device=device,
    )


@functools.cache
def _shared(device: str) -> TransformersEncoder:
    network, tokenizer = _load(base_path())
    digest = hashlib.sha256(base_fingerprint().encode()).hexdigest()
    return TransformersEncoder(network, tokenizer, name=HUB_ID, fingerprint=digest, device=device)


def _load(model: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    network = AutoModel.from_pretrained(model, dtype=torch.float32)
    return network, AutoTokenizer.from_pretrained(model)
