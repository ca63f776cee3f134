"""Low-rank adapters (LoRA, Hu et al. 2022) trained through merged weights.

Every step the update B A is added to the frozen weight once and the network runs on the sum in
bfloat16. For the long batches of masked copies this is faster than separate low-rank products in
every layer (about 2.5 times here), and what is saved loads with peft like any other adapter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call


class LowRankNetwork:
    """A frozen network with trainable low-rank updates, biases and head.

    Args:
        network: the whole model; its linear layers under ``body`` get updates.
        body: name of the submodule that holds the encoder, e.g. ``"bert"``.
        rank: rank of the updates; scale is 1 (``lora_alpha == r``).
        full: trains every parameter instead, without low-rank updates.
        dtype: of the forward and backward passes; master weights are float32.
        dropout: probability of every dropout layer of ``network``, in [0, 1).
    """

    def __init__(
        self,
        network: nn.Module,
        body: str,
        rank: int = 32,
        *,
        full: bool = False,
        dtype: torch.dtype = torch.bfloat16,
        dropout: float = 0.0,
    ) -> None:
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        self.body = body
        self.rank = rank
        self.dtype = dtype
        self.frozen = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.network = network.to(dtype).train().requires_grad_(False)
        self.down: dict[str, nn.Parameter] = {}
        self.up: dict[str, nn.Parameter] = {}
        self.whole: dict[str, nn.Parameter] = {}
        for name, module in network.named_modules():
            if not full and isinstance(module, nn.Linear) and self._adapted(name):
                shape = (rank, module.in_features)
                self.down[name] = nn.Parameter(torch.empty(shape))
                nn.init.kaiming_uniform_(self.down[name], a=math.sqrt(5))
                self.up[name] = nn.Parameter(torch.zeros(module.out_features, rank))
        for name, _ in network.named_parameters():
            head = not name.startswith(f"{body}.") or ".pooler." in name
            if full or head or name.endswith(".bias"):
                self.whole[name] = nn.Parameter(self.frozen[name].float().clone())
        self.merged: dict[str, Tensor] = {}
        self.merge()

    def _adapted(self, name: str) -> bool:
        return name.startswith(f"{self.body}.") and ".pooler." not in name

    def parameters(self) -> Iterator[nn.Parameter]:
        yield from self.down.values()
        yield from self.up.values()
        yield from self.whole.values()

    def merge(self) -> None:
        """Make the weights of the next passes from the current parameters; keeps gradients."""
        self.merged = {name: value.to(self.dtype) for name, value in self.whole.items()}
        for name, up in self.up.items():
            weight = self.frozen[f"{name}.weight"].float() + up @ self.down[name]
            self.merged[f"{name}.weight"] = weight.to(self.dtype)

    def __call__(self, **inputs: Tensor) -> Any:
        return functional_call(self.network, self.merged, (), inputs)

    def merged_state(self) -> dict[str, Tensor]:
        """The whole network's float32 state with the updates merged in."""
        state = {name: value.float() for name, value in self.frozen.items()}
        with torch.no_grad():
            for name, value in self.whole.items():
                state[name] = value.detach().clone()
            for name, up in self.up.items():
                key = f"{name}.weight"
                state[key] = state[key] + up @ self.down[name]
        return state

    def state(self) -> dict[str, Tensor]:
        """Copies of all trainable parameters by name, for checkpoints and averages."""
        return {name: value.detach().clone() for name, value in self.named()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in self.named():
                value.copy_(state[name])
        self.merge()

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All trainable parameters by name, in the order of :meth:`parameters`."""
        for kind, group in (("down", self.down), ("up", self.up), ("whole", self.whole)):
            for name, value in group.items():
                yield f"{kind}:{name}", value

    def start_from(self, adapter: str | Path) -> None:
        """Copy the updates and biases of a saved peft adapter of the same rank.

        Args:
            adapter: the adapter's file, or a folder written by :meth:`save`, whose head is taken
                too.

        Raises:
            ValueError: the adapter has another rank or another base.
        """
        if Path(adapter).is_dir():
            head = load_file(Path(adapter) / "head.safetensors")
            with torch.no_grad():
                for name, value in head.items():
                    if name not in self.whole or self.whole[name].shape != value.shape:
                        raise ValueError(
                            f"the head in {adapter} does not fit this network: it has {name} of "
                            f"shape {tuple(value.shape)}; check the base"
                        )
                    self.whole[name].copy_(value.float())
            adapter = Path(adapter) / "adapter_model.safetensors"
        found = 0
        with torch.no_grad():
            for key, value in load_file(adapter).items():
                name = f"{self.body}.{key.removeprefix('base_model.model.')}"
                for suffix, group in ((".lora_A.weight", self.down), (".lora_B.weight", self.up)):
                    if name.endswith(suffix):
                        mine = group.get(name.removesuffix(suffix))
                        if mine is None or mine.shape != value.shape:
                            raise ValueError(
                                f"{adapter} does not fit this network: it has {key} of shape "
                                f"{tuple(value.shape)}; check base and rank, and leave it out when "
                                "all weights are trained"
                            )
                        mine.copy_(value.float())
                        found += 1
                name = name.replace(".base_layer.", ".")
                if name in self.whole:
                    self.whole[name].copy_(value.float())
                    found += 1
        if not found:
            raise ValueError(f"{adapter} holds no update for this network; check base and rank")
        self.merge()

    def save(self, folder: str | Path, base_model: str) -> None:
        """Write ``adapter_model.safetensors`` and ``adapter_config.json`` (peft) and the head."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        adapter: dict[str, Tensor] = {}
        head: dict[str, Tensor] = {}
        inside = f"{self.body}."
        for name in self.up:
            key = f"base_model.model.{name.removeprefix(inside)}"
            adapter[f"{key}.lora_A.weight"] = self.down[name]
            adapter[f"{key}.lora_B.weight"] = self.up[name]
        for name, value in self.whole.items():
            if name.startswith(inside) and ".pooler." not in name:
                key = f"base_model.model.{name.removeprefix(inside)}"
                layer = name.rpartition(".")[0]
                if layer in self.up:
                    key = key.removesuffix(".bias") + ".base_layer.bias"
                adapter[key] = value
            else:
                head[name] = value
        for path, tensors in (("adapter_model", adapter), ("head", head)):
            halves = {k: v.detach().half().contiguous() for k, v in tensors.items()}
            save_file(halves, folder / f"{path}.safetensors")
        suffixes = sorted({name.rpartition(".")[2] for name in self.up})
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": base_model,
            "r": self.rank,
            "lora_alpha": self.rank,
            "lora_dropout": 0.0,
            "bias": "all",
            "target_modules": suffixes,
            "exclude_modules": ".*pooler.*",
            "inference_mode": True,
        }
        (folder / "adapter_config.json").write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
