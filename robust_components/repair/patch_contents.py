"""What a patch must say, whoever wrote it: a digest can be made for anything."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from robust_components.repair.perturb import NeuronRows
from robust_components.repair.wording import KINDS

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_said(said: Mapping[str, Any]) -> None:
    """Whether names, settings and figures are such as certificates state.

    Args:
        said: ``base``, ``base_name``, ``probes``, ``settings``, ``figures`` and ``seconds``.

    Raises:
        ValueError: a field has another type or is outside its range.
    """
    for name in ("base", "probes"):
        text = said[name]
        _must(isinstance(text, str) and _SHA256.fullmatch(text), name, text, "a SHA-256")
    _must(isinstance(said["base_name"], str), "base_name", said["base_name"], "text")
    _number("seconds", said["seconds"], 0.0)
    settings, figures = (_object(name, said[name]) for name in ("settings", "figures"))
    _whole("settings['neurons']", settings.get("neurons"), 1)
    unknown = sorted(map(str, figures.keys() - {*KINDS, "clean_drift"}))
    _must(not unknown, "figures", unknown, "of known kinds")
    for kind in KINDS:
        if kind in figures or kind == "held_out":
            _check_counts(f"figures[{kind!r}]", figures.get(kind))
    drift = _object("figures['clean_drift']", figures.get("clean_drift"))
    _number("kendall_tau", drift.get("kendall_tau"), -1.0, 1.0)
    _number("largest", drift.get("largest"), 0.0)


def _check_counts(where: str, given: Any) -> None:
    lists = None
    for when in ("before", "after"):
        counts = _object(f"{where}[{when!r}]", _object(where, given).get(when))
        found = _whole(f"{where}[{when!r}]['lists']", counts.get("lists"), 0)
        _whole(f"{where}[{when!r}]['succeeded']", counts.get("succeeded"), 0, found)
        _number(f"{where}[{when!r}]['gain']", counts.get("gain"))
        _must(lists in (None, found), f"{where}['after']['lists']", found, f"{lists}, as before")
        lists = found


def check_rows(rows: Sequence[NeuronRows]) -> None:
    """Whether rows are finite numbers, each for one place.

    Raises:
        ValueError: they are not.
    """
    _must(rows, "rows", rows, "of at least one neuron")
    taken: set[tuple[str, int]] = set()
    for one in rows:
        index = one.index
        fits = index.dtype == torch.int64 and index.ndim == 1 and bool((index >= 0).all())
        _must(fits, f"index of {one.name}", f"{index.dtype} {tuple(index.shape)}", "row numbers")
        own = {(one.name, int(i)) for i in index}
        _must(len(own) == len(index) and not own & taken, one.name, "a row twice", "each row once")
        taken |= own
        for tensor, shape in ((one.weight, one.weight.shape[1:]), (one.bias, ())):
            if tensor is None:
                continue
            fits = tensor.is_floating_point() and tensor.shape == (len(index), *shape)
            _must(
                fits and tensor.ndim == (2 if tensor is one.weight else 1),
                f"rows of {one.name}",
                f"{tensor.dtype} {tuple(tensor.shape)}",
                f"float, one for each of {len(index)} numbers",
            )
            finite = bool(torch.isfinite(tensor).all())
            _must(finite, f"rows of {one.name}", "nan or infinity", "finite numbers")


def _object(name: str, value: Any) -> Mapping[str, Any]:
    _must(isinstance(value, Mapping), name, value, "an object")
    return dict(value)


def _whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    fits = type(value) is int and value >= least and (most is None or value <= most)
    _must(fits, name, value, f"a whole number of at least {least} and at most {most}")
    return int(value)


def _number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> None:
    fits = type(value) in (int, float) and math.isfinite(value) and least <= value <= most
    _must(fits, name, value, f"a number in [{least:g}, {most:g}]")


def _must(fits: Any, name: str, value: Any, allowed: str) -> None:
    if not fits:
        raise ValueError(
            f"the patch is not as a repair writes it: {name} must be {allowed}, got "
            f"{repr(value)[:80]}; repeat the repair"
        )
