"""Checks shared by the mechanisms."""

from __future__ import annotations

import warnings

from robust_components.checks import positive_integer


def check_blocks(name: str, value: int) -> None:
    positive_integer(name, value)
    if value == 1:
        warnings.warn(
            f"{name}=1 shows every word in one copy, so no edit can be certified; use 5 to 20",
            UserWarning,
            stacklevel=4,
        )


def check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an integer, got {seed!r}; use 0")
