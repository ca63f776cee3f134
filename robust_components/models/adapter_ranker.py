"""Reads the folder of a trained ranker: low-rank updates over all-MiniLM-L6-v2, and a head."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from robust_components.models.embedded import base_fingerprint, base_path
from robust_components.models.pair_scorer import TransformersPairScorer

FILES = ("ranker.json", "adapter_config.json", "adapter_model.safetensors", "head.safetensors")


def ranker_from_folder(folder: str | Path, **options: Any) -> TransformersPairScorer:
    """The ranker in ``folder``, updates merged into an ordinary Hugging Face cross-encoder.

    Args:
        folder: a folder written by ``robust-components train ranker``.
        options: for :class:`TransformersPairScorer`.
    """
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no ranker in {folder}: {', '.join(missing)} missing; train one with "
            "robust-components train ranker"
        )
    settings = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
    if settings["base_fingerprint"] != base_fingerprint():
        raise ValueError(
            f"the adapter in {folder} was trained on {settings['base_model']} with SHA-256 "
            f"{settings['base_fingerprint'][:12]}..., but the installed base has "
            f"{base_fingerprint()[:12]}...; install the matching base or train the adapter anew"
        )
    config = AutoConfig.from_pretrained(base_path(), num_labels=1)
    network = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
    state = load_file(Path(base_path()) / "model.safetensors")
    state = {f"bert.{key}": value.float() for key, value in state.items()}
    state.pop("bert.embeddings.position_ids", None)
    adapter = load_file(folder / FILES[2])
    rank = json.loads((folder / FILES[1]).read_text(encoding="utf-8"))
    scale = rank["lora_alpha"] / rank["r"]
    for key, value in adapter.items():
        name = "bert." + key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if name.endswith(".lora_A.weight"):
            up = adapter[key.replace(".lora_A.", ".lora_B.")].float()
            state[name.replace(".lora_A.", ".")] += scale * (up @ value.float())
        elif not name.endswith(".lora_B.weight"):
            state[name] = value.float()
    state.update({key: value.float() for key, value in load_file(folder / FILES[3]).items()})
    network.load_state_dict(state)
    said = {name: settings.get(name) for name in ("base_fingerprint", "max_length", "coverage")}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in FILES[1:]:
        digest.update((folder / name).read_bytes())
    return TransformersPairScorer(
        network,
        AutoTokenizer.from_pretrained(base_path()),
        max_length=settings["max_length"],
        name="robust-components ranker over all-MiniLM-L6-v2",
        fingerprint=digest.hexdigest(),
        coverage=settings.get("coverage"),
        **options,
    )
