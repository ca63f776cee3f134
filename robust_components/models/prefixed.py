"""Instructions before query and documents, for models trained with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PrefixedScorer:
    """Puts a fixed text before every query and every (masked) document.

    The prefix is added after masking: it is no part of the document, always visible, and counts as
    none of its words.

    Args:
        scorer: any :class:`~robust_components.models.protocols.PairScorer`.
        query_prefix: for example ``"query: "``.
        document_prefix: for example ``"passage: "``.
    """

    def __init__(self, scorer: Any, query_prefix: str = "", document_prefix: str = "") -> None:
        self.scorer = scorer
        self.query_prefix = query_prefix
        self.document_prefix = document_prefix
        self.name = str(getattr(scorer, "name", type(scorer).__name__))
        self.coverage = getattr(scorer, "coverage", None)
        inner = str(getattr(scorer, "fingerprint", "unknown"))
        self.fingerprint = f"{inner} after {query_prefix!r}, {document_prefix!r}"

    def score(self, query: str, documents: Sequence[str]) -> Sequence[float]:
        """The wrapped model's scores, one a document, in order."""
        return self.score_and_cuts(query, documents)[0]

    def score_and_cuts(
        self, query: str, documents: Sequence[str]
    ) -> tuple[Sequence[float], Sequence[bool]]:
        """Scores, and whether each document was cut, as far as the wrapped model tells."""
        query = self.query_prefix + query
        documents = [self.document_prefix + document for document in documents]
        noting = getattr(self.scorer, "score_and_cuts", None)
        if noting is None:
            return self.scorer.score(query, documents), [False] * len(documents)
        scores, cuts = noting(query, documents)
        return scores, cuts
