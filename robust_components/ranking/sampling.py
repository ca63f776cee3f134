"""Samples random masks where the decision is open (LUCB), and bounds every smoothed score.

The top K are chosen from a selection sample of their own; bounds come from other samples
(:func:`robust_components.bounds.betting_lower`, valid at every stopping time, so samples may go
where they help). For the one conjunctive claim about the set each bound has level alpha / 2: were
the claim false for some pair, one of its two bounds would have to be wrong (intersection-union
test). Claims about single documents stand side by side: level alpha / (2 N) each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from robust_components.bounds import (
    betting_lower_rows,
    clopper_pearson_lower,
    clopper_pearson_upper,
)
from robust_components.ranking.fixed_bounds import quantise
from robust_components.ranking.sampled_analysis import SampledAnalysis
from robust_components.ranking.scoring import Scoring
from robust_components.ranking.top_k import rank_order
from robust_components.smoothing.mechanism import MaskedCopy
from robust_components.smoothing.random_mask import RandomMask
from robust_components.threats import WordEdits

CHARACTERS_A_CALL = 20_000_000
"""Masked copies are scored before more text than this has piled up."""
SLACK = 2e-8
"""More than what rounding bounds outwards to units of 1e-9 can cost."""


@dataclass(frozen=True)
class Plan:
    """How samples are spent.

    Attributes:
        selection: samples a document to choose the top K from.
        first: samples a document before any decision.
        batch: samples added at a time.
        adaptive: spend them where the decision is open; otherwise every document gets as many.
        bound: ``"betting"``, or ``"clopper_pearson"`` for scores that are 0 or 1 (not adaptive).
        passes: most model passes, or ``None``.
        seconds: most seconds, or ``None``; looked at between calls of the model.
    """

    selection: int = 16
    first: int = 16
    batch: int = 32
    adaptive: bool = True
    bound: str = "betting"
    passes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Question:
    """What the samples are to decide.

    Attributes:
        threat, k, scope, margin: of the claim about the top-K set.
        alpha: its level.
        documents: whether the same is wanted of single documents, side by side: sampling then goes
            on until it is decided at their level too.
    """

    threat: WordEdits
    k: int
    scope: str
    margin: float
    alpha: float
    documents: bool = True


class Sampler:
    """Draws masked copies of every document and keeps their scores.

    Args:
        mechanism: draws the masks.
        scoring: scores the copies and counts passes, of which some may be spent already.
        query: the query.
        words: the words of each document.
        plan: how samples are spent.
        began: ``time.monotonic()`` when the query came in.
    """

    def __init__(
        self,
        mechanism: RandomMask,
        scoring: Scoring,
        query: str,
        words: Sequence[tuple[str, ...]],
        plan: Plan,
        began: float,
    ) -> None:
        self.mechanism = mechanism
        self.scoring = scoring
        self.query = query
        self.words = words
        self.plan = plan
        self.began = began
        self.generator = mechanism.generator()
        self.selected: list[list[float]] = [[] for _ in words]
        self.samples: list[list[float]] = [[] for _ in words]
        self.cut: set[int] = set()
        self.drawn = 0
        self.stopped = "every document has all its samples"

    def run(self, question: Question) -> SampledAnalysis:
        """Sample until the claim is decided or a budget ends; then bound."""
        self._select()
        self._fill(self.plan.first if self.plan.adaptive else self.mechanism.samples)
        alpha = Fraction(str(question.alpha))
        levels = (alpha / 2, alpha / (2 * max(1, len(self.words))))
        if self.plan.adaptive:
            self.stopped = self._allocate(question, float(levels[0]))
            if self.stopped == "certified" and question.documents:
                stopped = self._allocate(question, float(levels[1]))
                if stopped != self.stopped:
                    self.stopped += f"; single documents: {stopped}"
        elif min(map(len, self.samples), default=0) < self.mechanism.samples and self.words:
            self.stopped = "budget spent"
        whole = self._analysis(question, levels[0])
        whole.side_by_side = self._analysis(question, levels[1])
        return whole

    def means(self) -> list[float]:
        """Mean of each document's samples, all of them drawn; for the published rule."""
        self._fill(self.mechanism.samples)
        return [float(np.mean(samples)) for samples in self.samples]

    def fresh(self, document: int) -> tuple[list[MaskedCopy], NDArray[np.float64]]:
        """New masked copies of one document, with their scores; for the published rule."""
        copies = self.mechanism.sample(self.words[document], self.mechanism.samples, self.generator)
        self.drawn += len(copies)
        return copies, self.scoring.score(self.query, [copy.text for copy in copies])

    def _select(self) -> None:
        """The selection sample: one of each document at least, and at most half of a budget."""
        everybody, selection = range(len(self.words)), self.plan.selection
        if self.plan.passes is not None and self.words:
            room = self.plan.passes - self.scoring.passes
            selection = max(1, min(selection, room // (2 * len(self.words))))
        self._draw(self.selected, dict.fromkeys(everybody, 1))
        step = 3 if self.plan.seconds is not None else selection - 1
        for start in range(1, selection, max(1, step)):
            if self._late(0.5):
                return
            number = min(step, selection - start)
            self._draw(self.selected, dict.fromkeys(everybody, number))

    def _fill(self, number: int) -> None:
        """Draw ``number`` samples of every document, fewer if a budget ends."""
        if self.plan.passes is not None and self.words:
            room = self.plan.passes - self.scoring.passes
            number = min(number, room // len(self.words))
        step = number if self.plan.seconds is None else 4
        for start in range(0, number, max(1, step)):
            if self._late():
                return
            more = min(step, number - start)
            self._draw(self.samples, dict.fromkeys(range(len(self.words)), more))

    def _draw(self, into: list[list[float]], wanted: Mapping[int, int]) -> None:
        """Score ``wanted[document]`` new masked copies of each."""
        pending: list[tuple[int, str]] = []
        size = 0
        for document, number in wanted.items():
            for _ in range(number):
                (copy,) = self.mechanism.sample(self.words[document], 1, self.generator)
                pending.append((document, copy.text))
                size += len(copy.text)
                if size > CHARACTERS_A_CALL:
                    self._score(into, pending)
                    pending, size = [], 0
        self._score(into, pending)

    def _score(self, into: list[list[float]], pending: Sequence[tuple[int, str]]) -> None:
        self.drawn += len(pending)
        scores = self.scoring.score(self.query, [text for _, text in pending])
        for (document, text), score in zip(pending, scores, strict=True):
            into[document].append(float(score))
            if self.scoring.cut([text]):
                self.cut.add(document)

    def _late(self, share: float = 1.0) -> bool:
        limit = self.plan.seconds
        return limit is not None and time.monotonic() - self.began >= share * limit

    def _allocate(self, question: Question, level: float) -> str:
        """LUCB: sample the weakest document of the top K and the strongest outside it.

        Returns:
            Why it stopped.
        """
        order = rank_order(quantise(self._estimates()))
        inside, outside = order[: question.k], order[question.k :]
        if not inside or not outside:
            return "nothing to decide"
        bounds = self._bounds(range(len(self.words)), level)
        shift = np.array(
            [float(self.mechanism.delta(len(one), question.threat)) for one in self.words]
        )
        fall = shift[inside] * (question.scope != "promotion")
        rise = shift[outside] * (question.scope != "demotion")
        while True:
            low, high = bounds[inside, 0] - fall, bounds[outside, 1] + rise
            if low.min() > high.max() + 2 * question.margin + SLACK:
                return "certified"
            if (bounds[inside, 1] - fall).min() <= (bounds[outside, 0] + rise).max():
                return "refuted"
            pair = (inside[int(low.argmin())], outside[int(high.argmax())])
            wanted = self._wanted(pair)
            if not wanted:
                return "the open documents have all their samples"
            if self._late() or sum(wanted.values()) > self._room():
                return "budget spent"
            self._draw(self.samples, wanted)
            bounds[list(wanted)] = self._bounds(list(wanted), level)

    def _wanted(self, documents: Sequence[int]) -> dict[int, int]:
        """How many samples to add to each; fewer when the passes run out."""
        batch = min(self.plan.batch, max(1, self._room() // len(documents)))
        left = {one: self.mechanism.samples - len(self.samples[one]) for one in documents}
        return {one: min(batch, number) for one, number in left.items() if number > 0}

    def _room(self) -> int:
        if self.plan.passes is None:
            return 2**31
        return self.plan.passes - self.scoring.passes

    def _estimates(self) -> list[float]:
        return [float(np.mean(samples)) for samples in self.selected]

    def _analysis(self, question: Question, level: Fraction) -> SampledAnalysis:
        bounds = self._bounds(range(len(self.words)), float(level))
        binary = self.plan.bound == "clopper_pearson"
        return SampledAnalysis(
            estimates=self._estimates(),
            lowest=bounds[:, 0].tolist(),
            highest=bounds[:, 1].tolist(),
            words=[len(one) for one in self.words],
            samples=[len(one) for one in self.samples],
            wins=[int(sum(one)) for one in self.samples] if binary else None,
            level=level,
            bound=self.plan.bound,
            mechanism=self.mechanism,
            threat=question.threat,
            k=question.k,
            numerical_margin=question.margin,
        )

    def _bounds(self, documents: Sequence[int], level: float) -> NDArray[np.float64]:
        """Lower and upper bounds of ``documents``, shape (documents, 2), each at ``level``."""
        bounds = np.tile([0.0, 1.0], (len(documents), 1))
        of_size: dict[int, list[int]] = {}
        for row, document in enumerate(documents):
            of_size.setdefault(len(self.samples[document]), []).append(row)
        for size, rows in of_size.items():
            if size:
                values = np.array([self.samples[documents[row]] for row in rows])
                bounds[rows] = self._intervals(values, level)
        return bounds

    def _intervals(self, values: NDArray[np.float64], level: float) -> NDArray[np.float64]:
        if self.plan.bound == "betting":
            upper = 1.0 - betting_lower_rows(1.0 - values, level)
            return np.stack([betting_lower_rows(values, level), upper], axis=1)
        if not np.isin(values, (0.0, 1.0)).all():
            raise ValueError(
                "bound='clopper_pearson' needs scores that are 0 or 1, got others; use "
                "bound='betting'"
            )
        trials = values.shape[1]
        return np.array(
            [
                (
                    clopper_pearson_lower(wins, trials, level),
                    clopper_pearson_upper(wins, trials, level),
                )
                for wins in values.sum(axis=1).astype(int).tolist()
            ]
        )
