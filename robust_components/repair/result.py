"""A list ranked by a repaired ranker, with what was measured about the repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robust_components.certificate import Certificate


@dataclass(frozen=True)
class RepairedDocument:
    """One document of a ranking.

    Attributes:
        index: position in the list that was given.
        rank: place, from 1.
        score: the repaired ranker's.
        truncated: the model cut the document.
    """

    index: int
    rank: int
    score: float
    truncated: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for metadata."""
        return {"rank": self.rank, "truncated": self.truncated}


@dataclass(frozen=True)
class RepairedRanking:
    """Documents by rank, and the figures of the repair.

    Attributes:
        items: all documents, best first; the order they were given in decides between equal scores.
        k: size of the top.
        certificate: ``guarantee="empirical"``; never certified.
        passes: documents scored.
    """

    items: tuple[RepairedDocument, ...]
    k: int
    certificate: Certificate
    passes: int

    @property
    def top(self) -> tuple[RepairedDocument, ...]:
        return self.items[: self.k]
