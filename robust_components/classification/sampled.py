"""Certifying one text from random masks: the label from a first sample, its lead from a second.

d edited words change a share Delta_d of all masks at most, so label c stays the one that most masks
give if p_c - p_j > 2 Delta_d for every rival j, in other words if the mean of
x_j = (1 + f_c - f_j) / 2 is above 1/2 + Delta_d. Were that wrong for some rival j, the lower bound
of x_j alone would have to be wrong, so each bound may have level alpha (intersection-union; the
nested radii need no correction either), and labels never seen are covered. Abstentions count for
nobody (x = 1/2); failed copies count for every rival (x = 0). The betting bound holds at every
stopping time, so sampling stops when more samples would hardly change the radius.

Clopper-Pearson: p_low of c and p_up of the strongest rival at alpha / 2 each, from a number of
samples fixed beforehand, p_up = min(1 - p_low, ..): the same argument.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from robust_components.bounds import (
    betting_lower_rows,
    clopper_pearson_lower,
    clopper_pearson_upper,
    overlap_probability,
)
from robust_components.classification import wording
from robust_components.classification.certificates import Outcome
from robust_components.classification.fixed_rule import AllMasks, SeenCopies
from robust_components.classification.plan import Counting, Finding, Plan, Subject, finding
from robust_components.classification.substitute import SynonymKernels
from robust_components.classification.votes import UNIT, Ballots, Failure, Vote, margin_units
from robust_components.smoothing import RandomMask, join_words

ENOUGH_REPEATS = 20
"""Repetitions after which a model that draws must have differed once."""
OPTIMISM = 0.5
"""Standard errors by which the expected end of sampling is taken to be better than it looks."""


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn and used.

    Attributes:
        alpha: 1 - confidence.
        bound: ``"betting"`` or ``"clopper_pearson"``.
        selection: samples that choose the label.
        batch: samples drawn at a time.
        adaptive: stop early; betting only.
        randomised: the model draws anew for every copy.
        trust_draws: do not look for signs that it does not.
        kernels: substitute each visible word, against an attacker limited to synonyms.
    """

    alpha: float
    bound: str = "betting"
    selection: int = 32
    batch: int = 32
    adaptive: bool = True
    randomised: bool = False
    trust_draws: bool = False
    kernels: SynonymKernels | None = None

    def parameters(self) -> dict[str, str | bool]:
        """For certificates."""
        return {
            "alpha": str(self.alpha),
            "bound": self.bound,
            "randomised": self.randomised,
            "trust_draws": self.trust_draws,
        }


def random_plan(
    subject: Subject, mechanism: RandomMask, counting: Counting, drawing: Drawing
) -> Plan:
    """Certify by random masks; by all of them where they are no more than the samples allowed."""
    slots = range(len(subject.words)) if subject.kept is None else subject.kept
    shown = mechanism.shown(len(slots))
    exact = not drawing.randomised and drawing.kernels is None
    if not slots or (exact and _at_most(len(slots), shown, mechanism.samples)):
        return _all_masks(subject, slots, shown, mechanism, counting)
    return _Sampling(subject, slots, shown, mechanism, counting, drawing).run()


def _at_most(words: int, shown: int, most: int) -> bool:
    """Whether C(words, shown) is at most ``most``, without working out large numbers."""
    count = 1
    for i in range(min(shown, words - shown)):
        count = count * (words - i) // (i + 1)
        if count > most:
            return False
    return True


def _all_masks(
    subject: Subject,
    slots: Sequence[int],
    shown: int,
    mechanism: RandomMask,
    counting: Counting,
) -> Plan:
    places = list(itertools.combinations(range(len(slots)), shown)) if slots else []
    votes = yield [
        _show(subject.words, [slots[i] for i in mask], mechanism.mask_token) for mask in places
    ]
    reach = SeenCopies(places, len(slots), AllMasks(len(slots), shown))
    ballots = counting.count(votes)
    return finding(ballots, reach, counting, {"words": len(subject.words)})


