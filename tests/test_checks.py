"""Settings are read exactly, and refused by name."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np
import pytest

from robust_components.checks import exact_decimal, positive_integer


@pytest.mark.parametrize(
    ("value", "exact"),
    [
        (0.3, Fraction(3, 10)),
        ("0.30", Fraction(3, 10)),
        ("3/10", Fraction(3, 10)),
        (Fraction(1, 3), Fraction(1, 3)),
        (np.float64(0.14), Fraction(14, 100)),
        (1e-06, Fraction(1, 10**6)),
        (" 1 ", Fraction(1)),
        (-2, Fraction(-2)),
        (".5", Fraction(1, 2)),
    ],
)
def test_decimals_are_exact(value, exact):
    assert exact_decimal("alpha", value, "> 0") == exact


@pytest.mark.parametrize(
    "value",
    [True, None, "", "much", float("nan"), float("inf"), "1/0", "1e999999999", "9" * 31, "1e-99"],
)
def test_what_is_no_decimal_is_refused_at_once(value):
    began = time.monotonic()
    with pytest.raises(ValueError, match="alpha must be a number in"):
        exact_decimal("alpha", value, "in (0, 1]")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("value", [1.0, "1", None, True])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="budget must be an integer >= 1"):
        positive_integer("budget", value)


def test_integers_have_a_minimum():
    assert positive_integer("budget", np.int64(3)) == 3
    assert positive_integer("retries", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="budget must be >= 1, got 0"):
        positive_integer("budget", 0)
