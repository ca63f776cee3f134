"""Samples random masks where the decision is open (LUCB), and bounds every smoothed score.

The top K are chosen from a selection sample of their own; bounds come from other samples
(:func:`robust_components.bounds.betting_lower`, valid at every stopping time, so samples may go
where they help). For the one conjunctive claim about the set each bound has level alpha / 2: were
the claim false for some pair, one of its two bounds would have to be wrong (intersection-union
test). Claims about single documents stand side by side: level alpha / (2 N) each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robust_components.bounds import (
    betting_lower,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from robust_components.ranking.analysis import SampledAnalysis
from robust_components.ranking.scoring import Scoring
from robust_components.ranking.top_k import rank_order
from robust_components.smoothing.random_mask import RandomMask
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class Plan:
    """How samples are spent.

    Attributes:
        selection: samples a document to choose the top K from.
        first: samples a document before any decision.
        batch: samples added to each of two documents at a time.
        adaptive: spend them where the decision is open; otherwise every document gets all.
        bound: ``"betting"``, or ``"clopper_pearson"`` for scores that are 0 or 1 (not adaptive).
        passes: most model passes, or ``None``.
        seconds: most seconds, or ``None``.
    """

    selection: int = 16
    first: int = 16
    batch: int = 32
    adaptive: bool = True
    bound: str = "betting"
    passes: int | None = None
    seconds: float | None = None


class Sampler:
    """Draws masked copies of every document and keeps their scores."""

    def __init__(
        self,
        mechanism: RandomMask,
        scoring: Scoring,
        query: str,
        words: Sequence[tuple[str, ...]],
        plan: Plan,
    ) -> None:
        self.mechanism = mechanism
        self.scoring = scoring
        self.query = query
        self.words = words
        self.plan = plan
        self.generator = mechanism.generator()
        self.estimates: list[float] = []
        self.samples: list[list[float]] = [[] for _ in words]
        self.cut: set[int] = set()
        self.drawn = 0
        self.stopped = "every document has all its samples"

    def _draw(self, document: int, number: int) -> list[float]:
        copies = self.mechanism.sample(self.words[document], number, self.generator)
        self.drawn += len(copies)
        texts = [copy.text for copy in copies]
        scores = self.scoring.score(self.query, texts)
        if self.scoring.cut(texts):
            self.cut.add(document)
        return [float(score) for score in scores]

    def _extend(self, document: int, number: int) -> int:
        room = self.mechanism.samples - len(self.samples[document])
        number = min(number, room)
        if number > 0:
            self.samples[document].extend(self._draw(document, number))
        return max(0, number)

    def run(
        self, threat: WordEdits, k: int, scope: str, margin: float, alpha: float, began: float
    ) -> SampledAnalysis:
        """Sample until the claim for ``threat`` is decided or a budget ends; then bound."""
        plan = self.plan
        everybody = range(len(self.words))
        self.estimates = [
            float(np.mean(self._draw(document, plan.selection))) for document in everybody
        ]
        for document in everybody:
            self._extend(document, plan.first if plan.adaptive else self.mechanism.samples)
        if plan.adaptive:
            self._allocate(threat, k, scope, margin, alpha, began)

        def analysis(level: float) -> SampledAnalysis:
            bounds = [self._bounds(samples, level) for samples in self.samples]
            return SampledAnalysis(
                estimates=self.estimates,
                lowest=[low for low, _ in bounds],
                highest=[high for _, high in bounds],
                words=[len(one) for one in self.words],
                mechanism=self.mechanism,
                threat=threat,
                k=k,
                numerical_margin=margin,
            )

        whole = analysis(alpha / 2)
        whole.side_by_side = analysis(alpha / (2 * max(1, len(self.words))))
        return whole

    def _allocate(
        self, threat: WordEdits, k: int, scope: str, margin: float, alpha: float, began: float
    ) -> None:
        order = rank_order(np.round(np.array(self.estimates) * 1e9).astype(np.int64))
        inside, outside = order[:k], order[k:]
        if not inside or not outside:
            self.stopped = "nothing to decide"
            return
        shift = [float(self.mechanism.delta(len(one), threat)) for one in self.words]
        fall = np.array([0.0 if scope == "promotion" else s for s in shift])
        rise = np.array([0.0 if scope == "demotion" else s for s in shift])
        bounds = [self._bounds(samples, alpha / 2) for samples in self.samples]
        while True:
            low: NDArray[np.float64] = np.array([b[0] for b in bounds]) - fall
            high: NDArray[np.float64] = np.array([b[1] for b in bounds]) + rise
            weakest = min(inside, key=lambda i: low[i])
            strongest = max(outside, key=lambda j: high[j])
            if low[weakest] > high[strongest] + 2 * margin:
                self.stopped = "certified"
                return
            if self._refuted(bounds, inside, outside, fall, rise):
                self.stopped = "refuted"
                return
            if self._spent(began):
                self.stopped = "budget spent"
                return
            added = 0
            for document in (weakest, strongest):
                added += self._extend(document, self.plan.batch)
                bounds[document] = self._bounds(self.samples[document], alpha / 2)
            if not added:
                self.stopped = "the open documents have all their samples"
                return

    @staticmethod
    def _refuted(
        bounds: Sequence[tuple[float, float]],
        inside: Sequence[int],
        outside: Sequence[int],
        fall: NDArray[np.float64],
        rise: NDArray[np.float64],
    ) -> bool:
        """Whether more samples would most likely not help."""
        most = min(bounds[i][1] - fall[i] for i in inside)
        least = max(bounds[j][0] + rise[j] for j in outside)
        return bool(most <= least)

    def _spent(self, began: float) -> bool:
        passes, seconds = self.plan.passes, self.plan.seconds
        return (passes is not None and self.scoring.passes >= passes) or (
            seconds is not None and time.monotonic() - began >= seconds
        )

    def _bounds(self, samples: Sequence[float], level: float) -> tuple[float, float]:
        if self.plan.bound == "betting":
            return betting_lower(samples, level), betting_upper(samples, level)
        if not set(samples) <= {0.0, 1.0}:
            raise ValueError(
                "bound='clopper_pearson' needs scores that are 0 or 1, got others; use "
                "bound='betting'"
            )
        wins, trials = int(sum(samples)), len(samples)
        lower: Callable[[int, int, float], float] = clopper_pearson_lower
        return lower(wins, trials, level), clopper_pearson_upper(wins, trials, level)