def _show(words: Sequence[str], visible: Sequence[int], mask_token: str | None) -> str:
    if mask_token is None:
        return join_words(words[i] for i in visible)
    shown = set(visible)
    return join_words(word if i in shown else mask_token for i, word in enumerate(words))


class _Sampling:
    """The samples of one text."""

    def __init__(
        self,
        subject: Subject,
        slots: Sequence[int],
        shown: int,
        mechanism: RandomMask,
        counting: Counting,
        drawing: Drawing,
    ) -> None:
        self.subject = subject
        self.slots = list(slots)
        self.shown = shown
        self.mechanism = mechanism
        self.counting = counting
        self.drawing = drawing
        self.generator: random.Random = mechanism.generator()
        self.copies: list[str] = []
        self.votes: list[Vote] = []
        margin = margin_units(counting.numerical_margin) if counting.soft else 0
        self.margin = Fraction(margin, UNIT)
        self._deltas: dict[int, Fraction] = {}

    def delta(self, edits: int) -> Fraction:
        """Largest share of samples that ``edits`` edits change."""
        if edits not in self._deltas:
            count = len(self.slots)
            if self.drawing.kernels is not None:
                self._deltas[edits] = self.drawing.kernels.delta(count, self.shown, edits)
            else:
                self._deltas[edits] = overlap_probability(count, self.shown, min(edits, count))
        return self._deltas[edits]

    def run(self) -> Plan:
        selection = yield self._draw(self.drawing.selection)
        first = self._count(selection, selection)
        winner = first.winner
        if winner is None:
            return self._found(selection, None, -1, wording.NO_VOTES, None)
        label = first.labels[winner]
        yield from self._sample(label)
        repeats = yield from self._check_draws(label)
        radius = self._radius(self._lowest(label))
        if repeats is not None and not repeats[1]:
            why = wording.REPEATED.format(asked=repeats[0])
            return self._found(selection, label, 0, why, repeats)
        if radius < 0:
            return self._found(selection, None, -1, wording.NO_LEAD, repeats)
        return self._found(selection, label, radius, None, repeats)

    def _sample(self, label: str) -> Generator[list[str | None], list[Vote], None]:
        """The second sample."""
        most = self.mechanism.samples
        step = self.drawing.batch if self.drawing.adaptive else most
        while len(self.votes) < most:
            drawn = self._draw(min(step, most - len(self.votes)))
            self.copies += [copy for copy in drawn if copy is not None]
            self.votes += yield drawn
            if self.drawing.adaptive and self._settled(label):
                return

    def _settled(self, label: str) -> bool:
        """Whether all samples together would hardly certify more; only costs depend on it."""
        values = self._values(label)
        radius = self._radius(float(betting_lower_rows(values, self.drawing.alpha).min()))
        means = values.mean(axis=1)
        spread = values[int(means.argmin())].std()
        most, so_far = self.mechanism.samples, values.shape[1]
        width = spread * math.sqrt(2 * math.log(1 / self.drawing.alpha) / most)
        hoped = float(means.min()) + OPTIMISM * spread / math.sqrt(so_far) - width
        return radius >= self._radius(min(hoped, 1 - math.log(1 / self.drawing.alpha) / most))

    def _draw(self, number: int) -> list[str | None]:
        words: list[str] | tuple[str, ...] = self.subject.words
        drawn: list[str | None] = []
        for _ in range(number):
            visible = sorted(self.generator.sample(self.slots, self.shown))
            seen = list(words)
            if self.drawing.kernels is not None:
                for i in visible:
                    seen[i] = self.drawing.kernels.draw(seen[i], self.generator)
            drawn.append(_show(seen, visible, self.mechanism.mask_token))
        return drawn

    def _count(self, votes: Sequence[Vote], everything: Sequence[Vote]) -> Ballots:
        """``votes`` over the labels of ``everything``."""
        labels = self.counting.labels
        if labels is not None:
            return Ballots.count(votes, labels, soft=self.counting.soft)
        names = sorted({vote for vote in everything if isinstance(vote, str)})
        return Ballots.count(votes, names, soft=False, closed=False)

    def _values(self, label: str) -> NDArray[np.float64]:
        """x_j of every rival and sample, shape (rivals, samples)."""
        ballots = self._count(self.votes, [*self.votes, label])
        winner = ballots.labels.index(label)
        scale = 2 * ballots.scale
        # A rival's gain is 1 + f_c - f_j, and 0 where a copy failed; the last one is no label.
        return np.stack([rival.gains for rival in ballots.rivals(winner)][:-1]) / scale

    def _lowest(self, label: str) -> float:
        """Lower bound on the mean of x_j against the strongest rival."""
        if self.drawing.bound == "betting":
            return float(betting_lower_rows(self._values(label), self.drawing.alpha).min())
        low, up = self._proportions(label)
        return (1 + low - up) / 2

    def _proportions(self, label: str) -> tuple[float, float]:
        """p_low and p_up by Clopper-Pearson, rounded outwards to units of 1e-9."""
        ballots = self._count(self.votes, [*self.votes, label])
        totals = dict(zip(ballots.labels, ballots.totals.tolist(), strict=True))
        wins, failed = totals.pop(label), int(ballots.failed.sum())
        number, level = len(self.votes), self.drawing.alpha / 2
        low = max(0, math.floor(clopper_pearson_lower(wins, number, level) * UNIT) - 1)
        most = max(totals.values(), default=0) + failed
        up = min(UNIT, math.ceil(clopper_pearson_upper(most, number, level) * UNIT) + 1)
        return low / UNIT, min(UNIT - low, up) / UNIT

    def _radius(self, lowest: float) -> int:
        """Largest number of edits under which a lead of ``lowest`` suffices; -1 if it is none."""
        lead = Fraction(lowest) - Fraction(1, 2) - self.margin
        edits = -1
        while edits < len(self.slots) and lead > self.delta(edits + 1):
            edits += 1
        return edits

    def _check_draws(
        self, label: str
    ) -> Generator[list[str | None], list[Vote], tuple[int, int] | None]:
        """Whether a model that draws gave equal copies different votes at least once.

        Returns:
            Number of repetitions, and in how many the vote differed; ``None`` if not asked.
        """
        if not self.drawing.randomised or self.drawing.trust_draws:
            return None
        first: dict[str, Vote] = {}
        asked = differed = 0
        for copy, vote in zip(self.copies, self.votes, strict=True):
            if copy in first:
                asked += 1
                differed += _draws_differ(first[copy], vote)
            first.setdefault(copy, vote)
        if asked < ENOUGH_REPEATS:
            doubtful = sorted(
                first, key=lambda copy: (isinstance(first[copy], Failure), first[copy] == label)
            )[:4]
            again = [doubtful[i % len(doubtful)] for i in range(ENOUGH_REPEATS)]
            votes = yield list(again)
            asked += len(votes)
            differed += sum(
                _draws_differ(first[copy], vote) for copy, vote in zip(again, votes, strict=True)
            )
        return asked, differed

    def _found(
        self,
        selection: Sequence[Vote],
        label: str | None,
        radius: int,
        why: str | None,
        repeats: tuple[int, int] | None,
    ) -> Finding:
        everything = [*selection, *self.votes]
        ballots = self._count(self.votes, everything)
        outcome = Outcome(
            method="sampled_classification",
            label=label,
            radius=radius,
            why=why,
            evidence={
                "words": len(self.subject.words),
                "labels": list(ballots.labels),
                "selection": self._count(selection, everything).plain(),
                "votes": ballots.plain(),
                "repeats": None if repeats is None else list(repeats),
            },
            failed=int(ballots.failed.sum()),
            parameters=self.drawing.parameters(),
            alpha=self.drawing.alpha,
            randomised=self.drawing.randomised,
        )
        return Finding(outcome, ballots if self.votes else self._count(selection, everything))


def _draws_differ(one: Vote, other: Vote) -> bool:
    """A call that failed says nothing about how a model draws."""
    return not isinstance(one, Failure) and not isinstance(other, Failure) and one != other
