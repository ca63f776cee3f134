"""Ranked documents in the evidence: their order, and what holds of bounds on their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robust_components.verification.reading import UnverifiableError, entry, listing, shown, whole
from robust_components.verification.word_edits import MAX_DOCUMENTS, Setting

Reach = tuple[int, int]
"""The least and the greatest score a document can have."""


@dataclass(frozen=True)
class Rivals:
    """What a certificate of one document says of the others.

    Attributes:
        inside: whether the document is in the top K.
        documents: how many documents there are.
        values: for each budget, the K-th greatest score of the others: the greatest they can reach
            if the document is inside, the least they may keep if not; ``None`` if they are fewer.
    """

    inside: bool
    documents: int
    values: Mapping[int, int | None]

    def hold(self, budget: int, reach: Reach, margin: int) -> bool:
        """Whether a document that can reach ``reach`` stays on its side of rank K."""
        low, high = reach
        value = self.values[budget]
        if self.inside:
            return value is None or value + margin < low
        return value is not None and value > high + margin


def check_order(setting: Setting, scores: Sequence[int], stated: Any) -> list[int]:
    """The documents of the top K, which ``stated`` must list best first; ties by position."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if setting.k != min(setting.k, len(scores)) or (setting.k == 0) != (not scores):
        raise UnverifiableError(f"There is no top {setting.k} of {len(scores)} documents.")
    if listing(stated, "evidence['inside']", MAX_DOCUMENTS) != order[: setting.k]:
        raise UnverifiableError("evidence['inside'] does not hold the best scores, best first.")
    if any(isinstance(one, bool) for one in stated):
        raise UnverifiableError("evidence['inside'] must hold numbers.")
    return order


def set_holds(reach: Sequence[Reach], order: Sequence[int], k: int, margin: int) -> bool:
    """Whether every document of the top stays above every other one, beyond the margin."""
    if k >= len(order):
        return True
    least = min(reach[i][0] for i in order[:k])
    return least > max(reach[i][1] for i in order[k:]) + margin


def read_rivals(certificate: Mapping[str, Any], setting: Setting, cap: int) -> Rivals:
    """Read what is said of the others, at the stated radius and one more."""
    evidence = certificate["evidence"]
    inside = entry(evidence, "inside", "evidence")
    if not isinstance(inside, bool):
        raise UnverifiableError(f"evidence['inside'] must be true or false, got {shown(inside)}.")
    count = whole(entry(evidence, "documents", "evidence"), "evidence['documents']", 1)
    if not 1 <= setting.k <= count or (count == setting.k and not inside):
        raise UnverifiableError(f"This document cannot be outside the top {setting.k} of {count}.")
    radius = certificate["radius"]
    budgets = [budget for budget in (radius, radius + 1) if 1 <= budget <= cap]
    stated = entry(evidence, "rivals", "evidence")
    if not isinstance(stated, dict) or stated.keys() != {str(budget) for budget in budgets}:
        raise UnverifiableError(f"evidence['rivals'] must be given for {budgets} edits.")
    values: dict[int, int | None] = {}
    for budget in budgets:
        value = stated[str(budget)]
        if (value is None) != (count == setting.k):
            raise UnverifiableError(
                f"With {count} documents there {'is no' if count == setting.k else 'must be a'} "
                f"rival, got {shown(value)}."
            )
        values[budget] = (
            None if value is None else whole(value, "evidence['rivals']", -(2**63), 2**63)
        )
    first, last = values.get(radius), values.get(radius + 1)
    if first is not None and last is not None and (first > last if inside else first < last):
        raise UnverifiableError("evidence['rivals'] must not reach less with more edits.")
    return Rivals(inside, count, values)


def stated_radius(
    stated: int, k: int, saturation: int, cap: int, holds: Callable[[int], bool]
) -> int:
    """The stated radius if the claim holds there and no further, else another number.

    What holds for one budget holds for all smaller ones. A claim that holds at ``saturation`` edits
    holds for any number, and its radius is ``cap``.
    """
    if k == 0:
        return 0
    if saturation <= stated < cap:
        return stated + 1
    if stated > cap or (stated and not holds(stated)):
        return stated - 1
    return stated + 1 if stated < cap and holds(stated + 1) else stated
