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
        self._known: tuple[str, dict[str, float]] = ("", {})

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in order."""
        known = self._known
        if query != known[0]:
            self._known = known = (query, {})
        scores = known[1]  # another thread may turn to another query meanwhile
        new = [text for text in dict.fromkeys(documents) if text not in scores]
        if new:
            scores.update(zip(new, self.scorer.score(query, new), strict=True))
            self.passes += len(new)
        return [scores[text] for text in documents]
