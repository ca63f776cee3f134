"""The arithmetic of secure keyword aggregation: which keyword sets an attacker can reach.

Evidence: ``sources`` (names), ``keywords`` (words), ``passages`` (rows [source, keyword numbers or
null, failed], best rank first), ``kept`` and ``answer``, and ``same_answer``: the keyword sets for
which the model's final call gave that answer (null: no source responds). That the model did so
cannot be checked without it; that no other set is reachable is checked here.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from robust_components.verification.claims import common_problems
from robust_components.verification.passages import (
    RankedList,
    injections,
    largest_budget,
    ranked_list,
)
from robust_components.verification.reading import (
    UnverifiableError,
    Work,
    distinct_texts,
    entry,
    listing,
    rational,
    shown,
    text_or_null,
    whole,
)

MAX_KEYWORDS = 20_000
MAX_SETS = 100_000

Words = int
"""A set of keywords: bit i stands for keyword i."""

Pattern = tuple[int, Words]
"""The responses that give some keywords (a bit set) and those keywords."""


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
    # A smaller radius is true as well: the component's searches have bounds of their own.
    radius = _radius(certificate, listed, rule) if listed.owners else 0
    yield from common_problems(certificate, listed, answer, radius)


def _words(value: Any, name: str, total: int) -> Words:
    numbers = [whole(n, f"a keyword in {name}", 0, total - 1) for n in listing(value, name, total)]
    if len(set(numbers)) != len(numbers):
        raise UnverifiableError(f"{name} must not name a keyword twice.")
    return _union(1 << number for number in numbers)


def _words_or_null(value: Any, name: str, total: int) -> Words | None:
    return None if value is None else _words(value, f"evidence[{name!r}]", total)


def _union(sets: Iterable[Words]) -> Words:
    union = 0
    for one in sets:
        union |= one
    return union


def _rule(certificate: Mapping[str, Any], total: int) -> Rule:
    parameters = certificate["parameters"]
    alpha, beta = (
        rational(entry(parameters, name, "parameters"), f"parameters[{name!r}]")
        for name in ("alpha", "beta")
    )
    if not 0 < alpha <= 1 or beta < 1:
        raise UnverifiableError("parameters: alpha must be in (0, 1], and beta at least 1.")
    most = whole(
        entry(parameters, "max_optional_keywords", "parameters"),
        "parameters['max_optional_keywords']",
    )
    stated = entry(certificate["evidence"], "same_answer", "evidence")
    sets = [
        _words_or_null(one, "same_answer", total)
        for one in listing(stated, "evidence['same_answer']", MAX_SETS)
    ]
    same = frozenset(words for words in sets if words is not None)
    return Rule(alpha, beta, most, same, None in sets, 1 + total // 1000)


@dataclass(frozen=True)
class Rule:
    """Threshold mu(n) = min(alpha * n, beta), and the sets known to give one answer.

    Attributes:
        alpha: share of responding sources a keyword needs.
        beta: number of sources that is always enough.
        max_optional: more keywords than this within an attacker's reach are not certified.
        same: keyword sets that give the answer.
        silence_agrees: whether no response at all gives the answer, too.
        width: steps that one operation on keyword sets counts for.
    """

    alpha: Fraction
    beta: Fraction
    max_optional: int
    same: frozenset[Words]
    silence_agrees: bool
    width: int
    work: Work = field(default_factory=Work)
    _known: dict[tuple[Words, Words], bool] = field(default_factory=dict)

    def needed(self, responses: int) -> int:
        return math.ceil(min(self.alpha * responses, self.beta))

    def kept(self, responding: list[Words]) -> Words | None:
        if not responding:
            return None
        needed = self.needed(len(responding))
        return _union(
            words for givers, words in self.patterns(responding) if givers.bit_count() >= needed
        )

    def patterns(self, responding: list[Words]) -> list[Pattern]:
        """Keywords that exactly the same responses give share their fate: (givers, keywords)."""
        remaining: list[Pattern] = [(0, -1)]
        for number, words in enumerate(responding):
            self.work.spend(len(remaining) * self.width)
            inside = [(givers | 1 << number, members & words) for givers, members in remaining]
            outside = [(givers, members & ~words) for givers, members in remaining]
            remaining = [pattern for pattern in inside + outside if pattern[1]]
        return [pattern for pattern in remaining if pattern[0]]

    def covers(self, certain: Words, optional: Words) -> bool:
        """Whether every set between ``certain`` and ``certain | optional`` gives the answer.

        There are 2**|optional| of them, so it is enough to count those in ``same``.
        """
        if (certain, optional) not in self._known:
            self.work.spend(len(self.same) * self.width)
            most = certain | optional
            between = sum(
                words & certain == certain and words | most == most for words in self.same
            )
            self._known[certain, optional] = between == 1 << optional.bit_count()
        return self._known[certain, optional]


class Attack:
    """Goes through the situations one budget allows; the optional keywords add up over them."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.optional_words = 0

    def succeeds(self, patterns: list[Pattern], honest: int, arbitrary: int) -> bool:
        """Whether the answer can change when the ``honest`` responses (a bit set) stay and up to
        ``arbitrary`` hostile sources respond with any keywords, or abstain.
        """
        counts = [((givers & honest).bit_count(), words) for givers, words in patterns]
        return any(
            self._changes(counts, honest.bit_count() + hostile, hostile)
            for hostile in range(arbitrary + 1)
        )

    def _changes(self, counts: list[tuple[int, Words]], responses: int, hostile: int) -> bool:
        rule = self.rule
        rule.work.spend(1 + len(counts) * rule.width)
        if not responses:
            return not rule.silence_agrees
        needed = rule.needed(responses)
        if needed <= hostile:
            return True
        certain = _union(words for count, words in counts if count >= needed)
        optional = _union(words for count, words in counts if 0 < count < needed <= count + hostile)
        self.optional_words |= optional
        too_many = self.optional_words.bit_count() > rule.max_optional
        return too_many or not rule.covers(certain, optional)


