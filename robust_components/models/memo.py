"""Remember readings, so that the same request never gets two answers."""

from __future__ import annotations

from collections.abc import Sequence

from robust_components.models.protocols import PassageReader, Reading


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
