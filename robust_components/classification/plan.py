"""Certifying one text, written once: a plan yields masked copies and receives their votes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from robust_components.classification import wording
from robust_components.classification.certificates import Outcome
from robust_components.classification.fixed_rule import (
    Reach,
    SeenCopies,
    TouchedCopies,
    certified_radius,
)
from robust_components.classification.refine import KeepImportant
from robust_components.classification.votes import Ballots, Vote, margin_units
from robust_components.smoothing import FixedMechanism
from robust_components.smoothing.mechanism import MaskedCopy, show
from robust_components.threats import WordEdits

SEEN_WORDS = 400
"""Longer texts are certified by blocks alone, without looking at which words share copies."""

Plan = Generator[list[str | None], list[Vote], "Finding"]
"""Yields what the model is to see (``None`` for a copy without words) and receives the votes."""


@dataclass(frozen=True)
class Finding:
    """The result of a plan.

    Attributes:
        outcome: label, radius and evidence.
        ballots: all votes.
    """

    outcome: Outcome
    ballots: Ballots


@dataclass(frozen=True)
class Subject:
    """One text to be classified.

    Attributes:
        words: its words, after refining the text and replacing words by synonym classes.
        kept: positions of important words, or ``None`` for all.
    """

    words: tuple[str, ...]
    kept: tuple[int, ...] | None

    @classmethod
    def of(
        cls, words: tuple[str, ...], refine: KeepImportant | None, *, grows: bool = False
    ) -> Subject:
        """``grows``: edits may change the number of words, so short texts may become long."""
        if refine is None or (len(words) <= refine.keep and not grows):
            return cls(words, None)
        return cls(words, refine.kept(words))


@dataclass(frozen=True)
class Counting:
    """How votes are counted.

    Attributes:
        labels: the closed set of labels, or ``None``.
        soft: whether votes are probabilities.
        numerical_margin: most by which two probabilities of one copy differ.
    """

    labels: tuple[str, ...] | None
    soft: bool
    numerical_margin: float

    def count(self, votes: Sequence[Vote]) -> Ballots:
        return Ballots.count(votes, self.labels, soft=self.soft)

    def margin(self, copies: int) -> int:
        """Most by which rounding moves a lead over ``copies`` copies."""
        return 2 * copies * margin_units(self.numerical_margin) if self.soft else 0


def fixed_plan(
    subject: Subject, mechanism: FixedMechanism, threat: WordEdits, counting: Counting
) -> Plan:
    """Certify by a fixed family of copies; see :mod:`.fixed_rule`."""
    copies = mechanism.copies(subject.words)
    if subject.kept is not None:
        copies = [_without_unimportant(copy, subject, mechanism) for copy in copies]
    votes = yield [copy.text if copy.visible else None for copy in copies]
    ballots = counting.count(votes)
    reach = fixed_reach(copies, subject, mechanism, threat)
    return finding(ballots, reach, counting, {"words": len(subject.words)})


def _without_unimportant(
    copy: MaskedCopy, subject: Subject, mechanism: FixedMechanism
) -> MaskedCopy:
    kept = set(subject.kept or ())
    visible = tuple(i for i in copy.visible if i in kept)
    text = show(subject.words, visible, getattr(mechanism, "mask_token", None))
    return replace(copy, text=text, visible=visible)


def fixed_reach(
    copies: Sequence[MaskedCopy], subject: Subject, mechanism: FixedMechanism, threat: WordEdits
) -> Reach:
    """Which copies edits of ``subject`` can change.

    With fixed importance one edit may also bring another word in or out: up to two copies of each
    partition change, with hash buckets too, where a substitution changes no more than two anyway.
    """
    each = mechanism.touched(replace(threat, budget=1))
    if subject.kept is not None:
        each = max(each, min(2, mechanism.blocks))
    touchable = np.array([copy.touchable for copy in copies], dtype=bool)
    by_blocks = TouchedCopies(mechanism.partitions, mechanism.blocks, each, touchable)
    by_words = (
        mechanism.name == "balanced_mask"
        and mechanism.partitions > 1
        and subject.kept is None
        and 0 < len(subject.words) <= SEEN_WORDS
    )
    if not by_words:
        return by_blocks
    return SeenCopies([copy.visible for copy in copies], len(subject.words), by_blocks)


def finding(
    ballots: Ballots, reach: Reach, counting: Counting, evidence: dict[str, Any]
) -> Finding:
    """Elect and certify by the exact rule."""
    winner, failed = ballots.winner, int(ballots.failed.sum())
    label: str | None = None
    radius, why = -1, wording.NO_VOTES
    if winner is not None:
        label, why = ballots.labels[winner], ""
        radius = certified_radius(ballots, reach, counting.margin(len(ballots)))
    elif failed == len(ballots) > 0:
        why = wording.ALL_FAILED
    if not evidence["words"]:
        why = wording.NO_WORDS
    outcome = Outcome(
        method="classification",
        label=label,
        radius=radius,
        why=why or None,
        evidence={**evidence, "labels": list(ballots.labels), "votes": ballots.plain()},
        failed=failed,
        parameters={},
    )
    return Finding(outcome, ballots)
