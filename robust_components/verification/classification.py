"""The arithmetic of votes over fixed or exhaustive masked copies.

An edit changes the copies that show an edited word. Of a changed copy nothing is known: in the
worst case the label loses what it had there and a rival gains a full vote. The label stands
against a rival after d edits if its lead, less the largest loss that d edits can cause, is above
zero (or zero, where the order of the labels decides for it). A failed copy already counts for the
rival. The label must also keep a vote, or there would be no label.

Evidence: ``inputs`` (digests), ``refined`` (digest or null), ``label``, ``words``, ``labels`` (in
the order that decides ties) and ``votes``, one a copy: the number of a label, or units a label;
-1 abstained, -2 failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.verification.classified_text import (
    MAX_LABELS,
    Terms,
    check_inputs,
    read_terms,
    stated_problems,
)
from robust_components.verification.partitions import (
    balanced_copies,
    combinations_up_to,
    exhaustive_copies,
)
from robust_components.verification.reading import (
    UnverifiableError,
    Work,
    distinct_texts,
    listing,
    shown,
    whole,
)
from robust_components.verification.word_edits import MAX_WORDS, UNIT, exact_keys

EXACT = 300_000
SEEN_WORDS = 400
MAX_COPIES = 100_000
ABSTAINED, FAILED = -1, -2

Table = NDArray[np.int64]


@dataclass(frozen=True)
class Rivals:
    """Every other outcome, one row each.

    Attributes:
        leads: how far the label is ahead.
        losses: how much of it is lost when a copy changes, shape (rivals, copies).
        ties: whether the label also wins a tie.
    """

    leads: Table
    losses: Table
    ties: list[bool]

    def lost(self, worst: Table, margin: int) -> bool:
        """Whether some rival catches up."""
        left = self.leads - worst - margin
        return any(
            value < 0 or (value == 0 and not (tie and margin == 0))
            for value, tie in zip(left.tolist(), self.ties, strict=True)
        )


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate by an exact vote."""
    terms = read_terms(certificate)
    evidence = exact_keys(
        certificate["evidence"],
        "evidence",
        {"inputs", "refined", "label", "words", "labels", "votes"},
    )
    check_inputs(evidence, terms)
    words = whole(evidence["words"], "evidence['words']", 0, MAX_WORDS)
    family = Family(terms, words)
    votes = listing(evidence["votes"], "evidence['votes']", MAX_COPIES)
    if len(votes) != family.copies:
        raise UnverifiableError(f"evidence['votes'] must hold {family.copies} votes.")
    labels = distinct_texts(evidence["labels"], "evidence['labels']", MAX_LABELS)
    table, failed = read_votes(votes, labels, terms)
    check_labels(labels, table, terms)
    for copy in family.fixed:
        if votes[copy] != ABSTAINED:
            yield f"Copy {copy} shows no word, so it must have abstained."
    winner = elected(table)
    radius, why = 0, None
    if winner is None:
        why = "No masked copy voted for a label."
        if failed.size and failed.all():
            why = "The model gave no usable response to any masked copy."
        if not words:
            why = "The text has no words."
    else:
        margin = 2 * len(votes) * terms.margin
        radius = family.radius(rivals_of(winner, table, failed, terms), margin)
    yield from stated_problems(
        certificate,
        terms,
        label=None if winner is None else labels[winner],
        radius=radius,
        failed=int(failed.sum()),
        why=why,
        kind="exact",
    )


def read_votes(
    votes: list[Any], labels: list[str], terms: Terms
) -> tuple[Table, NDArray[np.bool_]]:
    """What each copy gives each label, shape (copies, labels), and which copies failed."""
    table = np.zeros((len(votes), len(labels)), dtype=np.int64)
    failed = np.zeros(len(votes), dtype=bool)
    for copy, vote in enumerate(votes):
        if type(vote) is int and vote in (ABSTAINED, FAILED):
            failed[copy] = vote == FAILED
        elif terms.soft:
            row = listing(vote, f"vote {copy}", len(labels))
            units = [whole(one, f"vote {copy}", 0, UNIT) for one in row]
            if len(units) != len(labels) or not any(units):
                raise UnverifiableError(f"Vote {copy} must give each label its share.")
            table[copy] = units
        else:
            table[copy, whole(vote, f"vote {copy}", 0, len(labels) - 1)] = 1
    return table, failed


def check_labels(labels: list[str], table: Table, terms: Terms) -> None:
    """Whether the labels are the closed set, or those that were voted for, by name."""
    if terms.labels is not None:
        fits = labels == terms.labels
    else:
        fits = labels == sorted(labels) and bool(table.any(axis=0).all())
    if not fits:
        raise UnverifiableError(f"evidence['labels'] does not fit the votes: {shown(labels)}.")


def elected(table: Table) -> int | None:
    """The first label with the most units; ``None`` when nobody voted."""
    totals = table.sum(axis=0).tolist()
    most = max(totals, default=0)
    return totals.index(most) if most else None


