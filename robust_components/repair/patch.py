"""A repair as a small file: the new rows of some neurons, and what was measured.

One safetensors file; its header holds a JSON object with the hash of the model it belongs to, the
settings, the hash of the probes, the figures, and a digest of all that; beside them, how long the
repair took, so that equal repairs have equal digests. A digest shows damage and careless changes;
who made a file only a signature could show.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robust_components.repair.neurons import find_layers
from robust_components.repair.patch_contents import check_rows, check_said
from robust_components.repair.perturb import NeuronRows, write_rows

VERSION = "2"
KEYS = {
    *("version", "base", "base_name", "settings", "probes", "figures", "layers"),
    *("digest", "seconds"),
}


@dataclass(frozen=True)
class Patch:
    """New rows for some neurons of one model.

    Attributes:
        rows: of the linear maps, in float32.
        base: SHA-256 of the model's weights, see :func:`weights_hash`.
        base_name: what the model was called.
        settings: of the repair: neurons, trade_off, step, ...
        probes: SHA-256 of the probes.
        figures: what was measured before and after, plain data.
        seconds: how long the repair took; not in the digest.
    """

    rows: tuple[NeuronRows, ...]
    base: str
    base_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    probes: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def parameters(self) -> int:
        """Numbers in the rows."""
        return sum(one.size for one in self.rows)

    @property
    def digest(self) -> str:
        """SHA-256 of rows, model hash, settings, probes and figures."""
        digest = hashlib.sha256(json.dumps(self._said(), sort_keys=True).encode())
        for name, tensor in sorted(self._tensors().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def _said(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "base": self.base,
            "base_name": self.base_name,
            "settings": dict(self.settings),
            "probes": self.probes,
            "figures": dict(self.figures),
            "layers": [one.name for one in self.rows],
        }

    def _tensors(self) -> dict[str, torch.Tensor]:
        found = {}
        for place, one in enumerate(self.rows):
            found[f"{place}.index"] = one.index.cpu().contiguous()
            found[f"{place}.weight"] = one.weight.detach().float().cpu().contiguous()
            if one.bias is not None:
                found[f"{place}.bias"] = one.bias.detach().float().cpu().contiguous()
        return found

    def save(self, path: str | Path) -> None:
        """Write the file.

        Raises:
            OSError: the folder is missing, or may not be written to.
        """
        from safetensors.torch import save

        said = {**self._said(), "digest": self.digest, "seconds": self.seconds}
        whole = save(self._tensors(), {"repair": json.dumps(said, sort_keys=True)})
        Path(path).write_bytes(whole)

    def check(self) -> None:
        """Whether rows and figures are such as a repair makes.

        Raises:
            ValueError: they are not.
        """
        check_rows(self.rows)
        check_said({**self._said(), "seconds": self.seconds})

    @classmethod
    def load(cls, path: str | Path) -> Patch:
        """Read a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no patch, truncated, or not as it was written.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(
                f"no patch at {path}; make one with robust-components repair, or "
                "NeuronRepairedRanker.repair(..).save(path)"
            )
        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {}).get("repair", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValueError, OSError, RecursionError) as error:
            raise ValueError(
                f"{path} is no patch or was cut short ({error}); copy it again or repeat the repair"
            ) from error
        if not isinstance(said, dict) or said.keys() != KEYS or said["version"] != VERSION:
            raise ValueError(
                f"{path} is no patch of version {VERSION}; make one with robust-components repair"
            )
        check_said(said)
        found = cls(
            rows=_rows(path, said["layers"], tensors),
            base=said["base"],
            base_name=said["base_name"],
            settings=said["settings"],
            probes=said["probes"],
            figures=said["figures"],
            seconds=said["seconds"],
        )
        check_rows(found.rows)
        if found.digest != said["digest"]:
            raise ValueError(
                f"{path} is not as it was written: its digest is {found.digest[:12]}..., "
                f"{str(said['digest'])[:12]}... is stated; copy it again or repeat the repair"
            )
        return found

    def apply(self, scorer: Any) -> Applied:
        """Put the rows into the scorer's network, in place.

        Returns:
            what takes them out again.

        Raises:
            ValueError: the patch belongs to another model, or the model was changed.
        """
        check_rows(self.rows)
        network = scorer.network
        held = weights_hash(network)
        if held != self.base:
            raise ValueError(
                f"the patch belongs to {self.base_name} with weights {self.base[:12]}..., this "
                f"model's are {held[:12]}...: another model, or one that was changed; load the "
                "model the patch was made for, or repair this one"
            )
        known = {rows.name for layer in find_layers(network) for rows in layer.rows}
        modules = dict(network.named_modules())
        for one in self.rows:
            linear = modules[one.name] if one.name in known else None
            if (
                linear is None
                or not bool((one.index < linear.out_features).all())
                or one.weight.shape[1] != linear.in_features
                or (one.bias is None) != (linear.bias is None)
            ):
                raise ValueError(
                    f"the patch has rows for {one.name} that this model lacks; repeat the repair"
                )
            if torch.finfo(linear.weight.dtype).bits < 32:
                raise ValueError(
                    f"{one.name} has {linear.weight.dtype} weights, in which the repair would "
                    "vanish or jump; call network.float() and apply the patch to that"
                )
        before = current_rows(network, self.rows)
        try:
            write_rows(network, self.rows)
        except BaseException:
            write_rows(network, before)
            raise
        return Applied(network, tuple(before))


def _rows(
    path: str | Path, layers: Any, tensors: Mapping[str, torch.Tensor]
) -> tuple[NeuronRows, ...]:
    names = set(tensors)
    found = []
    try:
        for place, name in enumerate(layers):
            index, weight = tensors[f"{place}.index"], tensors[f"{place}.weight"]
            bias = tensors.get(f"{place}.bias")
            names -= {f"{place}.index", f"{place}.weight", f"{place}.bias"}
            found.append(NeuronRows(str(name), index, weight, bias))
        if names:
            raise ValueError(f"{sorted(names)} belong to no layer")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no patch ({error}); repeat the repair") from error
    return tuple(found)


@dataclass
class Applied:
    """A patch in a network, until it is reverted."""

    network: Any
    before: tuple[NeuronRows, ...]

    def revert(self) -> None:
        """Put the former rows back, bit for bit."""
        write_rows(self.network, self.before)


def current_rows(network: Any, rows: Sequence[NeuronRows]) -> list[NeuronRows]:
    """Copies of the rows a patch would replace."""
    modules = dict(network.named_modules())
    found = []
    for one in rows:
        linear = modules[one.name]
        bias = None if linear.bias is None else linear.bias.detach()[one.index].clone()
        found.append(
            NeuronRows(one.name, one.index, linear.weight.detach()[one.index].clone(), bias)
        )
    return found


def weights_hash(network: Any) -> str:
    """SHA-256 of a network's weights, in float32, with their names and shapes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if re.search(r"position_ids$", name):
            continue  # some releases of transformers store them, some do not
        tensor = value.detach().cpu()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
