"""The quantile of the copies' logits as score: for models whose logits have no bounds.

The score is the k-th smallest of all copies' logits. Changing ``t`` copies a partition moves it
past at most ``t * partitions`` others, whatever the new logits are.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from robust_components.ranking.fixed_bounds import CopyScores, Flags, Integers

INFINITE = 2**62
"""Stands for a logit beyond all others; finite ones stay below 10^18."""


def position(copies: int, quantile: Fraction) -> int:
    """Index of the order statistic among ``copies`` sorted logits, from 0."""
    return max(0, math.ceil(quantile * copies) - 1)


def quantile_score(copies: CopyScores, quantile: Fraction) -> Integers:
    """Each document's order statistic, shape (documents,)."""
    return _order_statistic(copies.scores, quantile)


def quantile_upper(copies: CopyScores, quantile: Fraction, touched: int) -> Integers:
    """Largest order statistic after changing ``touched`` copies a partition."""
    return _order_statistic(_replaced(copies, touched, INFINITE), quantile)


def quantile_lower(copies: CopyScores, quantile: Fraction, touched: int) -> Integers:
    """Smallest order statistic after changing ``touched`` copies a partition."""
    return _order_statistic(_replaced(copies, touched, -INFINITE), quantile)


def _replaced(copies: CopyScores, touched: int, value: int) -> Integers:
    """The worst case: the copies that stand in the attacker's way become ``value``."""
    against = copies.scores if value > 0 else -copies.scores
    hidden = np.where(copies.touchable, against, INFINITE)
    order = np.argsort(hidden, axis=2, kind="stable")[:, :, :touched]
    changed = copies.scores.copy()
    chosen: Flags = np.take_along_axis(copies.touchable, order, axis=2)
    kept = np.take_along_axis(changed, order, axis=2)
    np.put_along_axis(changed, order, np.where(chosen, value, kept), axis=2)
    return changed


def _order_statistic(scores: Integers, quantile: Fraction) -> Integers:
    count = scores.shape[1] * scores.shape[2]
    flat = np.sort(scores.reshape(scores.shape[0], count), axis=1)
    return flat[:, position(count, quantile)]
