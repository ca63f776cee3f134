"""Remember scores, so that no text is scored twice for one query."""

from __future__ import annotations

from collections.abc import Sequence

from robust_components.models.protocols import PairScorer


class MemoScorer:
    """A scorer that scores each text once a query and repeats itself until the query changes.

    Args:
        scorer: the scorer that does the work.

    Attributes:
        passes: texts the scorer has scored.
    """

    def __init__(self, scorer: PairScorer) -> None:
        self.scorer = scorer
        self.name = str(getattr(scorer, "name", type(scorer).__name__))
        self.fingerprint = str(getattr(scorer, "fingerprint", "unknown"))
        self.coverage = getattr(scorer, "coverage", None)
        self.passes = 0
        self._query: str | None = None
        self._scores: dict[str, float] = {}

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in order."""
        if query != self._query:
            self._query, self._scores = query, {}
        new = [text for text in dict.fromkeys(documents) if text not in self._scores]
        if new:
            self._scores.update(zip(new, self.scorer.score(query, new), strict=True))
            self.passes += len(new)
        return [self._scores[text] for text in documents]
