"""Reads the folder of a trained classifier: low-rank updates over all-MiniLM-L6-v2, and a head."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from robust_components.models.embedded import base_fingerprint, base_path
from robust_components.models.text_classifier import TransformersTextClassifier
from robust_components.smoothing import FixedMechanism, mechanism_named

FILES = (
    "classifier.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "head.safetensors",
)


def classifier_from_folder(folder: str | Path, **options: Any) -> TransformersTextClassifier:
    """The classifier in ``folder``, updates merged into an ordinary encoder with mean pooling.

    Args:
        folder: a folder written by ``robust-components train classifier``.
        options: for :class:`TransformersTextClassifier`.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: the adapter belongs to another base model.
    """
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from robust_components.models.pooled_network import fresh_network

    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no classifier in {folder}: {', '.join(missing)} missing; train one with "
            "robust-components train classifier"
        )
    settings = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
    if settings["base_fingerprint"] != base_fingerprint():
        raise ValueError(
            f"the adapter in {folder} was trained on {settings['base_model']} with SHA-256 "
            f"{settings['base_fingerprint'][:12]}..., but the installed base has "
            f"{base_fingerprint()[:12]}...; install the matching base or train the adapter anew"
        )
    network = fresh_network(base_path(), len(settings["labels"]), attention="sdpa")
    state = network.state_dict()
    adapter = load_file(folder / FILES[2])
    rank = json.loads((folder / FILES[1]).read_text(encoding="utf-8"))
    scale = rank["lora_alpha"] / rank["r"]
    for key, value in adapter.items():
        name = "bert." + key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if name.endswith(".lora_A.weight"):
            up = adapter[key.replace(".lora_A.", ".lora_B.")].float()
            place = name.replace(".lora_A.", ".")
            state[place] = state[place] + scale * (up @ value.float())
        elif not name.endswith(".lora_B.weight"):
            state[name] = value.float()
    state.update({key: value.float() for key, value in load_file(folder / FILES[3]).items()})
    network.load_state_dict(state)
    digest = hashlib.sha256(settings["base_fingerprint"].encode())
    for name in FILES:
        digest.update((folder / name).read_bytes())
    return TransformersTextClassifier(
        network,
        AutoTokenizer.from_pretrained(base_path()),
        labels=settings["labels"],
        max_length=settings["max_length"],
        mechanism=_trained_for(settings["mechanism"]),
        name=f"robust-components {settings['name']} classifier over all-MiniLM-L6-v2",
        fingerprint=digest.hexdigest(),
        **options,
    )


def _trained_for(settings: dict[str, Any]) -> FixedMechanism:
    mechanism = mechanism_named(
        settings["name"], {k: v for k, v in settings.items() if k != "name"}
    )
    if not isinstance(mechanism, FixedMechanism):
        raise ValueError(f"the classifier's mechanism must be fixed, got {settings['name']!r}")
    return mechanism