def _merged(listed: RankedList, length: int) -> dict[int, Words]:
    """The keywords of each responding source, from the first ``length`` passages.

    They are what all its responding passages share; several that share nothing do not respond.
    """
    given: dict[int, list[Words]] = {}
    for owner, words in zip(listed.owners[:length], listed.responses, strict=False):
        if words is not None and owner not in listed.failed:
            given.setdefault(owner, []).append(words)
    shared = {owner: functools.reduce(operator.and_, sets) for owner, sets in given.items()}
    return {owner: words for owner, words in shared.items() if words or len(given[owner]) == 1}


class InjectionCheck:
    """Every number of injected passages; what survives is grouped into patterns once."""

    def __init__(self, listed: RankedList, rule: Rule, passages_per_source: int) -> None:
        self.listed = listed
        self.rule = rule
        self.each = passages_per_source
        self.known: dict[int, tuple[list[Pattern], int]] = {}

    def withstands(self, budget: int) -> bool:
        attack = Attack(self.rule)
        return not any(
            attack.succeeds(*self._surviving(length), arbitrary)
            for length, arbitrary in injections(self.listed, budget, self.each)
        )

    def _surviving(self, length: int) -> tuple[list[Pattern], int]:
        if length not in self.known:
            responding = list(_merged(self.listed, length).values())
            self.known[length] = self.rule.patterns(responding), (1 << len(responding)) - 1
        return self.known[length]


class ModificationCheck:
    """Every choice of hostile sources; equal sources are interchangeable and only counted."""

    def __init__(self, listed: RankedList, rule: Rule) -> None:
        self.listed = listed
        self.rule = rule
        merged = _merged(listed, len(listed.owners))
        self.responding = list(merged.values())
        self.patterns = rule.patterns(self.responding)
        self.everyone = (1 << len(merged)) - 1
        self.given_up = sum(listed.slots[source] for source in listed.failed)
        bits = {source: 1 << number for number, source in enumerate(merged)}
        kinds: dict[tuple[Words | None, int], list[int]] = {}
        for source in listed.healthy:
            kind = merged.get(source), listed.slots[source]
            kinds.setdefault(kind, []).append(bits.get(source, 0))
        self.kinds = [(slots, members) for (_, slots), members in kinds.items()]

    def withstands(self, budget: int) -> bool:
        attack, left = Attack(self.rule), budget - len(self.listed.failed)
        for hostile in range(min(left, len(self.listed.healthy)), -1, -1):
            for gone, freed in self._choices(hostile):
                arbitrary = self.given_up + freed + min(left - hostile, self.listed.room)
                for staying in self._without_joined(self.everyone & ~gone, arbitrary):
                    if attack.succeeds(self.patterns, staying, arbitrary):
                        return False
        return True

    def _without_joined(self, staying: int, arbitrary: int) -> Iterator[int]:
        """The staying responses, without those of sources that passages in freed slots join.

        In a chunked list such a passage may belong to any source and change its response: that
        source is one of the arbitrary ones then. Equal responses are only counted.
        """
        yield staying
        if not self.listed.chunked:
            return
        equal: dict[Words, list[int]] = {}
        for number, words in enumerate(self.responding):
            if staying >> number & 1:
                equal.setdefault(words, []).append(1 << number)
        members = list(equal.values())
        for joined in range(1, min(arbitrary, staying.bit_count()) + 1):
            for chosen in itertools.combinations_with_replacement(range(len(members)), joined):
                self.rule.work.spend(1 + joined)
                taken = Counter(chosen)
                if all(number <= len(members[kind]) for kind, number in taken.items()):
                    yield staying & ~_union(
                        bit for kind, number in taken.items() for bit in members[kind][:number]
                    )

    def _choices(self, hostile: int) -> Iterator[tuple[int, int]]:
        """The responses (a bit set) and slots that some choice of ``hostile`` sources gives up."""
        for chosen in itertools.combinations_with_replacement(range(len(self.kinds)), hostile):
            self.rule.work.spend(1 + hostile)
            taken = Counter(chosen)
            if all(number <= len(self.kinds[kind][1]) for kind, number in taken.items()):
                yield (
                    _union(bit for kind, n in taken.items() for bit in self.kinds[kind][1][:n]),
                    sum(n * self.kinds[kind][0] for kind, n in taken.items()),
                )


def _radius(certificate: Mapping[str, Any], listed: RankedList, rule: Rule) -> int:
    """The largest budget that holds, up to the stated radius."""
    threat = certificate["threat"]
    if threat["kind"] == "passage_injection":
        check = InjectionCheck(listed, rule, threat["passages_per_source"]).withstands
    else:
        check = ModificationCheck(listed, rule).withstands
    return largest_budget(listed, check, certificate["radius"])
