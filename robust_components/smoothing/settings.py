"""Checks shared by the mechanisms."""

from __future__ import annotations

import operator
import warnings
from typing import Any

from robust_components.checks import positive_integer

MOST_COPIES = 100_000
"""Of a text; no certificate of more can be verified."""
MOST_SAMPLES = 1_000_000


def check_blocks(name: str, value: Any, partitions: Any) -> tuple[int, int]:
    """Copies a partition, and partitions.

    Warns at the line that made the mechanism when there is only one copy a partition.

    Raises:
        ValueError, TypeError: either is no integer of at least 1, or there are too many copies.
    """
    number = positive_integer(name, value, most=MOST_COPIES)
    times = positive_integer("partitions", partitions, most=MOST_COPIES)
    if number * times > MOST_COPIES:
        raise ValueError(
            f"{name} times partitions must be <= {MOST_COPIES}, got {number} times {times}; every "
            f"copy is read by the model: use 5 to 20 {name} and few partitions"
        )
    if number == 1:
        warnings.warn(
            f"{name}=1 shows every word in one copy, so copies certify no edit; use 5 to 20",
            UserWarning,
            stacklevel=4,
        )
    return number, times


def check_seed(seed: Any) -> int:
    try:
        number = operator.index(seed)
    except TypeError:
        number = None
    if number is None or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer, got {seed!r}; use 0")
    return number


def check_mask_token(token: Any) -> None:
    if token is None:
        return
    if not isinstance(token, str) or len(token.split()) != 1 or token.split()[0] != token:
        raise ValueError(
            f"mask_token must be one word without spaces, got {token!r}; use the tokenizer's mask "
            "token, or None to delete hidden words"
        )
