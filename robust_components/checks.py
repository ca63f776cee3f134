"""Checks of settings: every error names the value, the range and the next step."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

_DECIMAL = re.compile(
    r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?|[0-9]{1,30}/[0-9]{1,30}"
)

LONGEST = 10**40
"""Numerators and denominators stay below this, so that a certificate can be checked."""


def positive_integer(name: str, value: Any, minimum: int = 1) -> int:
    """Return ``value`` as an int, or raise naming the value, the range and what to do."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(
            f"{name} must be an integer >= {minimum}, got {value!r}; pass a whole number"
        )
    if number < minimum:
        raise ValueError(
            f"{name} must be >= {minimum}, got {number}; raise it to at least {minimum}"
        )
    return number


def exact_decimal(name: str, value: Any, allowed: str) -> Fraction:
    """A number as it is written: 0.3 and ``"0.3"`` are 3/10, not a binary float.

    ``allowed`` is the range as an error states it, such as ``"in (0, 1]"``; it is not checked here.

    Raises:
        ValueError: ``value`` is no decimal number or fraction of at most 30 digits.
    """
    text = str(value).strip()
    try:
        if isinstance(value, bool) or not _DECIMAL.fullmatch(text):
            raise ValueError
        number = Fraction(text)
        if max(abs(number.numerator), number.denominator) >= LONGEST:
            raise ValueError
        return number
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"{name} must be a number {allowed}, got {value!r}; pass a decimal of at most 30 digits"
        ) from None


@contextmanager
def warnings_at(stacklevel: int) -> Iterator[None]:
    """Repeat the warnings of the block at another line: ``stacklevel`` as if warned in its place.

    For adapters, whose users should see their own line and not one of the adapter.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        # past this generator and contextlib's exit
        warnings.warn(warning.message, warning.category, stacklevel=stacklevel + 2)


def listed(documents: Any, *kinds: type) -> Any:
    """``documents``, if it is a list of these kinds.

    Raises:
        TypeError: it is not.
    """
    wrong = [documents]
    if isinstance(documents, Sequence) and not isinstance(documents, str):
        wrong = [one for one in documents if not isinstance(one, kinds)]
    if wrong:
        raise TypeError(
            f"documents must be a list of Documents, got {type(wrong[0]).__name__}; pass a list "
            "of them"
        )
    return documents
