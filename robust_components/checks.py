"""Checks of settings: every error names the value, the range and the next step."""

from __future__ import annotations

import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from numbers import Real
from typing import Any

_DECIMAL = re.compile(
    r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?|[0-9]{1,30}/[0-9]{1,30}"
)

LONGEST = 10**40
"""Numerators and denominators stay below this, so that a certificate can be checked."""


LARGEST = 10**9
"""Of budgets and the like."""
SMALLEST_ALPHA = 1e-15
"""With less the confidence, a float, would be 1."""


def positive_integer(name: str, value: Any, minimum: int = 1, most: int | None = None) -> int:
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
            f"{name} must be >= {minimum}, got {_shown(number)}; raise it to at least {minimum}"
        )
    if most is not None and number > most:
        raise ValueError(
            f"{name} must be <= {most}, got {_shown(number)}; lower it to at most {most}"
        )
    return number


def _shown(number: int) -> str:
    bits = number.bit_length()
    return str(number) if bits < 200 else f"about {'-' if number < 0 else ''}2^{bits}"


def check_number(name: str, value: Any, low: float, high: float, hint: str) -> float:
    """A real number in the open interval (low, high)."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low < number < high:
        allowed = f"in ({low:g}, {high:g})" if math.isfinite(high) else f"more than {low:g}"
        got = _shown(value) if isinstance(value, int) else repr(value)
        raise ValueError(f"{name} must be {allowed}, got {got}; {hint}")
    return number


def real(name: str, value: Any, inside: Callable[[float], bool], allowed: str, hint: str) -> float:
    """A real number, as a float, for which ``inside`` holds; ``allowed`` says that in words."""
    try:
        number = (
            float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        )
    except OverflowError:
        number = math.nan
    if not inside(number):
        raise ValueError(f"{name} must be {allowed}, got {value!r}; {hint}")
    return number


def check_alpha(value: Any) -> float:
    """1 - confidence, in (0, 1), and large enough that the confidence is not 1."""
    alpha = check_number("alpha", value, 0.0, 1.0, "0.05 gives confidence 95 %")
    if alpha < SMALLEST_ALPHA:
        raise ValueError(f"alpha must be at least {SMALLEST_ALPHA:g}, got {value!r}; try 0.001")
    return alpha


def check_margin(value: Any) -> float:
    """The numerical margin, in [0, 0.5)."""
    if not isinstance(value, bool) and value == 0:
        return 0.0
    return check_number("numerical_margin", value, 0.0, 0.5, "try 1e-5, or 0 for exact models")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """One of the words in ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")
    return value


def no_class(name: str, value: Any) -> None:
    """Raise where a class is given in the place of an object."""
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be an object, got the class {value.__name__}; pass {value.__name__}(..)"
        )


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
