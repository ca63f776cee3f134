"""Votes of masked copies as exact integers, and the label they elect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

UNIT = 10**9
"""Units of a probability of 1."""
ABSTAINED = -1
FAILED = -2

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Failure:
    """A copy without a usable response; it counts as a vote for whichever rival.

    Attributes:
        reason: what went wrong, in one line.
    """

    reason: str


Vote = str | tuple[int, ...] | Failure | None
"""A label, units of probability of each label, a failure, or ``None``: abstained."""


def quantise(probabilities: ArrayLike) -> Integers:
    """Probabilities in units of 1/UNIT; the rounded ones are those that count."""
    values = np.clip(np.asarray(probabilities, dtype=np.float64), 0.0, 1.0)
    return np.rint(values * UNIT).astype(np.int64)


def margin_units(numerical_margin: float) -> int:
    """Most by which two quantised probabilities of one copy differ; one unit more, for rounding."""
    units = Fraction(str(numerical_margin)) * UNIT
    return math.ceil(units) + 1 if units else 0


@dataclass(frozen=True)
class Ballots:
    """The votes of all copies.

    Attributes:
        labels: names in the order that decides ties; the first wins.
        closed: whether the model can give no other label.
        counts: what each copy gives each label, int64 of shape (copies, labels), in 0..``scale``;
            zeros where it abstains or fails.
        failed: which copies failed, shape (copies,).
        scale: 1 for labels, :data:`UNIT` for probabilities.
    """

    labels: tuple[str, ...]
    closed: bool
    counts: Integers
    failed: Flags
    scale: int

    @classmethod
    def count(
        cls,
        votes: Sequence[Vote],
        labels: Sequence[str] | None,
        *,
        soft: bool,
        closed: bool = True,
    ) -> Ballots:
        """Count ``votes``; without ``labels`` any label may turn up, and ties go by name."""
        known = sorted({vote for vote in votes if isinstance(vote, str)})
        names = tuple(known if labels is None else labels)
        place = {name: i for i, name in enumerate(names)}
        counts = np.zeros((len(votes), len(names)), dtype=np.int64)
        for row, vote in enumerate(votes):
            if isinstance(vote, str):
                counts[row, place[vote]] = 1
            elif isinstance(vote, tuple):
                counts[row] = vote
        failed = np.array([isinstance(vote, Failure) for vote in votes], dtype=bool)
        return cls(names, closed and labels is not None, counts, failed, UNIT if soft else 1)

    def __len__(self) -> int:
        return len(self.failed)

    @property
    def totals(self) -> Integers:
        """Units each label has, shape (labels,)."""
        sums: Integers = self.counts.sum(axis=0)
        return sums

    @property
    def winner(self) -> int | None:
        """The label with most votes, the first of equals; ``None`` when nobody voted."""
        totals = self.totals
        if not totals.size or not totals.max():
            return None
        return int(totals.argmax())

    @property
    def shares(self) -> dict[str, float]:
        """Share of the copies' votes each label has; they add up to at most 1."""
        most = max(1, len(self)) * self.scale
        return {name: int(v) / most for name, v in zip(self.labels, self.totals, strict=True)}

    def rivals(self, winner: int) -> Iterator[Rival]:
        """Everything an attacker could make of the winner's text: other labels, or none."""
        mine = self.counts[:, winner]
        nobody = np.zeros_like(mine)
        others = [(self.counts[:, j], j > winner) for j in range(len(self.labels)) if j != winner]
        if not self.closed:
            others.append((nobody, False))
        for theirs, behind in others:
            gain = np.where(self.failed, 0, self.scale + mine - theirs)
            lead = int((mine - theirs).sum()) - self.scale * int(self.failed.sum())
            yield Rival(lead, gain, behind)
        yield Rival(int(mine.sum()), mine, False)

    def plain(self) -> list[int | list[int]]:
        """The votes as plain data: label numbers, or units a label; -1 abstained, -2 failed."""
        rows: list[int | list[int]] = []
        for row, failed in zip(self.counts, self.failed, strict=True):
            if failed:
                rows.append(FAILED)
            elif not row.any():
                rows.append(ABSTAINED)
            else:
                rows.append(int(row.argmax()) if self.scale == 1 else row.tolist())
        return rows


@dataclass(frozen=True)
class Rival:
    """A possible outcome other than the winner: another label, or no label.

    Attributes:
        lead: how far the winner is ahead; failed copies count for the rival.
        gains: how much of the lead is lost when a copy changes, shape (copies,), at least 0.
        behind: whether the winner also wins when the lead is 0.
    """

    lead: int
    gains: Integers
    behind: bool

    def beaten(self, loss: int, margin: int) -> bool:
        """Whether the winner stays ahead after ``loss``; ``margin`` is for rounding."""
        left = self.lead - loss - margin
        return left > 0 or (left == 0 and self.behind and not margin)
