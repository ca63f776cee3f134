"""A ranked list one can question: how sure is each place, and can a bad page get in?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robust_components.certificate import Certificate
from robust_components.ranking.analysis import Analysis


@dataclass(frozen=True)
class RankedDocument:
    """One document of a ranking.

    Attributes:
        index: position in the list that was given.
        rank: place, from 1.
        score: the smoothed score, the one that decides the rank.
        base_score: the wrapped model's score of the unmasked document, or ``None`` if not asked.
        radius: largest number of edited words a document under which this document stays on its
            side of rank K (statement and scope of the ranking).
        pre_attack_radius: the same if the list at hand is clean and only documents outside the
            top K are edited later; never smaller for documents outside the top K.
        best_rank: best rank the document could be given by editing as many of its words as the
            threat's budget allows, everything else as it is.
        truncated: the model cut the document or one of its copies.
        certificate: says the same as ``radius``, verifiably; ``None`` if not asked for.
    """

    index: int
    rank: int
    score: float
    base_score: float | None
    radius: int
    pre_attack_radius: int
    best_rank: int
    truncated: bool
    certificate: Certificate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for metadata."""
        certificate = None if self.certificate is None else self.certificate.to_dict()
        return {
            "rank": self.rank,
            "base_score": self.base_score,
            "certified_radius": self.radius,
            "pre_attack_radius": self.pre_attack_radius,
            "best_rank": self.best_rank,
            "truncated": self.truncated,
            "certificate": certificate,
        }


@dataclass(frozen=True)
class Ranking:
    """Documents by rank, and what is certain about the top K.

    Attributes:
        items: all documents, best first.
        k: size of the top.
        certificate: of the top-K set.
        passes: model passes used (distinct texts scored).
    """

    items: tuple[RankedDocument, ...]
    k: int
    certificate: Certificate
    passes: int
    analysis: Analysis = field(repr=False, compare=False)

    @property
    def top(self) -> tuple[RankedDocument, ...]:
        return self.items[: self.k]

    @property
    def radius(self) -> int:
        """Largest number of edited words a document under which the top-K set is fixed."""
        return self.certificate.radius

    def crq(self, k: int, below_rank: int, words: int, scope: str = "promotion") -> bool:
        """CRQ(K, M, R): whether no document ranked below ``below_rank`` can enter the top ``k``.

        Args:
            k: size of the top, 1..len(items).
            below_rank: M, at least ``k``; with M = K this is CRQ@K.
            words: R, edited words a document, at least 1.
            scope: see :mod:`robust_components.ranking.top_k`.

        Raises:
            ValueError: an argument is outside its range.
        """
        if not 1 <= k <= max(1, len(self.items)):
            raise ValueError(f"k must be in 1..{len(self.items)}, got {k}")
        if below_rank < k:
            raise ValueError(f"below_rank must be at least k={k}, got {below_rank}")
        if words < 1:
            raise ValueError(f"words must be at least 1, got {words}")
        return self.analysis.crq(k, below_rank, words, scope)

    def best_rank(self, rank: int, words: int) -> int:
        """Best rank the document now at ``rank`` could reach with ``words`` of its words edited."""
        return self.analysis.best_rank(self.items[rank - 1].index, words, alone=True)
