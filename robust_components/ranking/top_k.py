"""From bounds on scores to what is certain about a ranked list. Integers only, no model.

``margin`` is what two scores must differ by to count as different: twice the numerical error of
the model's scores. A difference within the margin counts for the attacker.

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
from numpy.typing import NDArray

from robust_components.ranking.fixed_bounds import Integers

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

    def reach(self, inside: Sequence[int], scope: str) -> tuple[Integers, Integers]:
        """Least and greatest score of each document when ``scope`` is edited."""
        editable: NDArray[np.bool_] = np.full(len(self.low), scope != "demotion")
        editable[list(inside)] = scope != "promotion"
        return (
            np.where(editable, self.lower, self.low),
            np.where(editable, self.upper, self.high),
        )


def rank_order(score: Integers) -> list[int]:
    """Documents by falling score; equal scores keep their order in the input."""
    return sorted(range(len(score)), key=lambda i: (-int(score[i]), i))


def none_enters(
    bounds: Bounds, inside: Sequence[int], rivals: Sequence[int], margin: int, scope: str
) -> bool:
    """Whether no edit lets any of ``rivals`` reach any document of ``inside``."""
    if not len(inside) or not len(rivals):
        return True
    low, high = bounds.reach(inside, scope)
    return int(low[list(inside)].min()) > int(high[list(rivals)].max()) + margin


def stays_in(bounds: Bounds, inside: Sequence[int], document: int, margin: int, scope: str) -> bool:
    """Whether ``document``, in S, stays among the top K whatever is edited.

    It does when fewer than K others can reach the least score it may fall to.
    """
    low, high = bounds.reach(inside, scope)
    others = np.delete(high, document)
    return int((others + margin >= low[document]).sum()) < len(inside)


def stays_out(
    bounds: Bounds, inside: Sequence[int], document: int, margin: int, scope: str
) -> bool:
    """Whether ``document``, outside S, stays below at least K others whatever is edited."""
    low, high = bounds.reach(inside, scope)
    return int((np.delete(low, document) > high[document] + margin).sum()) >= len(inside)


def best_rank(bounds: Bounds, document: int, margin: int, *, alone: bool) -> int:
    """The best rank ``document`` can be given by edits, from 1; ties count for it.

    Args:
        alone: whether it alone is edited, or all documents are.
    """
    others = np.delete(bounds.low if alone else bounds.lower, document)
    return 1 + int((others > bounds.upper[document] + margin).sum())
