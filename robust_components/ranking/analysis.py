"""One ranked list with its bounds for every budget; answers all questions about radii."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from robust_components.ranking import fixed_bounds, quantile_bounds, top_k
from robust_components.ranking.fixed_bounds import UNIT, CopyScores, Flags, Integers
from robust_components.ranking.top_k import Bounds
from robust_components.smoothing.mechanism import FixedMechanism
from robust_components.smoothing.term_coverage import Coverage
from robust_components.threats import WordEdits


class Analysis(ABC):
    """What edits can do to one ranked list.

    Attributes:
        score: what the list is ordered by, shape (documents,), in units of 1/``scale``.
        scale: units of score in 1.0.
        margin: most by which two scores of one text may differ, twice, in the same units.
        k: size of the top; at most the number of documents.
        threat: kind and budget of the edits.
        saturation: a budget beyond which further edits change no bound; at least 1.
    """

    score: Integers
    scale: int
    margin: int
    k: int
    threat: WordEdits
    saturation: int

    @abstractmethod
    def bounds(self, words: int) -> Bounds:
        """Bounds for a budget of ``words`` edited words a document."""

    @property
    def each(self) -> Analysis:
        """The analysis that claims about single documents rest on."""
        return self

    @property
    def cap(self) -> int:
        """The radius of what no number of edits can change; larger than all other radii."""
        return max(self.saturation, self.threat.budget)

    @cached_property
    def order(self) -> list[int]:
        """Documents by rank."""
        return top_k.rank_order(self.score)

    @property
    def inside(self) -> list[int]:
        return self.order[: self.k]

    @property
    def outside(self) -> list[int]:
        return self.order[self.k :]

    @cached_property
    def in_top(self) -> Flags:
        return top_k.members(len(self.score), self.inside)

    def set_radius(self, scope: str) -> int:
        """Largest budget for which the top-K set is fixed; :attr:`cap` for any number of edits."""
        top, rest = self.inside, self.outside
        if not top:
            return 0

        def fixed(bounds: Bounds) -> Flags:
            held = top_k.none_enters(bounds, top, rest, self.margin, scope)
            return np.array([held], dtype=bool)

        return int(self._largest(fixed, 1)[0])

    def radii(self, scope: str) -> Integers:
        """For each document, the largest budget for which it stays on its side of rank K."""
        if scope not in self._radii:
            self._radii[scope] = self._largest(
                lambda bounds: top_k.stays(bounds, self.in_top, self.margin, scope), len(self.score)
            )
        return self._radii[scope]

    @cached_property
    def _radii(self) -> dict[str, Integers]:
        return {}

    def document_radius(self, document: int, scope: str) -> int:
        """:meth:`radii` of one document."""
        return int(self.radii(scope)[document])

    def best_rank(self, document: int, words: int, *, alone: bool) -> int:
        """:meth:`best_ranks` of one document."""
        return int(self.best_ranks(words, alone=alone)[document])

    def best_ranks(self, words: int, *, alone: bool) -> Integers:
        """For each document, the best rank it can reach; see :func:`top_k.best_ranks`."""
        return top_k.best_ranks(self.bounds(words), self.margin, alone=alone)

    def crq(self, k: int, below_rank: int, words: int, scope: str = "promotion") -> bool:
        """Whether no document ranked below ``below_rank`` can enter the top ``k``."""
        top, rivals = self.order[:k], self.order[below_rank:]
        return top_k.none_enters(self.bounds(words), top, rivals, self.margin, scope)

    def _largest(self, holds: Callable[[Bounds], Flags], count: int) -> Integers:
        """For each of ``count`` claims the largest budget for which it holds, by bisection.

        Bounds for a larger budget are wider, so a claim that fails once fails from there on.
        """
        radius: Integers = np.zeros(count, dtype=np.int64)
        open_ones = [(np.arange(count), 0, self.saturation + 1)]
        while open_ones:
            claims, low, high = open_ones.pop()
            if high - low == 1:
                radius[claims] = low if low < self.saturation else self.cap
            elif claims.size:
                middle = min(2 * low + 1, (low + high) // 2)
                held = holds(self.bounds(middle))[claims]
                open_ones.append((claims[held], middle, high))
                open_ones.append((claims[~held], low, middle))
        return radius


@dataclass
class FixedAnalysis(Analysis):
    """Of a fixed mechanism: everything is exact.

    Args:
        copies: scores of all masked copies.
        words: number of words of each document.
        mechanism: made the copies.
        threat: kind of edits; its budget decides nothing but :attr:`cap`.
        k: size of the top.
        numerical_margin: most by which two scores of one text differ.
        quantile: ``None`` for the mean, or which quantile of the copies is the score.
        coverage: ``None``, or the query's words in each document, which then make up their share
            of the score beside the mean.
    """

    copies: CopyScores
    words: Sequence[int]
    mechanism: FixedMechanism
    threat: WordEdits
    k: int
    numerical_margin: float
    quantile: Fraction | None = None
    coverage: Coverage | None = None

    def __post_init__(self) -> None:
        number = 1
        if self.quantile is None:
            number = self.mechanism.blocks * self.mechanism.partitions
            self.score = fixed_bounds.mean_score(self.copies)
        else:
            self.score = quantile_bounds.quantile_score(self.copies, self.quantile)
        self.scale = UNIT * number
        self.margin = 2 * number * fixed_bounds.margin_units(self.numerical_margin)
        each = self.mechanism.touched(replace(self.threat, budget=1))
        self.saturation = -(-self.mechanism.blocks // each)
        self._known: dict[int, Bounds] = {}
        self._number = number
        if self.coverage is not None:
            share = self.coverage.share
            self.score = self.coverage.mixed(self.score, self.coverage.score(), number)
            self.scale *= share.denominator
            self.margin *= share.denominator - share.numerator
            self.saturation = max(self.saturation, self.coverage.terms)

    @cached_property
    def _gains(self) -> Integers:
        return fixed_bounds.gains(self.copies)

    @cached_property
    def _losses(self) -> Integers:
        return fixed_bounds.losses(self.copies)

    def bounds(self, words: int) -> Bounds:
        touched = self.mechanism.touched(replace(self.threat, budget=words))
        edits = touched if self.coverage is None else words
        if edits not in self._known:
            if self.quantile is None:
                fall, rise = self._losses[:, touched], self._gains[:, touched]
                if self.coverage is not None:
                    most = self.words if self.threat.operations == "substitute" else None
                    fall = self.coverage.mixed(fall, self.coverage.loss(words), self._number)
                    rise = self.coverage.mixed(rise, self.coverage.gain(words, most), self._number)
                lower, upper = self.score - fall, self.score + rise
            else:
                lower = quantile_bounds.quantile_lower(self.copies, self.quantile, touched)
                upper = quantile_bounds.quantile_upper(self.copies, self.quantile, touched)
            self._known[edits] = Bounds(self.score, self.score, lower, upper)
        return self._known[edits]
