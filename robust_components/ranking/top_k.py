"""From bounds on scores to what is certain about a ranked list. Integers only, no model.

``margin`` is what two scores must differ by to count as different: the score of each of the two
texts may come out differently when it is computed again. A difference within the margin, and so
every tie, counts for the attacker.

Scopes, where S is the top K of the list at hand:
    ``"promotion"``: documents outside S are edited, each within its budget.
    ``"demotion"``: documents of S are edited.
    ``"any"``: all documents are. This is also what an ``observed`` statement needs: the clean form
    of every document lies within the budget of the one at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robust_components.ranking.fixed_bounds import Flags, Integers

SCOPES = ("promotion", "demotion", "any")


@dataclass(frozen=True)
class Bounds:
    """What each document's score can be, for one budget; arrays of shape (documents,).

    Attributes:
        low, high: of a document nobody edits; equal unless the score is estimated.
        lower, upper: of a document edited within the budget.
    """

    low: Integers
    high: Integers
    lower: Integers
    upper: Integers

    def reach(self, inside: Flags, scope: str) -> tuple[Integers, Integers]:
        """Least and greatest score of each document when ``scope`` is edited."""
        editable = inside if scope == "demotion" else np.logical_or(~inside, scope == "any")
        return (
            np.where(editable, self.lower, self.low),
            np.where(editable, self.upper, self.high),
        )


def rank_order(score: Integers) -> list[int]:
    """Documents by falling score; equal scores keep their order in the input."""
    return [int(i) for i in np.argsort(-score, kind="stable")]


def members(count: int, inside: Sequence[int]) -> Flags:
    """Which of ``count`` documents are in ``inside``."""
    flags: Flags = np.zeros(count, dtype=bool)
    flags[list(inside)] = True
    return flags


def none_enters(
    bounds: Bounds, inside: Sequence[int], rivals: Sequence[int], margin: int, scope: str
) -> bool:
    """Whether no edit lets any of ``rivals`` reach any document of ``inside``."""
    if not len(inside) or not len(rivals):
        return True
    low, high = bounds.reach(members(len(bounds.low), inside), scope)
    return int(low[list(inside)].min()) > int(high[list(rivals)].max()) + margin


def stays(bounds: Bounds, inside: Flags, margin: int, scope: str) -> Flags:
    """For each document, whether it stays on its side of rank K whatever is edited.

    One in S does when fewer than K others can reach the least score it may fall to; one outside S
    does when at least K others stay above the greatest score it may rise to.
    """
    low, high = bounds.reach(inside, scope)
    k = int(inside.sum())
    reaching = len(low) - np.searchsorted(np.sort(high), low - margin, side="left") - 1
    above = len(low) - np.searchsorted(np.sort(low), high + margin, side="right")
    held: Flags = np.where(inside, reaching < k, above >= k)
    return held


def kth_of_others(values: Integers, k: int) -> Integers | None:
    """For each document the ``k``-th greatest value of the others; ``None`` if there are fewer."""
    if len(values) <= k or k < 1:
        return None
    falling = np.sort(values)[::-1]
    others: Integers = np.where(values >= falling[k - 1], falling[k], falling[k - 1])
    return others


def best_ranks(bounds: Bounds, margin: int, *, alone: bool) -> Integers:
    """The best rank each document can be given by edits, from 1; ties count for it.

    Args:
        alone: whether it alone is edited, or all documents are.
    """
    others = np.sort(bounds.low if alone else bounds.lower)
    above = len(others) - np.searchsorted(others, bounds.upper + margin, side="right")
    return 1 + above.astype(np.int64)
