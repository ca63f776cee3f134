"""Reads the folder of a trained ranker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robust_components.models.adapter_folder import AdapterFolder
from robust_components.models.embedded import base_path
from robust_components.models.pair_scorer import TransformersPairScorer


def ranker_from_folder(folder: str | Path, **options: Any) -> TransformersPairScorer:
    """The ranker in ``folder``, updates merged into an ordinary Hugging Face cross-encoder.

    Args:
        folder: a folder written by ``robust-components train ranker``.
        options: for :class:`TransformersPairScorer`.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: the adapter belongs to another base model.
    """
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    adapter = AdapterFolder(folder, "ranker")
    config = AutoConfig.from_pretrained(base_path(), num_labels=1)
    network = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    base = load_file(Path(base_path()) / "model.safetensors")
    state = {f"bert.{key}": value.float() for key, value in base.items()}
    state.pop("bert.embeddings.position_ids", None)
    network.load_state_dict(adapter.merged(state))
    return TransformersPairScorer(
        network,
        AutoTokenizer.from_pretrained(base_path()),
        max_length=adapter.settings["max_length"],
        name="robust-components ranker over all-MiniLM-L6-v2",
        fingerprint=adapter.fingerprint("max_length", "coverage"),
        coverage=adapter.settings.get("coverage"),
        **options,
    )
