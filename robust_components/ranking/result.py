"""A ranked list one can question: how sure is each place, and can a bad page get in?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robust_components.certificate import Certificate
from robust_components.checks import positive_integer
from robust_components.ranking.analysis import Analysis
from robust_components.ranking.top_k import SCOPES


@dataclass(frozen=True)
class RankedDocument:
    """One document of a ranking.

    Attributes:
        index: position in the list that was given.
        rank: place, from 1.
        score: the smoothed score, the one that decides the rank.
        base_score: the wrapped model's score of the unmasked document, or ``None`` if not asked.
        radius: largest number of edited words a document under which this document stays on its
            side of rank K (statement and scope of the ranking); what no number of edits can
            change has a radius of at least the number of blocks.
        pre_attack_radius: the same if the list at hand is clean and only documents outside the
            top K are edited later; never smaller than ``radius`` in an observed list.
        best_rank: best rank the document could be given by editing as many of its words as the
            threat's budget allows, everything else as it is; ties count for it.
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
        certificate: of the top-K set. Sampled, it holds with its confidence on its own; so do the
            documents' certificates, all of them together.
        passes: model passes used (distinct texts scored in one call).
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

        With a sampled mechanism each answer holds with the ranking's confidence on its own.

        Args:
            k: size of the top, at least 1; nothing can enter one as long as the list.
            below_rank: M, at least ``k``; with M = K this is CRQ@K.
            words: R, edited words a document, at least 1.
            scope: see :mod:`robust_components.ranking.top_k`. ``"promotion"`` takes the list at
                hand to be clean; ``"any"`` also answers for one that may be edited already.

        Raises:
            ValueError: an argument is outside its range.
        """
        k = positive_integer("k", k)
        below_rank = positive_integer("below_rank", below_rank, minimum=k)
        if scope not in SCOPES:
            raise ValueError(f"scope must be one of {list(SCOPES)}, got {scope!r}")
        return self.analysis.crq(k, below_rank, positive_integer("words", words), scope)

    def best_rank(self, rank: int, words: int) -> int:
        """Best rank the document now at ``rank`` could reach with ``words`` of its words edited.

        Raises:
            ValueError: an argument is outside its range.
        """
        rank = positive_integer("rank", rank)
        if rank > len(self.items):
            raise ValueError(f"rank must be in 1..{len(self.items)}, got {rank}")
        best = self.analysis.each.best_ranks(positive_integer("words", words), alone=True)
        return int(best[self.items[rank - 1].index])
