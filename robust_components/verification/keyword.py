"""The arithmetic of secure keyword aggregation: which keyword sets an attacker can reach.

Evidence: ``sources`` (names), ``keywords`` (words), ``passages`` (rows [source, keyword numbers or
null, failed], best rank first), ``kept`` and ``answer``, and ``same_answer``: the keyword sets for
which the model's final call gave that answer (null: no source responds). That the model did so
cannot be checked without it; that no other set is reachable is checked here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from robust_components.verification.passages import (
    RankedList,
    common_problems,
    injections,
    largest_budget,
    ranked_list,
)
from robust_components.verification.reading import (
    Unverifiable,
    Work,
    distinct_texts,
    entry,
    listing,
    shown,
    text_or_null,
    whole,
)

MAX_KEYWORDS = 20_000
MAX_SETS = 100_000
_FRACTION = re.compile(r"[0-9]{1,40}(/[0-9]{1,40})?")

Words = int
"""A set of keywords: bit i stands for keyword i."""


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a keyword certificate, one sentence each."""
    evidence = certificate["evidence"]
    names = distinct_texts(
        entry(evidence, "keywords", "evidence"), "evidence['keywords']", MAX_KEYWORDS
    )
    listed = ranked_list(certificate, lambda value, name: _words(value, name, len(names)))
    rule = _rule(certificate, len(names))
    responding = list(_merged(listed, len(listed.owners)).values())
    kept = rule.kept(responding)
    if _words_or_null(entry(evidence, "kept", "evidence"), "kept", len(names)) != kept:
        yield "evidence['kept'] is not the set of keywords that enough sources give."
    answer = text_or_null(entry(evidence, "answer", "evidence"), "evidence['answer']")
    if answer is not None and (not kept or rule.silence_agrees or 0 in rule.same):
        yield (
            f"The answer {shown(answer)} cannot come from an empty keyword set, which gives "
            "an abstention."
        )
    radius = _radius(certificate["threat"], listed, rule) if listed.owners else 0
    yield from common_problems(certificate, listed, answer, radius)


def _words(value: Any, name: str, total: int) -> Words:
    numbers = [whole(n, f"a keyword in {name}", 0, total - 1) for n in listing(value, name, total)]
    if len(set(numbers)) != len(numbers):
        raise Unverifiable(f"{name} must not name a keyword twice.")
    return _union(1 << number for number in numbers)


def _words_or_null(value: Any, name: str, total: int) -> Words | None:
    return None if value is None else _words(value, f"evidence[{name!r}]", total)


def _union(sets: Iterator[Words]) -> Words:
    union = 0
    for one in sets:
        union |= one
    return union


def _fraction(parameters: Mapping[str, Any], name: str) -> Fraction:
    value = entry(parameters, name, "parameters")
    try:
        if isinstance(value, str) and _FRACTION.fullmatch(value):
            return Fraction(value)
    except ZeroDivisionError:
        pass
    raise Unverifiable(f"parameters[{name!r}] must be a fraction as text, got {shown(value)}.")


