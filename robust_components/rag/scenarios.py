"""Which passages may survive an attack, and how many arbitrary sources may join them.

Both the keyword and the decoding certificate quantify over these scenarios. A scenario keeps some
of the passages at hand (the benign part, B in the paper) and admits any number of newcomers from 0
to ``newcomers``, each a source that responds arbitrarily or abstains.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from robust_components.threats import PassageInjection, PassageModification


@dataclass(frozen=True)
class PassageList:
    """A ranked list as an attacker sees it: the source of each passage, and which rows failed.

    Attributes:
        sources: source id of each passage, best rank first.
        failed: for each passage, whether the model produced no usable response. The whole source
            of a failed passage counts as hostile and uses up one unit of the budget.
        top_k: length at which the retriever cuts the list; at least ``len(sources)``.
    """

    sources: tuple[str, ...]
    failed: tuple[bool, ...]
    top_k: int

    def __post_init__(self) -> None:
        if len(self.failed) != len(self.sources):
            raise ValueError(
                f"failed must have one entry a passage: got {len(self.failed)} for "
                f"{len(self.sources)} passages"
            )
        if self.top_k < len(self.sources):
            raise ValueError(
                f"top_k must be >= the number of passages ({len(self.sources)}), got {self.top_k}; "
                "cut the list first"
            )

    @property
    def failed_sources(self) -> frozenset[str]:
        return frozenset(s for s, bad in zip(self.sources, self.failed, strict=True) if bad)

    @property
    def chunked(self) -> bool:
        """Whether a source holds several passages, so that others may have more of them, too."""
        return len(set(self.sources)) < len(self.sources)

    @property
    def slots(self) -> dict[str, int]:
        """Passages held by each source, in order of first appearance."""
        counts: dict[str, int] = {}
        for source in self.sources:
            counts[source] = counts.get(source, 0) + 1
        return counts


@dataclass(frozen=True)
class Scenario:
    """The passages that stay (indices) and the largest number of arbitrary sources that join."""

    kept: tuple[int, ...]
    newcomers: int


def modification_scenarios(passages: PassageList, budget: int) -> Iterator[Scenario]:
    """All scenarios in which up to ``budget`` sources differ, for modification and observed sets.

    Removing a source frees as many slots as it held; each freed slot may go to another unknown
    source. In a list shorter than ``top_k`` a rewritten passage may also be missing altogether, so
    that budget left over can add sources without removing any. Yields nothing when more sources
    failed than the budget allows.

    In a chunked list a freed slot may also go to one more passage of a source that stays. What that
    changes depends on how passages of a source are merged: see :func:`with_joined_sources` and
    :func:`robust_components.rag.decoding_step.reach`.
    """
    slots = passages.slots
    failed = passages.failed_sources
    left = budget - len(failed)
    if left < 0:
        return
    healthy = [source for source in slots if source not in failed]
    room = passages.top_k - len(passages.sources)
    most = min(left, len(healthy))
    fewest = 0 if room else most
    for removed_count in range(fewest, most + 1):
        for removed in itertools.combinations(healthy, removed_count):
            gone = failed.union(removed)
            freed = sum(slots[source] for source in gone)
            kept = tuple(i for i, s in enumerate(passages.sources) if s not in gone)
            yield Scenario(kept, freed + min(left - removed_count, room))


def injection_scenarios(
    passages: PassageList, budget: int, passages_per_source: int
) -> Iterator[Scenario]:
    """All scenarios in which passages of up to ``budget`` new sources enter a clean list.

    m injected passages push out the last ``max(0, length + m - top_k)``; no more than ``top_k``
    find a place.
    """
    left = budget - len(passages.failed_sources)
    if left < 0:
        return
    failed = passages.failed_sources
    for injected in range(min(left * passages_per_source, passages.top_k) + 1):
        ejected = max(0, len(passages.sources) + injected - passages.top_k)
        remaining = range(max(0, len(passages.sources) - ejected))
        kept = tuple(i for i in remaining if passages.sources[i] not in failed)
        failed_left = len({passages.sources[i] for i in remaining} & failed)
        yield Scenario(kept, min(left, injected) + failed_left)


def scenarios(
    passages: PassageList, threat: PassageInjection | PassageModification, budget: int
) -> Iterator[Scenario]:
    """Scenarios of ``threat`` at ``budget`` (which may differ from the threat's own)."""
    if isinstance(threat, PassageInjection):
        return injection_scenarios(passages, budget, threat.passages_per_source)
    return modification_scenarios(passages, budget)


def with_joined_sources(passages: PassageList, scenario: Scenario) -> Iterator[Scenario]:
    """The scenario, and those in which newcomers join up to as many of the sources that stay.

    A source with one more passage responds in some other way, or contradicts itself and does not
    respond. It is taken to respond arbitrarily, in place of the newcomer that joined it.
    """
    staying = list(dict.fromkeys(passages.sources[i] for i in scenario.kept))
    for count in range(min(scenario.newcomers, len(staying)) + 1):
        for joined in itertools.combinations(staying, count):
            kept = tuple(i for i in scenario.kept if passages.sources[i] not in joined)
            yield Scenario(kept, scenario.newcomers)


def by_source(sources: Sequence[str], kept: Sequence[int]) -> dict[str, list[int]]:
    """Kept passages grouped by source, in rank order."""
    groups: dict[str, list[int]] = {}
    for index in kept:
        groups.setdefault(sources[index], []).append(index)
    return groups
