"""The published RobustMask rule (arXiv 2512.23307), for comparison only: it is not sound.

It compares ranks K and K + 1 alone and certifies R edited words of T when

    g_K - g_{K+1} > alpha * beta * Delta,   alpha = 1 / C(T, k),   Delta = 1 - C(T-R, k) / C(T, k),

with k words visible, beta estimated on the clean document, and no confidence intervals. alpha is
counted twice (Delta is already a share of the C(T, k) masks): with T = 2, k = 1, R = 1 an attacker
adds .5 where the printed bound is .25.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from robust_components.bounds import overlap_probability


@dataclass(frozen=True)
class PublishedRule:
    """The rule for the document at rank K + 1.

    Attributes:
        gap: g_K - g_{K+1}.
        words: T, words of the document at rank K + 1.
        shown: k, words visible in a masked copy.
        betas: estimate of beta for R = 1, 2, ...; in [0, 1].
    """

    gap: float
    words: int
    shown: int
    betas: Sequence[float]

    def increase(self, edits: int) -> float:
        """What the rule takes for the largest increase of the score by ``edits`` words."""
        share = float(overlap_probability(self.words, self.shown, min(edits, self.words)))
        return self.betas[edits - 1] * share / math.comb(self.words, self.shown)

    def radius(self) -> int:
        """Largest R the rule certifies, up to the number of words."""
        edits = 0
        while edits < min(self.words, len(self.betas)) and self.gap > self.increase(edits + 1):
            edits += 1
        return edits
