"""What an attacker with a word budget can do to a smoothed score: exact integers, no model.

Scores are integers in units of 1/:data:`UNIT`, so that sums are exact and everybody who recomputes
a bound gets the same number. For R touched copies a partition (theory page, section 1)

    U(R) = mean over partitions of [sum f - (the R smallest f) + R] / blocks,
    L(R) = mean over partitions of [sum f - (the R largest f)] / blocks,

where copies that no edit can change (blocks without words) are left out of the R. Both bounds are
attained when there is one partition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 10**9

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class CopyScores:
    """Scores of all copies of all documents.

    Attributes:
        scores: int64 of shape (documents, partitions, blocks); in 0..UNIT for means.
        touchable: bool of the same shape; False where no edit can change the copy.
    """

    scores: Integers
    touchable: Flags

    def __len__(self) -> int:
        return int(self.scores.shape[0])


def quantise(values: ArrayLike) -> Integers:
    """Scores as integers in units of 1/UNIT; the rounded score is the deployed one."""
    return np.rint(np.asarray(values, dtype=np.float64) * UNIT).astype(np.int64)


def margin_units(numerical_margin: float) -> int:
    """Most by which two quantised scores of one text differ if the scores differ by the margin.

    One unit more than the margin, for rounding; 0 for a margin of 0.
    """
    units = Fraction(str(numerical_margin)) * UNIT
    return math.ceil(units) + 1 if units else 0


def mean_score(copies: CopyScores) -> Integers:
    """Sum over all copies of each document, shape (documents,): the mean times their number."""
    total: Integers = copies.scores.sum(axis=(1, 2))
    return total


def gains(copies: CopyScores) -> Integers:
    """Largest rise of the sum when 0, 1, .. copies of each partition change.

    Shape (documents, blocks + 1).
    """
    return _cumulated(np.where(copies.touchable, UNIT - copies.scores, 0))


def losses(copies: CopyScores) -> Integers:
    """Largest fall of the sum when 0, 1, .. copies of each partition change.

    Shape (documents, blocks + 1).
    """
    return _cumulated(np.where(copies.touchable, copies.scores, 0))


def _cumulated(change: Integers) -> Integers:
    """Sums of the 0, 1, .. largest changes of each partition, added over partitions."""
    ordered = np.sort(change, axis=2)[:, :, ::-1].sum(axis=1)
    total = np.zeros((change.shape[0], change.shape[2] + 1), dtype=np.int64)
    np.cumsum(ordered, axis=1, out=total[:, 1:])
    return total
