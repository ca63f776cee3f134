"""Secure keyword aggregation (Algorithm 1) and the keyword sets an attacker can reach.

Algorithm 3 of the paper is corrected in two places: thresholds are exact integers, and an attacker
who can lift a keyword over the threshold alone can introduce any keyword, so nothing is certified.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from robust_components.checks import exact_decimal
from robust_components.rag.scenarios import (
    PassageList,
    Scenario,
    by_source,
    scenarios,
    with_joined_sources,
)
from robust_components.threats import PassageInjection, PassageModification

KeywordSet = frozenset[str]
MAX_SCENARIOS = 20_000
"""More sets of surviving passages than this are not searched: not certified."""


@dataclass(frozen=True)
class Threshold:
    """mu(n) = min(alpha * n, beta) for n non-abstaining sources, in exact arithmetic."""

    alpha: Fraction
    beta: Fraction

    @classmethod
    def from_decimals(cls, alpha: object, beta: object) -> Threshold:
        """Build from numbers or decimal strings; 0.3 is read as 3/10, not as a binary float.

        Raises:
            ValueError: alpha is outside (0, 1], or beta is below 1, or one is no number.
        """
        exact_alpha = exact_decimal("alpha", alpha, "in (0, 1]")
        exact_beta = exact_decimal("beta", beta, ">= 1")
        if not 0 < exact_alpha <= 1:
            raise ValueError(f"alpha must be in (0, 1], got {alpha!r}; the paper uses 0.3")
        if exact_beta < 1:
            raise ValueError(f"beta must be >= 1, got {beta!r}; the paper uses 3")
        return cls(exact_alpha, exact_beta)

    def needed(self, responses: int) -> int:
        """Fewest sources a keyword needs, at least 1, when ``responses`` >= 1 sources respond."""
        return math.ceil(min(self.alpha * responses, self.beta))


@dataclass(frozen=True)
class KeywordResponses:
    """The keywords of each passage's response (``None``: abstained), as an attacker sees them."""

    passages: PassageList
    keywords: tuple[KeywordSet | None, ...]
    threshold: Threshold

    def of_sources(self, kept: Sequence[int] | None = None) -> dict[str, KeywordSet | None]:
        """One keyword set a source: what all its responding passages share, else ``None``."""
        if kept is None:
            kept = range(len(self.keywords))
        failed = self.passages.failed_sources
        merged: dict[str, KeywordSet | None] = {}
        for source, members in by_source(self.passages.sources, kept).items():
            given = [found for i in members if (found := self.keywords[i]) is not None]
            shared = frozenset.intersection(*given) if given else None
            disagree = shared == frozenset() and len(given) > 1
            merged[source] = None if disagree or source in failed else shared
        return merged

    def counts(self, kept: Sequence[int] | None = None) -> tuple[Counter[str], int]:
        """How many sources give each keyword, and how many respond at all."""
        responding = [found for found in self.of_sources(kept).values() if found is not None]
        return Counter(word for found in responding for word in found), len(responding)

    def kept_keywords(self) -> KeywordSet | None:
        """Algorithm 1: keywords of enough sources; ``None`` when every source abstains."""
        counts, responses = self.counts()
        if not responses:
            return None
        needed = self.threshold.needed(responses)
        return frozenset(word for word, count in counts.items() if count >= needed)


@dataclass(frozen=True)
class Reachable:
    """The distinct keyword sets that attacks within a budget lead to.

    ``sets`` is meaningless when ``reason`` says why they cannot be listed. ``None`` among them
    stands for "no source responds".
    """

    sets: tuple[KeywordSet | None, ...] = ()
    reason: str | None = None


def reachable_keyword_sets(
    responses: KeywordResponses,
    threat: PassageInjection | PassageModification,
    budget: int,
    max_optional_keywords: int = 12,
) -> Reachable:
    """All keyword sets reachable within ``budget``, likely different ones first."""
    optional_words: set[str] = set()
    families: dict[tuple[KeywordSet, KeywordSet], None] = {}
    listed = scenarios(responses.passages, threat, budget)
    if responses.passages.chunked and not isinstance(threat, PassageInjection):
        joined = partial(with_joined_sources, responses.passages)
        listed = itertools.chain.from_iterable(map(joined, listed))
    drawn = list(itertools.islice(listed, MAX_SCENARIOS + 1))
    possible = dict.fromkeys(drawn)
    if len(drawn) > MAX_SCENARIOS:
        return Reachable(
            reason=f"budget exceeded: more than {MAX_SCENARIOS} choices of {budget} hostile sources"
        )
    if not possible:
        failed = len(responses.passages.failed_sources)
        return Reachable(reason=f"{failed} sources failed, more than the budget of {budget}")
    silent = False
    for scenario in possible:
        for certain, optional in _families(responses, scenario):
            if certain is None:
                silent = True
                continue
            if optional is None:
                return Reachable(reason=_any_keyword(responses.passages, threat, budget))
            optional_words |= optional
            if len(optional_words) > max_optional_keywords:
                return Reachable(
                    reason=f"budget exceeded: more than {max_optional_keywords} keywords depend "
                    "on the attacker; raise max_optional_keywords or alpha"
                )
            families[certain, optional] = None
    sets: dict[KeywordSet | None, None] = {responses.kept_keywords(): None}
    for certain, optional in families:
        sets[certain | optional] = None
        sets[certain] = None
    if silent:
        sets[None] = None
    for certain, optional in families:
        for size in range(1, len(optional)):
            for chosen in itertools.combinations(sorted(optional), size):
                sets[certain.union(chosen)] = None
    return Reachable(sets=tuple(sets))


def _any_keyword(
    passages: PassageList, threat: PassageInjection | PassageModification, budget: int
) -> str:
    sources = "1 hostile source" if budget == 1 else f"{budget} hostile sources"
    if passages.chunked and not isinstance(threat, PassageInjection):
        return (
            f"{sources} could introduce any keyword: some source here has several passages, so "
            "that what takes a freed slot may come from any listed source"
        )
    return f"{sources} could introduce any keyword on their own"


def _families(
    responses: KeywordResponses, scenario: Scenario
) -> Iterator[tuple[KeywordSet | None, KeywordSet | None]]:
    """For each number of responding newcomers: keywords kept for certain, and the optional ones.

    ``(None, None)`` stands for no response at all, ``(set, None)`` for "any keyword at all".
    """
    counts, benign = responses.counts(scenario.kept)
    for newcomers in range(scenario.newcomers + 1):
        if benign + newcomers == 0:
            yield None, None
            continue
        needed = responses.threshold.needed(benign + newcomers)
        certain = frozenset(word for word, count in counts.items() if count >= needed)
        if needed <= newcomers:
            yield certain, None
            return
        optional = {w for w, count in counts.items() if needed - newcomers <= count < needed}
        yield certain, frozenset(optional)
