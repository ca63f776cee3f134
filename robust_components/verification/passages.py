"""The ranked list in the evidence, and how an attacker who injects passages shortens it.

Written from the theory of isolate-then-aggregate (Xiang et al. 2024, arXiv 2405.15556), not from
the components.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robust_components.verification.reading import (
    UnverifiableError,
    distinct_texts,
    entry,
    listing,
    shown,
    whole,
)

MAX_PASSAGES = 1000
THREATS = frozenset({"passage_injection", "passage_modification"})


@dataclass(frozen=True)
class RankedList:
    """The list in the evidence, best rank first.

    Attributes:
        owners: for each passage, the number of its source.
        responses: for each passage, what the model said, as the method reads it; ``None`` for an
            abstention.
        failed: sources with a failed passage; they are taken to be hostile.
        slots: for each source, how many passages it holds.
        room: how many passages the list may still take.
    """

    owners: tuple[int, ...]
    responses: tuple[Any, ...]
    failed: frozenset[int]
    slots: tuple[int, ...]
    room: int

    @property
    def chunked(self) -> bool:
        """Whether a source holds several passages; a freed slot may then go to any source."""
        return len(self.slots) < len(self.owners)

    @property
    def healthy(self) -> list[int]:
        return [source for source in range(len(self.slots)) if source not in self.failed]


def ranked_list(
    certificate: Mapping[str, Any], read_response: Callable[[Any, str], Any]
) -> RankedList:
    """Read ``evidence["sources"]``, ``evidence["passages"]`` and ``parameters["top_k"]``."""
    evidence = certificate["evidence"]
    names = distinct_texts(
        entry(evidence, "sources", "evidence"), "evidence['sources']", MAX_PASSAGES
    )
    rows = listing(entry(evidence, "passages", "evidence"), "evidence['passages']", MAX_PASSAGES)
    owners, responses, failed, slots = [], [], set(), [0] * len(names)
    for rank, row in enumerate(rows):
        place = f"evidence['passages'][{rank}]"
        if len(listing(row, place, 3)) != 3:
            raise UnverifiableError(
                f"{place} must be [source, response, failed], got {shown(row)}."
            )
        owner = whole(row[0], f"the source of {place}", 0, len(names) - 1)
        owners.append(owner)
        slots[owner] += 1
        responses.append(None if row[1] is None else read_response(row[1], f"{place}[1]"))
        if whole(row[2], f"the failure mark of {place}", 0, 1):
            failed.add(owner)
    if not all(slots):
        raise UnverifiableError("evidence['sources'] names a source without a passage.")
    top_k = whole(entry(certificate["parameters"], "top_k", "parameters"), "parameters['top_k']")
    if top_k < len(rows):
        raise UnverifiableError(f"top_k is {top_k}, but the list holds {len(rows)} passages.")
    return RankedList(
        tuple(owners), tuple(responses), frozenset(failed), tuple(slots), top_k - len(rows)
    )


def injections(
    listed: RankedList, budget: int, passages_per_source: int
) -> Iterator[tuple[int, int]]:
    """What injection can lead to: (passages that survive, most sources that respond arbitrarily).

    Goes through the number of ejected passages: nothing is ejected while the list has room, and
    then each injected passage ejects one more from the end. Failed sources use up the budget and
    respond arbitrarily while one of their passages is in the list.
    """
    length, hostile = len(listed.owners), budget - len(listed.failed)
    first_ranks = sorted(listed.owners.index(source) for source in listed.failed)
    most = hostile * passages_per_source
    for ejected in range(length + 1):
        injected = listed.room + ejected if ejected else min(listed.room, most)
        if injected > most:
            return
        still_failed = bisect.bisect_left(first_ranks, length - ejected)
        yield length - ejected, min(hostile, injected) + still_failed


def largest_budget(
    listed: RankedList, holds: Callable[[int], bool], most: int | None = None
) -> int:
    """The largest budget, up to ``most``, for which the answer stays, as for every smaller one.

    Budgets below the number of failed sources are not asked for, nor are budgets beyond one more
    than the number of sources.
    """
    radius = 0
    end = len(listed.slots) + 1 if most is None else min(most, len(listed.slots) + 1)
    for budget in range(max(1, len(listed.failed)), end + 1):
        if not holds(budget):
            break
        radius = budget
    return radius
