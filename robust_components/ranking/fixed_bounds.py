"""What an attacker with a word budget can do to a smoothed score: exact integers, no model.

Scores are integers in units of 1/:data:`UNIT`, so that sums are exact and everybody who recomputes
a bound gets the same number. For R touched copies a partition (theory page, section 1)

    U(R) = mean over partitions of [sum f - (the R smallest f) + R] / blocks,
    L(R) = mean over partitions of [sum f - (the R largest f)] / blocks,

where copies that no edit can change (blocks without words) are left out of the R. Both bounds are
attained when there is one partition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 10**9

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class CopyScores:
    """Scores of all copies of all documents.

    Attributes:
        scores: int64 of shape (documents, partitions, blocks), in 0..UNIT.
        touchable: bool of the same shape; False where no edit can change the copy.
    """

    scores: Integers
    touchable: NDArray[np.bool_]

    @property
    def total(self) -> int:
        """The largest possible sum of one document's copies."""
        return int(self.scores.shape[1] * self.scores.shape[2] * UNIT)

    def __len__(self) -> int:
        return int(self.scores.shape[0])


def quantise(values: ArrayLike) -> Integers:
    """Scores in [0, 1] as integers in units of 1/UNIT; the rounded score is the deployed one."""
    return np.rint(np.asarray(values, dtype=np.float64) * UNIT).astype(np.int64)


def mean_score(copies: CopyScores) -> Integers:
    """Sum over all copies of each document, shape (documents,): the mean times ``total/UNIT``."""
    total: Integers = copies.scores.sum(axis=(1, 2))
    return total


def mean_upper(copies: CopyScores, touched: int) -> Integers:
    """Largest sum after any change of ``touched`` copies a partition, shape (documents,)."""
    gain = np.where(copies.touchable, UNIT - copies.scores, 0)
    return mean_score(copies) + _largest(gain, touched)


def mean_lower(copies: CopyScores, touched: int) -> Integers:
    """Smallest sum after any change of ``touched`` copies a partition, shape (documents,)."""
    return mean_score(copies) - _largest(np.where(copies.touchable, copies.scores, 0), touched)


def _largest(change: Integers, touched: int) -> Integers:
    """Sum of the ``touched`` largest changes of each partition, over partitions."""
    if touched <= 0:
        return np.zeros(change.shape[0], dtype=np.int64)
    ordered = np.sort(change, axis=2)[:, :, ::-1]
    total: Integers = ordered[:, :, :touched].sum(axis=(1, 2))
    return total