def rivals_of(winner: int, table: Table, failed: NDArray[np.bool_], terms: Terms) -> Rivals:
    """Other labels, one never seen if the set is open, and no label at all."""
    own, hostile = table[:, winner], terms.scale * int(failed.sum())
    leads, losses, ties = [int(own.sum())], [own], [False]
    columns = [(table[:, j], winner < j) for j in range(table.shape[1]) if j != winner]
    if terms.labels is None:
        columns.append((np.zeros_like(own), False))
    for other, tie in columns:
        leads.append(int(own.sum()) - int(other.sum()) - hostile)
        losses.append((own + terms.scale - other) * ~failed)
        ties.append(tie)
    return Rivals(np.array(leads), np.stack(losses), ties)


class Family:
    """The masked copies of a text and what edits can do to them.

    Attributes:
        copies: how many there are.
        fixed: those that show no word whatever is edited.
    """

    def __init__(self, terms: Terms, words: int) -> None:
        self.terms = terms
        self.words = words
        self.fixed: list[int] = []
        self.showing: list[list[int]] | None = None
        self.work = Work(2_000_000)
        mechanism = terms.mechanism
        self.hashed = mechanism["name"] == "hash_buckets"
        if mechanism["name"] == "random_mask":
            self._exhaustive()
            return
        self.blocks: int = mechanism["buckets" if self.hashed else "blocks"]
        self.partitions: int = mechanism["partitions"]
        self.copies = self.blocks * self.partitions
        self.work.spend(self.copies)
        displaced = terms.keep is not None and (self.hashed or words > terms.keep)
        self.each = 2 if displaced or (self.hashed and terms.operations == "substitute") else 1
        reachable = self.blocks
        if not self.hashed:
            reachable = min(self.blocks, -(-words // (mechanism["span"] or 1)))
            if self.partitions > 1 and not displaced and words <= SEEN_WORDS:
                self.showing = balanced_copies(mechanism, words)
        block_of = np.arange(self.copies) % self.blocks
        self.fixed = np.flatnonzero(block_of >= reachable).tolist()
        if not words:
            self.fixed = list(range(self.copies))

    def _exhaustive(self) -> None:
        terms = self.terms
        self.slots = terms.slots(self.words)
        self.shown = terms.shown(self.words)
        most = 0 if terms.variation is not None else min(terms.mechanism["samples"], MAX_COPIES)
        self.copies = combinations_up_to(self.slots, self.shown, most) if self.slots else 0
        if self.copies > most:
            raise UnverifiableError("So many masks, or random substitutions, are not exhaustive.")
        self.work.spend(self.copies * self.shown)
        self.showing = exhaustive_copies(self.slots, self.shown)

    def radius(self, rivals: Rivals, margin: int) -> int:
        """The largest number of edits under which no rival catches up."""
        edits = 0
        while not rivals.lost(self.worst(rivals.losses, edits + 1), margin):
            edits += 1
        return edits

    def worst(self, losses: Table, edits: int) -> Table:
        """The largest loss against each rival that ``edits`` edits can cause, or a bound on it."""
        self.work.spend(losses.size)
        if self.showing is None:
            return self._by_blocks(losses, edits)
        edits = min(edits, len(self.showing))
        sets = combinations_up_to(len(self.showing), edits, EXACT)
        if sets * self.copies <= EXACT:
            return self._by_words(losses, edits)
        single = np.stack([losses[:, copies].sum(axis=1) for copies in self.showing], axis=1)
        added = -np.sort(-single, axis=1)[:, :edits].sum(axis=1)
        if self.terms.mechanism["name"] == "random_mask":
            changed = self.copies - math.comb(self.slots - edits, self.shown)
            largest = -np.sort(-losses, axis=1)[:, :changed].sum(axis=1)
        else:
            largest = self._by_blocks(losses, edits)
        lost: Table = np.minimum(added, largest)
        return lost

    def _by_blocks(self, losses: Table, edits: int) -> Table:
        losses = losses.copy()
        losses[:, self.fixed] = 0
        falling = -np.sort(-losses.reshape(len(losses), self.partitions, self.blocks), axis=2)
        total: Table = falling[:, :, : self.each * edits].sum(axis=(1, 2))
        return total

    def _by_words(self, losses: Table, edits: int) -> Table:
        """All sets of words, grown one word at a time."""
        assert self.showing is not None
        showing, worst = self.showing, np.zeros(len(losses), dtype=np.int64)

        def grow(first: int, left: int, changed: frozenset[int], lost: Table) -> None:
            nonlocal worst
            if not left:
                worst = np.maximum(worst, lost)
                return
            for word in range(first, len(showing) - left + 1):
                new = [copy for copy in showing[word] if copy not in changed]
                self.work.spend(1 + len(new) // 8)
                grow(word + 1, left - 1, changed.union(new), lost + losses[:, new].sum(axis=1))

        grow(0, edits, frozenset(), np.zeros(len(losses), dtype=np.int64))
        return worst
