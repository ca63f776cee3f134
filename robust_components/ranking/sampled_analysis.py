"""The analysis of a list whose smoothed scores are estimated from random masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from robust_components.ranking import fixed_bounds
from robust_components.ranking.analysis import Analysis
from robust_components.ranking.fixed_bounds import UNIT, Integers
from robust_components.ranking.top_k import Bounds
from robust_components.smoothing.random_mask import RandomMask
from robust_components.threats import WordEdits


@dataclass
class SampledAnalysis(Analysis):
    """Of random masks: scores are estimated, ``low`` and ``high`` are confidence bounds.

    Args:
        estimates: means of the selection sample; they order the list. Shape (documents,), in
            [0, 1].
        lowest, highest: confidence bounds on each document's mean over all masks, each wrong with
            probability at most ``level``.
        words: number of words of each document.
        samples: how many samples each document's bounds rest on.
        wins: how many of them scored 1, for Clopper-Pearson bounds; ``None`` for others.
        level: of each single bound.
        bound: ``"betting"`` or ``"clopper_pearson"``.
        side_by_side: the same with bounds for claims about every document at once; this object's
            are for one conjunctive claim about the list.
    """

    estimates: Sequence[float]
    lowest: Sequence[float]
    highest: Sequence[float]
    words: Sequence[int]
    samples: Sequence[int]
    wins: Sequence[int] | None
    level: Fraction
    bound: str
    mechanism: RandomMask
    threat: WordEdits
    k: int
    numerical_margin: float
    side_by_side: SampledAnalysis | None = None

    def __post_init__(self) -> None:
        self.scale = UNIT
        self.margin = 2 * fixed_bounds.margin_units(self.numerical_margin)
        self.score = fixed_bounds.quantise(self.estimates)
        self.saturation = max(1, *self.words) if self.words else 1
        # One unit more than rounding outwards makes up for the last digits of the bounds.
        low = np.floor(np.asarray(self.lowest, dtype=np.float64) * UNIT).astype(np.int64) - 1
        high = np.ceil(np.asarray(self.highest, dtype=np.float64) * UNIT).astype(np.int64) + 1
        self._low: Integers = np.maximum(0, low)
        self._high: Integers = np.maximum(self._low, np.minimum(UNIT, high))
        self._lengths, self._of_length = np.unique(
            np.asarray(self.words, dtype=np.int64), return_inverse=True
        )
        self._known: dict[int, Bounds] = {}

    @property
    def each(self) -> SampledAnalysis:
        return self.side_by_side or self

    def bounds(self, words: int) -> Bounds:
        if words not in self._known:
            threat = WordEdits(words, self.threat.operations)
            shifts = [
                -((-self.mechanism.delta(int(count), threat) * UNIT) // 1)
                for count in self._lengths
            ]
            shift = np.asarray(shifts, dtype=np.int64)[self._of_length]
            self._known[words] = Bounds(
                self._low,
                self._high,
                np.maximum(0, self._low - shift),
                np.minimum(UNIT, self._high + shift),
            )
        return self._known[words]
