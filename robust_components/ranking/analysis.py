"""One ranked list with its bounds for every budget; answers all questions about radii."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from robust_components.ranking import fixed_bounds, quantile_bounds, top_k
from robust_components.ranking.fixed_bounds import UNIT, CopyScores, Integers
from robust_components.ranking.top_k import Bounds
from robust_components.smoothing.mechanism import FixedMechanism
from robust_components.smoothing.random_mask import RandomMask
from robust_components.threats import WordEdits


class Analysis(ABC):
    """What edits can do to one ranked list.

    Attributes:
        score: what the list is ordered by, shape (documents,), in units of 1/``scale``.
        scale: units of score in 1.0.
        margin: in the same units.
        k: size of the top; at most the number of documents.
        order: documents by rank.
    """

    score: Integers
    scale: int
    margin: int
    k: int
    threat: WordEdits
    cap: int

    @abstractmethod
    def bounds(self, words: int) -> Bounds:
        """Bounds for a budget of ``words`` edited words a document."""

    @property
    def each(self) -> Analysis:
        """The analysis claims about single documents rest on."""
        return self

    @cached_property
    def order(self) -> list[int]:
        return top_k.rank_order(self.score)

    @property
    def inside(self) -> list[int]:
        return self.order[: self.k]

    @property
    def outside(self) -> list[int]:
        return self.order[self.k :]

    def set_radius(self, scope: str) -> int:
        """Largest budget for which the top-K set is fixed, up to :attr:`cap`."""
        return self._largest(
            lambda b: top_k.none_enters(b, self.inside, self.outside, self.margin, scope)
        )

    def document_radius(self, document: int, scope: str) -> int:
        """Largest budget for which ``document`` stays on its side of rank K."""
        stays = top_k.stays_in if document in self.inside else top_k.stays_out
        return self._largest(lambda b: stays(b, self.inside, document, self.margin, scope))

    def best_rank(self, document: int, words: int, *, alone: bool) -> int:
        return top_k.best_rank(self.bounds(words), document, self.margin, alone=alone)

    def crq(self, k: int, below_rank: int, words: int, scope: str = "promotion") -> bool:
        """Whether no document ranked below ``below_rank`` can enter the top ``k``."""
        top, rivals = self.order[:k], self.order[below_rank:]
        return top_k.none_enters(self.bounds(words), top, rivals, self.margin, scope)

    def _largest(self, holds: Callable[[Bounds], bool]) -> int:
        """Largest budget for which ``holds``; it can only fail with a larger one."""
        radius = 0
        while radius < self.cap and holds(self.bounds(radius + 1)):
            radius += 1
        return radius


@dataclass
class FixedAnalysis(Analysis):
    """Of a fixed mechanism: everything is exact.

    Args:
        copies: scores of all masked copies.
        mechanism: made the copies.
        threat: kind of edits; its budget plays no part.
        k: size of the top.
        numerical_margin: largest numerical error of one copy's score.
        quantile: ``None`` for the mean, or which quantile of the copies is the score.
    """

    copies: CopyScores
    mechanism: FixedMechanism
    threat: WordEdits
    k: int
    numerical_margin: float
    quantile: float | None = None

    def __post_init__(self) -> None:
        number = self.mechanism.blocks * self.mechanism.partitions
        self.scale = UNIT * (number if self.quantile is None else 1)
        self.margin = 2 * round(self.numerical_margin * self.scale)
        self.cap = self._cap()
        self._known: dict[int, Bounds] = {}
        if self.quantile is None:
            self.score = fixed_bounds.mean_score(self.copies)
        else:
            self.score = quantile_bounds.quantile_score(self.copies, self.quantile)

    def _cap(self) -> int:
        """The least budget that touches every copy; beyond it nothing changes."""
        each = self.mechanism.touched(replace(self.threat, budget=1))
        return -(-self.mechanism.blocks // each)

    def bounds(self, words: int) -> Bounds:
        touched = self.mechanism.touched(replace(self.threat, budget=words))
        if touched not in self._known:
            if self.quantile is None:
                lower = fixed_bounds.mean_lower(self.copies, touched)
                upper = fixed_bounds.mean_upper(self.copies, touched)
            else:
                lower = quantile_bounds.quantile_lower(self.copies, self.quantile, touched)
                upper = quantile_bounds.quantile_upper(self.copies, self.quantile, touched)
            self._known[touched] = Bounds(self.score, self.score, lower, upper)
        return self._known[touched]


@dataclass
class SampledAnalysis(Analysis):
    """Of random masks: scores are estimated, ``low`` and ``high`` are confidence bounds.

    Args:
        estimates: of the selection sample; they order the list. Shape (documents,), in [0, 1].
        lowest, highest: confidence bounds on each document's smoothed score, for one conjunctive
            claim about the list.
        words: number of words of each document.
        side_by_side: the same with bounds wide enough for claims about every document at once.
    """

    estimates: Sequence[float]
    lowest: Sequence[float]
    highest: Sequence[float]
    words: Sequence[int]
    mechanism: RandomMask
    threat: WordEdits
    k: int
    numerical_margin: float

    side_by_side: SampledAnalysis | None = None

    @property
    def each(self) -> SampledAnalysis:
        return self.side_by_side or self

    def __post_init__(self) -> None:
        self.scale = UNIT
        self.margin = 2 * round(self.numerical_margin * UNIT)
        self.score = fixed_bounds.quantise(self.estimates)
        self.cap = max(self.words, default=0)
        self._low = np.floor(np.asarray(self.lowest) * UNIT).astype(np.int64)
        self._high = np.ceil(np.asarray(self.highest) * UNIT).astype(np.int64)

    def bounds(self, words: int) -> Bounds:
        threat = replace(self.threat, budget=words)
        shift = np.array(
            [-((-self.mechanism.delta(count, threat) * UNIT) // 1) for count in self.words],
            dtype=np.int64,
        )
        return Bounds(
            self._low,
            self._high,
            np.maximum(0, self._low - shift),
            np.minimum(UNIT, self._high + shift),
        )
