"""Init parameters as YAML keeps them."""

from __future__ import annotations

from typing import Any


def decimal(value: Any) -> int | float | str:
    """A number as given, plain and exact: text where Python's own numbers would not keep it."""
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)
