"""How many edits a vote over fixed copies withstands: exact integers, no model.

An edit changes the copies that show an edited word, and nothing is known of what a changed copy
votes. So label c stays elected after d edits if for every set D of d words and every rival j

    votes for c among copies that miss D  >  votes for j among them  +  copies that hit D

(theory of classification, "fixed seeded masks"; Levine & Feizi 2020). With probabilities f as votes
a changed copy gives j at most 1 and c at least 0, so the same rule holds with sums of f. Ties count
for the attacker unless the order of the labels gives them to c.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robust_components.classification.votes import Ballots, Flags, Integers

EXACT = 300_000
"""Sets of words times copies up to which all sets are tried; beyond, upper bounds are used."""


class Reach(Protocol):
    """Which copies edits can change.

    Attributes:
        most: a number of edits that can change everything that can be changed.
    """

    @property
    def most(self) -> int: ...

    def largest(self, gains: Integers, edits: int) -> Integers:
        """Upper bounds on each row's sum over the copies that ``edits`` edits can change.

        Args:
            gains: shape (rivals, copies), at least 0.
            edits: at least 1.

        Returns:
            Shape (rivals,).
        """
        ...


@dataclass(frozen=True)
class TouchedCopies:
    """Each edit changes up to ``each`` copies of each partition, whichever.

    Attributes:
        partitions, blocks: of the copies, partition by partition.
        each: copies of a partition that one edit can change.
        touchable: False where no edit can change the copy, shape (copies,).
    """

    partitions: int
    blocks: int
    each: int
    touchable: Flags

    @property
    def most(self) -> int:
        return -(-self.blocks // self.each)

    def largest(self, gains: Integers, edits: int) -> Integers:
        open_gains = np.where(self.touchable, gains, 0)
        rows = np.sort(open_gains.reshape(-1, self.partitions, self.blocks), axis=2)
        untouched = max(0, self.blocks - self.each * edits)
        total: Integers = rows[:, :, untouched:].sum(axis=(1, 2))
        return total


@dataclass(frozen=True)
class AllMasks:
    """Every mask that shows ``shown`` of ``words`` words: edits change a known number of them."""

    words: int
    shown: int

    @property
    def most(self) -> int:
        return self.words

    def largest(self, gains: Integers, edits: int) -> Integers:
        missed = math.comb(self.words - min(edits, self.words), self.shown)
        total: Integers = np.sort(gains, axis=1)[:, missed:].sum(axis=1)
        return total


class SeenCopies:
    """Each edit changes the copies that show one word: all sets of words are tried.

    Where they are too many, the sum is bounded by the edits' single sums and by ``otherwise``.

    Args:
        visible: the words each copy shows.
        words: number of words.
        otherwise: another valid bound.
    """

    def __init__(self, visible: Sequence[Sequence[int]], words: int, otherwise: Reach) -> None:
        self.hit: Flags = np.zeros((words, len(visible)), dtype=bool)
        for copy, positions in enumerate(visible):
            self.hit[list(positions), copy] = True
        self.otherwise = otherwise

    @property
    def most(self) -> int:
        return len(self.hit)

    def largest(self, gains: Integers, edits: int) -> Integers:
        words, copies = self.hit.shape
        edits = min(edits, words)
        total: Integers
        if math.comb(words, edits) * copies <= EXACT:
            sets = np.array(list(itertools.combinations(range(words), edits)))
            changed = np.zeros((len(sets), copies), dtype=bool)
            for column in sets.T:
                changed |= self.hit[column]
            total = (gains @ changed.T).max(axis=1)
            return total
        single = np.sort(gains @ self.hit.T, axis=1)[:, words - edits :].sum(axis=1)
        total = np.minimum(single, self.otherwise.largest(gains, edits))
        return total


def certified_radius(ballots: Ballots, reach: Reach, margin: int) -> int:
    """Largest number of edits under which the elected label stays; 0 when not even one does.

    Args:
        ballots: the votes.
        reach: which copies edits can change.
        margin: most by which rounding moves a lead, in the units of the votes.

    Raises:
        ValueError: nobody voted.
    """
    winner = ballots.winner
    if winner is None:
        raise ValueError("nobody voted, so there is no label to certify")
    rivals = list(ballots.rivals(winner))
    gains = np.stack([one.gains for one in rivals])
    for edits in range(1, reach.most + 1):
        losses = reach.largest(gains, edits)
        if not all(r.beaten(int(loss), margin) for r, loss in zip(rivals, losses, strict=True)):
            return edits - 1
    return reach.most
