"""Remember readings and scores, so that the same request never gets two answers."""

from __future__ import annotations

from collections.abc import Sequence

from robust_components.models.protocols import PairScorer, PassageReader, Reading


class MemoReader:
    """A reader that answers each (query, text) once and repeats itself from then on.

    With it a model that samples behaves deterministically within one process, which is what
    certificates assume; it also saves the calls of repeated evaluations.

    Args:
        reader: the reader that does the work.
    """

    def __init__(self, reader: PassageReader) -> None:
        self.reader = reader
        self.name = reader.name
        self.fingerprint = reader.fingerprint
        self._readings: dict[tuple[str, str], Reading] = {}
        self._combined: dict[tuple[str, tuple[str, ...]], Reading] = {}

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]:
        new = [p for p in dict.fromkeys(passages) if (query, p) not in self._readings]
        if new:
            for passage, reading in zip(new, self.reader.read(query, new), strict=True):
                self._readings[query, passage] = reading
        return [self._readings[query, passage] for passage in passages]

    def combine(self, query: str, keywords: Sequence[str]) -> Reading:
        key = (query, tuple(keywords))
        if key not in self._combined:
            self._combined[key] = self.reader.combine(query, keywords)
        return self._combined[key]


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
