"""The published RobustMask rule (arXiv 2512.23307), for comparison only: it is not sound.

It compares ranks K and K + 1 alone and certifies R edited words of T when (section 4.2, eq. 18)

    g_K - g_{K+1} > alpha * beta * Delta,   alpha = 1 / C(T, k),   Delta = 1 - C(T-R, k) / C(T, k),

with k words visible, beta the mean score of the masked copies that see an edited word, estimated
on the clean document (section 4.3, algorithm 1), and no confidence intervals. alpha is counted
twice (Delta is already a share of the C(T, k) masks): with T = 2, k = 1, R = 1 an attacker adds .5
where the printed bound is .25. Other documents, which may be shorter, are not looked at.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from robust_components.bounds import overlap_probability
from robust_components.ranking.analysis import Analysis
from robust_components.ranking.fixed_bounds import UNIT, Integers, quantise
from robust_components.ranking.top_k import Bounds
from robust_components.smoothing.mechanism import MaskedCopy
from robust_components.threats import WordEdits

POSITION_SETS = 100
"""Sets of edited positions to average beta over; n_r of algorithm 1."""
LARGEST = 100
"""Budgets beyond this and the threat's are not tried."""


@dataclass(frozen=True)
class PublishedRule:
    """The rule, applied to the document at rank K + 1. Scores are in units of 1/UNIT.

    Attributes:
        gap: g_K - g_{K+1}.
        words: T, words of the document at rank K + 1.
        shown: k, words visible in a masked copy.
        betas: beta for R = 1, 2, .., up to the first R that is not certified or the limit.
        radius: largest R the rule certifies, up to the limit.
    """

    gap: int
    words: int
    shown: int
    betas: tuple[int, ...]
    radius: int


def increase(words: int, shown: int, edits: int, beta: int) -> Fraction:
    """alpha * beta * Delta: what the rule takes for the largest gain by ``edits`` words."""
    if words == 0:
        return Fraction(0)
    share = overlap_probability(words, shown, min(edits, words))
    return beta * share / math.comb(words, shown)


def apply_rule(gap: int, words: int, shown: int, betas: Iterable[int], limit: int) -> PublishedRule:
    """Try R = 1, 2, .. up to ``limit`` (algorithm 2); ``betas`` are for these R."""
    used: list[int] = []
    for beta in itertools.islice(betas, limit):
        used.append(beta)
        if not gap > increase(words, shown, len(used), beta):
            return PublishedRule(gap, words, shown, tuple(used), len(used) - 1)
    return PublishedRule(gap, words, shown, tuple(used), limit)


def estimated_betas(
    copies: Sequence[MaskedCopy],
    scores: NDArray[np.float64],
    words: int,
    generator: random.Random,
) -> Iterator[int]:
    """Algorithm 1, for R = 1, 2, ..: the mean score of the copies that see R random positions.

    The mean is taken for each of :data:`POSITION_SETS` sets of positions, which grow with R, then
    over the sets. Sets that no copy sees are left out; beta is 1 when none is left. From R = T on
    it stays what it is.
    """
    seen = np.zeros((max(1, words), len(copies)), dtype=bool)
    for column, copy in enumerate(copies):
        seen[list(copy.visible), column] = True
    orders = [generator.sample(range(words), words) for _ in range(POSITION_SETS)]
    hit = np.zeros((POSITION_SETS, len(copies)), dtype=bool)
    edits = 0
    while True:
        if edits < words:
            hit |= seen[[order[edits] for order in orders]]
            edits += 1
        count = hit.sum(axis=1)
        means = (hit @ scores)[count > 0] / count[count > 0]
        yield round(UNIT * float(means.mean())) if means.size else UNIT


@dataclass
class PublishedAnalysis(Analysis):
    """A list ranked by sample means, with the published rule and no bound that is proved.

    Args:
        estimates: sample means, shape (documents,), in [0, 1].
        words: number of words of each document.
        threat: kind and budget of the edits.
        k: size of the top.
        rule: ``None`` when no document is outside the top K.
    """

    estimates: Sequence[float]
    words: Sequence[int]
    threat: WordEdits
    k: int
    rule: PublishedRule | None = None
    scale: int = field(default=UNIT, init=False)
    margin: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.score = quantise(self.estimates)
        self.saturation = max(1, *self.words) if self.words else 1

    def bounds(self, words: int) -> Bounds:
        """Nothing is known about any score."""
        least: Integers = np.zeros_like(self.score)
        most: Integers = np.full_like(self.score, UNIT)
        return Bounds(least, most, least, most)

    def limit(self) -> int:
        """The largest budget the rule is tried for."""
        return max(self.threat.budget, LARGEST)

    def set_radius(self, scope: str) -> int:
        """What the rule certifies; it knows no scope but promotion."""
        if not self.k:
            return 0
        return self.limit() if self.rule is None else self.rule.radius