def _rule(certificate: Mapping[str, Any], total: int) -> _Rule:
    parameters = certificate["parameters"]
    alpha, beta = _fraction(parameters, "alpha"), _fraction(parameters, "beta")
    if not 0 < alpha <= 1 or beta < 1:
        raise Unverifiable("parameters: alpha must be in (0, 1], and beta at least 1.")
    most = whole(
        entry(parameters, "max_optional_keywords", "parameters"),
        "parameters['max_optional_keywords']",
    )
    stated = listing(
        entry(certificate["evidence"], "same_answer", "evidence"), "evidence['same_answer']", MAX_SETS
    )
    sets = {_words_or_null(one, "same_answer", total) for one in stated}
    return _Rule(alpha, beta, most, sets - {None}, None in sets, total)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Rule:
    """Threshold mu(n) = min(alpha * n, beta), and the sets known to give one answer.

    Attributes:
        alpha: share of responding sources a keyword needs.
        beta: number of sources that is always enough.
        max_optional: more keywords than this within an attacker's reach are not certified.
        same: keyword sets that give the answer.
        silence_agrees: whether no response at all gives the answer, too.
        total: number of keywords.
    """

    alpha: Fraction
    beta: Fraction
    max_optional: int
    same: frozenset[Words] | set[Words]
    silence_agrees: bool
    total: int
    work: Work = field(default_factory=Work)
    _seen: dict[tuple[Words, Words], bool] = field(default_factory=dict)

    def needed(self, responses: int) -> int:
        return math.ceil(min(self.alpha * responses, self.beta))

    def kept(self, responding: list[Words]) -> Words | None:
        if not responding:
            return None
        needed = self.needed(len(responding))
        return _union(
            words for givers, words in _patterns(responding) if givers.bit_count() >= needed
        )

    def covers(self, certain: Words, optional: Words) -> bool:
        """Whether every set between ``certain`` and ``certain | optional`` gives the answer.

        There are 2**|optional| of them, so it is enough to count those in ``same``.
        """
        key = (certain, optional)
        if key not in self._seen:
            self.work.spend(len(self.same) * (1 + self.total // 1000))
            ceiling = certain | optional
            inside = sum(
                words & certain == certain and words | ceiling == ceiling for words in self.same
            )
            self._seen[key] = inside == 1 << optional.bit_count()
        return self._seen[key]


def _merged(listed: RankedList, length: int) -> dict[int, Words]:
    """The keywords of each responding source, from the first ``length`` passages.

    They are what all its responding passages share; several that share nothing do not respond.
    """
    given: dict[int, list[Words]] = {}
    for owner, words in zip(listed.owners[:length], listed.responses, strict=False):
        if words is not None and owner not in listed.failed:
            given.setdefault(owner, []).append(words)
    merged = {}
    for owner, sets in given.items():
        shared = sets[0]
        for words in sets[1:]:
            shared &= words
        if shared or len(sets) == 1:
            merged[owner] = shared
    return merged


def _patterns(responding: list[Words]) -> list[tuple[int, Words]]:
    """Keywords given by exactly the same responses, which share their fate: (givers, keywords)."""
    remaining: list[tuple[int, Words]] = [(0, -1)]
    for number, words in enumerate(responding):
        split = []
        for givers, members in remaining:
            inside, outside = members & words, members & ~words
            if inside:
                split.append((givers | 1 << number, inside))
            if outside:
                split.append((givers, outside))
        remaining = split
    return [(givers, members) for givers, members in remaining if givers]


def _radius(threat: Mapping[str, Any], listed: RankedList, rule: _Rule) -> int:
    if threat["kind"] == "passage_injection":
        each = threat["passages_per_source"]
        return largest_budget(listed, lambda k: _withstands_injection(listed, rule, k, each))
    return _ModificationCheck(listed, rule).radius()


@dataclass
class _Attack:
    """Goes through the situations one budget allows; the optional keywords add up over them."""

    rule: _Rule
    optional_words: Words = 0

    def fails(self, patterns: list[tuple[int, Words]], honest: int, arbitrary: int) -> bool:
        """Whether the answer can change: ``honest`` sources (a bit set) and up to ``arbitrary``
        hostile ones that respond with any keywords, or abstain."""
        rule = self.rule
        counted = [((givers & honest).bit_count(), words) for givers, words in patterns]
        for hostile in range(arbitrary + 1):
            rule.work.spend(1 + len(counted) * (1 + rule.total // 1000))
            responses = honest.bit_count() + hostile
            if not responses:
                if not rule.silence_agrees:
                    return True
                continue
            needed = rule.needed(responses)
            if needed <= hostile:
                return True
            certain = optional = 0
            for count, words in counted:
                if count >= needed:
                    certain |= words
                elif count and count >= needed - hostile:
                    optional |= words
            self.optional_words |= optional
            if self.optional_words.bit_count() > rule.max_optional:
                return True
            if not rule.covers(certain, optional):
                return True
        return False


def _withstands_injection(listed: RankedList, rule: _Rule, budget: int, each: int) -> bool:
    attack = _Attack(rule)
    for length, arbitrary in injections(listed, budget, each):
        responding = list(_merged(listed, length).values())
        rule.work.spend(length)
        everyone = (1 << len(responding)) - 1
        if attack.fails(_patterns(responding), everyone, arbitrary):
            return False
    return True


class _ModificationCheck:
    """Every choice of hostile sources; equal sources are interchangeable and counted only."""

    def __init__(self, listed: RankedList, rule: _Rule) -> None:
        self.listed = listed
        self.rule = rule
        merged = _merged(listed, len(listed.owners))
        self.patterns = _patterns(list(merged.values()))
        self.everyone = (1 << len(merged)) - 1
        bits = {source: 1 << number for number, source in enumerate(merged)}
        kinds: dict[tuple[Words | None, int], list[int]] = {}
        for source in listed.healthy:
            kind = merged.get(source), listed.slots[source]
            kinds.setdefault(kind, []).append(bits.get(source, 0))
        self.kinds = [(slots, members) for (_, slots), members in kinds.items()]

    def radius(self) -> int:
        return largest_budget(self.listed, self._withstands)

    def _withstands(self, budget: int) -> bool:
        given_up = sum(self.listed.slots[source] for source in self.listed.failed)
        attack = _Attack(self.rule)
        return not any(
            attack.fails(
                self.patterns, self.everyone & ~gone, given_up + freed + min(spare, self.listed.room)
            )
            for gone, freed, spare in self._choices(budget - len(self.listed.failed))
        )

    def _choices(self, budget: int, at: int = 0) -> Iterator[tuple[int, int, int]]:
        """Hostile responses (a bit set), the slots they free, and the budget left over."""
        if at == len(self.kinds):
            yield 0, 0, budget
            return
        slots, members = self.kinds[at]
        gone = 0
        for taken in range(min(budget, len(members)) + 1):
            if taken:
                gone |= members[taken - 1]
            for others, freed, spare in self._choices(budget - taken, at + 1):
                yield gone | others, freed + taken * slots, spare
