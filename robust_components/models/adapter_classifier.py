"""Reads the folder of a trained classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robust_components.models.adapter_folder import AdapterFolder
from robust_components.models.embedded import base_path
from robust_components.models.text_classifier import TransformersTextClassifier
from robust_components.smoothing import FixedMechanism, mechanism_named


def classifier_from_folder(folder: str | Path, **options: Any) -> TransformersTextClassifier:
    """The classifier in ``folder``, updates merged into an ordinary encoder with mean pooling.

    Args:
        folder: a folder written by ``robust-components train classifier``.
        options: for :class:`TransformersTextClassifier`.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: the adapter belongs to another base model.
    """
    from transformers import AutoTokenizer

    from robust_components.models.pooled_network import fresh_network

    adapter = AdapterFolder(folder, "classifier")
    settings = adapter.settings
    network = fresh_network(base_path(), len(settings["labels"]), attention="sdpa")
    network.load_state_dict(adapter.merged(network.state_dict()))
    return TransformersTextClassifier(
        network,
        AutoTokenizer.from_pretrained(base_path()),
        labels=settings["labels"],
        max_length=settings["max_length"],
        mechanism=_trained_for(settings["mechanism"]),
        name=f"robust-components {settings['name']} classifier over all-MiniLM-L6-v2",
        fingerprint=adapter.fingerprint("labels", "max_length"),
        **options,
    )


def _trained_for(settings: dict[str, Any]) -> FixedMechanism:
    mechanism = mechanism_named(
        settings["name"], {k: v for k, v in settings.items() if k != "name"}
    )
    if not isinstance(mechanism, FixedMechanism):
        raise ValueError(f"the classifier's mechanism must be fixed, got {settings['name']!r}")
    return mechanism
