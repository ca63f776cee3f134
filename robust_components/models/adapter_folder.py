"""Folders of trained adapters: low-rank updates over all-MiniLM-L6-v2, a head, and settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from robust_components.models.embedded import base_fingerprint

CONFIG = "adapter_config.json"
UPDATES = "adapter_model.safetensors"
HEAD = "head.safetensors"


class AdapterFolder:
    """A folder written by ``robust-components train``.

    Args:
        folder: holds ``KIND.json``, a peft adapter and ``head.safetensors``.
        kind: ``"ranker"`` or ``"classifier"``.

    Raises:
        FileNotFoundError: the folder lacks a file.
        ValueError: the adapter belongs to another base model.
    """

    def __init__(self, folder: str | Path, kind: str) -> None:
        self.folder = Path(folder)
        names = [f"{kind}.json", CONFIG, UPDATES, HEAD]
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"no {kind} in {folder}: {', '.join(missing)} missing; train one with "
                f"robust-components train {kind}"
            )
        self.settings: dict[str, Any] = self._json(names[0])
        trained_on, installed = self.settings["base_fingerprint"], base_fingerprint()
        if trained_on != installed:
            raise ValueError(
                f"the adapter in {folder} was trained on {self.settings['base_model']} with "
                f"SHA-256 {trained_on[:12]}..., but the installed base has {installed[:12]}...; "
                "install the matching base or train the adapter anew"
            )

    def merged(self, state: dict[str, Any]) -> dict[str, Any]:
        """``state`` of a network with the encoder ``bert``, with updates, biases and head in it."""
        from safetensors.torch import load_file

        state = dict(state)
        adapter = load_file(self.folder / UPDATES)
        config = self._json(CONFIG)
        scale = config["lora_alpha"] / config["r"]
        for key, value in adapter.items():
            name = "bert." + key.removeprefix("base_model.model.").replace(".base_layer.", ".")
            if name.endswith(".lora_A.weight"):
                up = adapter[key.replace(".lora_A.", ".lora_B.")].double()
                place = name.replace(".lora_A.", ".")
                # exact for updates of 16 bits, so that the same weights come out on every machine
                state[place] = state[place] + scale * (up @ value.double()).float()
            elif not name.endswith(".lora_B.weight"):
                state[name] = value.float()
        return state | {k: value.float() for k, value in load_file(self.folder / HEAD).items()}

    def fingerprint(self, *settings: str) -> str:
        """SHA-256 of the weights and of the named settings, which change what the model says."""
        said = {name: self.settings.get(name) for name in ("base_fingerprint", *settings)}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        for name in (CONFIG, UPDATES, HEAD):
            digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()

    def _json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))
