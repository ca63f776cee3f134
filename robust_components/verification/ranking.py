"""The arithmetic of fixed masked copies: exact bounds on means and quantiles.

With r copies of each partition touched, the sum of a document's scores rises at most by the r
largest distances to 1 and falls at most by the r largest scores; a quantile moves at most past the
touched copies. Blocks without words cannot be touched by substitutions.

The score may count the query's words too: the weights of those a document has. One edited word adds
one of them at most, and takes one away at most, which it does only if it was the last of its kind.

Evidence of ``ranking``: ``inputs`` (digests), ``documents`` (``words``, ``scores``: blocks of
partitions; ``terms``: occurrences of the query's words, where they count) in the given order,
``inside`` (the top K, best first). Of ``ranking_document``: the same of one document, with a digest
of the list of ``candidates`` among the inputs, whether it is ``inside``, ``rivals`` and the number
of ``documents``. That the rivals are those of that list rests on who signed the certificate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from robust_components.verification.listed import (
    Reach,
    check_order,
    read_rivals,
    set_holds,
    stated_radius,
)
from robust_components.verification.reading import UnverifiableError, Work, listing, whole
from robust_components.verification.word_edits import (
    MAX_DOCUMENTS,
    MAX_WORDS,
    UNIT,
    Setting,
    document_hashes,
    exact_keys,
    input_hashes,
    read_setting,
    stated_problems,
)

BEYOND = 2**62
"""A quantile an attacker has moved past all scores."""
LARGEST_LOGIT = UNIT * 10**9


@dataclass(frozen=True)
class Copies:
    """The scores of one document's copies, partition by partition.

    Attributes:
        fixed: those no edit can change.
        open: the others.
        words: number of words of the document.
        terms: occurrences of each word of the query.
    """

    fixed: tuple[tuple[int, ...], ...]
    open: tuple[tuple[int, ...], ...]
    words: int
    terms: tuple[int, ...]


class Family:
    """A fixed mechanism: how many copies there are and how many an attacker touches."""

    def __init__(self, setting: Setting) -> None:
        mechanism = setting.mechanism
        if setting.sampled:
            raise UnverifiableError("Random masks have no exact bounds.")
        self.setting = setting
        self.hashed = mechanism["name"] == "hash_buckets"
        self.blocks: int = mechanism["buckets" if self.hashed else "blocks"]
        self.partitions: int = mechanism["partitions"]
        self.each = 2 if self.hashed and setting.operations == "substitute" else 1
        self.saturation = -(-self.blocks // self.each)
        share, self.weights = setting.terms or (Fraction(0), ())
        self.saturation = max(self.saturation, len(self.weights))
        self.cap = max(self.saturation, setting.budget)
        number = self.blocks * self.partitions if setting.quantile is None else 1
        self.of_copies = share.denominator - share.numerator
        self.of_terms = share.numerator * number
        self.margin = 2 * setting.margin * number * self.of_copies
        self.keys = {"words", "scores"} | (set() if setting.terms is None else {"terms"})
        self.work = Work()

    def read(self, document: Mapping[str, Any], place: str) -> Copies:
        """The scores in ``document``; which copies are fixed follows from its words."""
        words = whole(document["words"], f"{place}['words']", 0, MAX_WORDS)
        rows = listing(document["scores"], f"{place}['scores']", self.partitions)
        if len(rows) != self.partitions:
            raise UnverifiableError(f"{place}['scores'] must hold {self.partitions} partitions.")
        least, most = (0, UNIT)
        if self.setting.quantile is not None:
            least, most = (-LARGEST_LOGIT, LARGEST_LOGIT)
        reachable = self.blocks
        if not self.hashed:
            reachable = min(self.blocks, -(-words // (self.setting.mechanism["span"] or 1)))
        for row in rows:
            self.work.spend(self.blocks)
            if len(listing(row, f"{place}['scores']", self.blocks)) != self.blocks:
                raise UnverifiableError(f"{place}['scores'] must hold {self.blocks} blocks.")
            for score in row:
                whole(score, f"a score of {place}", least, most)
        terms: list[int] = []
        if self.setting.terms is not None:
            terms = listing(document["terms"], f"{place}['terms']", len(self.weights))
            if len(terms) != len(self.weights):
                raise UnverifiableError(f"{place}['terms'] must count {len(self.weights)} words.")
            for count in terms:
                whole(count, f"a count of {place}['terms']", 0, len(terms))
            if sum(terms) > words:
                raise UnverifiableError(f"{place}['terms'] counts more words than there are.")
        return Copies(
            tuple(tuple(row[reachable:]) for row in rows),
            tuple(tuple(row[:reachable]) for row in rows),
            words,
            tuple(terms),
        )

    def score(self, copies: Copies) -> int:
        return self.reach(copies, 0)[0]

    def reach(self, copies: Copies, budget: int) -> Reach:
        """The least and the greatest score within ``budget`` edits."""
        touched = min(self.each * budget, self.blocks)
        self.work.spend(self.blocks * self.partitions)
        rising = [sorted(row) for row in copies.open]
        fixed = [score for row in copies.fixed for score in row]
        if self.setting.quantile is None:
            total = sum(map(sum, rising)) + sum(fixed)
            fall = sum(sum(row[max(0, len(row) - touched) :]) for row in rising)
            rise = sum(UNIT - score for row in rising for score in row[:touched])
            low, high = self._terms(copies, budget)
            return (
                self.of_copies * (total - fall) + self.of_terms * low,
                self.of_copies * (total + rise) + self.of_terms * high,
            )
        place = max(0, math.ceil(self.setting.quantile * self.blocks * self.partitions) - 1)
        high_kept = sorted(fixed + [score for row in rising for score in row[touched:]])
        low_kept = sorted(
            fixed + [score for row in rising for score in row[: max(0, len(row) - touched)]]
        )
        lost = self.blocks * self.partitions - len(low_kept)
        return (
            low_kept[place - lost] if place >= lost else -BEYOND,
            high_kept[place] if place < len(high_kept) else BEYOND,
        )

    def _terms(self, copies: Copies, budget: int) -> Reach:
        """The least and the greatest sum of weights within ``budget`` edits."""
        self.work.spend(len(self.weights))
        pairs = list(zip(copies.terms, self.weights, strict=True))
        covered = sum(weight for count, weight in pairs if count)
        lost = sorted((weight for count, weight in pairs if 0 < count <= budget), reverse=True)
        new = sorted((weight for count, weight in pairs if not count), reverse=True)
        room = min(budget, copies.words) if self.setting.operations == "substitute" else budget
        return covered - sum(lost[:budget]), covered + sum(new[:room])

    def edited(self, copies: Copies, budget: int, inside: bool) -> Reach:
        """The same for a document in, or outside, the top K, which the scope may leave alone."""
        return self.reach(copies, budget if self.setting.editable(inside) else 0)


def ranking_problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate of a top-K set."""
    setting = read_setting(certificate)
    family = Family(setting)
    evidence = exact_keys(certificate["evidence"], "evidence", {"inputs", "documents", "inside"})
    rows = listing(evidence["documents"], "evidence['documents']", MAX_DOCUMENTS)
    digests = input_hashes(evidence, len(rows))
    documents: list[Copies] = []
    known: dict[str, Any] = {}
    for index, row in enumerate(rows):
        place = f"evidence['documents'][{index}]"
        documents.append(family.read(exact_keys(row, place, family.keys), place))
        if known.setdefault(digests[index], row) != row:
            yield f"Document {index} has other scores than another document with the same text."
    if setting.mechanism.get("mask_token") is None and not family.hashed:
        empty = {score for one in documents for row in one.fixed for score in row}
        if len(empty) > 1:
            yield "Copies without words are the same text but have different scores."
    order = check_order(setting, [family.score(one) for one in documents], evidence["inside"])
    inside = set(order[: setting.k])

    def holds(budget: int) -> bool:
        reach = [family.edited(one, budget, i in inside) for i, one in enumerate(documents)]
        return set_holds(reach, order, setting.k, family.margin)

    radius = stated_radius(certificate["radius"], setting.k, family.saturation, family.cap, holds)
    yield from stated_problems(
        certificate, setting, radius=radius, unlimited=family.cap, about="set"
    )


def document_problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate of one document's side of rank K."""
    setting = read_setting(certificate)
    family = Family(setting)
    evidence = exact_keys(
        certificate["evidence"],
        "evidence",
        {"inputs", *family.keys, "inside", "rivals", "documents"},
    )
    document_hashes(evidence)
    copies = family.read(evidence, "evidence")
    rivals = read_rivals(certificate, setting, family.cap)
    radius = stated_radius(
        certificate["radius"],
        setting.k,
        family.saturation,
        family.cap,
        lambda b: rivals.hold(b, family.edited(copies, b, rivals.inside), family.margin),
    )
    yield from stated_problems(
        certificate,
        setting,
        radius=radius,
        unlimited=family.cap,
        about="inside" if rivals.inside else "outside",
    )
