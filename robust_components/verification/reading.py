"""Reading plain data that anybody may have written: every refusal is one sentence, no traceback."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

LARGEST = 10**9
"""No count in a certificate may be larger."""


class UnverifiableError(Exception):
    """The data cannot be checked; the message is the sentence to report."""


class Work:
    """A bound on the number of steps, so that no evidence, however large, hangs the verifier."""

    def __init__(self, steps: int = 5_000_000) -> None:
        self.steps = steps
        self._left = steps

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise UnverifiableError(
                f"The evidence is too large to check: it takes more than {self.steps} steps."
            )


def shown(value: Any) -> str:
    """The value in short form, for messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"an unprintable {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def entry(mapping: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in mapping:
        raise UnverifiableError(f"{where}[{name!r}] is missing.")
    return mapping[name]


def whole(value: Any, name: str, low: int = 0, high: int = LARGEST) -> int:
    """A whole number in [low, high]; ``True`` is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UnverifiableError(
            f"{name} must be a whole number from {low} to {high}, got {shown(value)}."
        )
    return value


_NUMBER = re.compile(r"[0-9]{0,40}\.[0-9]{0,40}|[0-9]{1,40}(/[0-9]{1,40})?")


def rational(value: Any, name: str) -> Fraction:
    """A number of at least 0, written as a decimal without exponent, or as a fraction."""
    try:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return Fraction(value)
    except (ValueError, ZeroDivisionError):
        pass
    raise UnverifiableError(f"{name} must be a number as text, got {shown(value)}.")


def listing(value: Any, name: str, longest: int) -> list[Any]:
    if not isinstance(value, list):
        raise UnverifiableError(f"{name} must be a list, got {shown(value)}.")
    if len(value) > longest:
        raise UnverifiableError(
            f"{name} has {len(value)} entries; at most {longest} can be checked."
        )
    return value


def distinct_texts(value: Any, name: str, longest: int) -> list[str]:
    texts = listing(value, name, longest)
    if not all(isinstance(text, str) for text in texts):
        raise UnverifiableError(f"{name} must hold texts only.")
    if len(set(texts)) != len(texts):
        raise UnverifiableError(f"{name} must not name anything twice.")
    return texts


def text_or_null(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UnverifiableError(f"{name} must be a text or null, got {shown(value)}.")
