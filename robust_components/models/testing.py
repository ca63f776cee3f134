"""Test doubles anyone may use: models given by plain tables and functions.

With them any component can be handed an adversarial model and attacked by enumeration, without
weights. They are deterministic and need nothing but the core package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from robust_components.models.protocols import Reading


class KeywordReader:
    """A passage reader given by ``function(query, text) -> answer or None``.

    ``combine`` calls the same function on the keywords joined by ``", "``. An exception raised by
    the function is a failed reading, as with a real model.

    Args:
        function: called once for each passage and once for each distinct keyword set.
    """

    def __init__(
        self, function: Callable[[str, str], str | None], name: str = "keyword-reader"
    ) -> None:
        self.function = function
        self.name = name
        self.fingerprint = "test-double"
        self.calls = 0

    def _read_one(self, query: str, text: str) -> Reading:
        self.calls += 1
        try:
            answer = self.function(query, text)
        except Exception as error:  # a model that raises is one of the things to test
            return Reading(None, failure=f"{type(error).__name__}: {error}")
        return Reading(answer)

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]:
        return [self._read_one(query, passage) for passage in passages]

    def combine(self, query: str, keywords: Sequence[str]) -> Reading:
        return self._read_one(query, ", ".join(keywords))


class TableTokenModel:
    """A token model given by tables.

    Args:
        table: maps ``(passage, prefix)`` to ``{token: probability}``; ``prefix`` is a tuple of
            tokens. A missing entry is all end-of-sequence.
        eos: the end-of-sequence token.
        abstain: maps a passage to its probability of "I don't know"; 0 when missing.
        no_retrieval: maps a prefix to the token the model gives without passages; ``eos`` when
            missing.

    Raises:
        ValueError: probabilities are negative, not finite, or add up to more than 1.
    """

    def __init__(
        self,
        table: Mapping[tuple[str, tuple[str, ...]], Mapping[str, float]],
        eos: str = "</s>",
        abstain: Mapping[str, float] | None = None,
        no_retrieval: Mapping[tuple[str, ...], str] | None = None,
        name: str = "table-token-model",
    ) -> None:
        for key, row in table.items():
            total = math.fsum(row.values())
            if not all(math.isfinite(p) and p >= 0 for p in row.values()) or total > 1 + 1e-9:
                raise ValueError(
                    f"table[{key!r}] must hold probabilities that add up to at most 1, "
                    f"got {dict(row)!r}; correct the entry"
                )
        self.table = dict(table)
        self.eos = eos
        self.abstain = dict(abstain or {})
        self.no_retrieval = dict(no_retrieval or {})
        self.name = name
        self.fingerprint = "test-double"
        tokens = {token for row in self.table.values() for token in row}
        tokens |= set(self.no_retrieval.values()) | {eos}
        self.vocabulary = sorted(tokens)

    def open(self, query: str, passages: Sequence[str]) -> TableTokenSession:
        return TableTokenSession(self, list(passages))


class TableTokenSession:
    """A session over a :class:`TableTokenModel`; the query plays no part."""

    def __init__(self, model: TableTokenModel, passages: list[str]) -> None:
        self._model = model
        self._passages = passages
        self._ids = {token: i for i, token in enumerate(model.vocabulary)}
        self.eos = self._ids[model.eos]
        self.abstention = np.array([model.abstain.get(p, 0.0) for p in passages], dtype=np.float64)
        self.truncated = [False] * len(passages)
        self.failures: list[str | None] = [None] * len(passages)

    def _prefix(self, prefix: tuple[int, ...]) -> tuple[str, ...]:
        return tuple(self._model.vocabulary[token] for token in prefix)

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        words = self._prefix(prefix)
        result = np.zeros((len(rows), len(self._ids)), dtype=np.float64)
        for at, row in enumerate(rows):
            entry = self._model.table.get((self._passages[row], words), {self._model.eos: 1.0})
            for token, probability in entry.items():
                result[at, self._ids[token]] = probability
        return result

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        return self._ids[self._model.no_retrieval.get(self._prefix(prefix), self._model.eos)]

    def token_text(self, token: int) -> str:
        return self._model.vocabulary[token]

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(self._model.vocabulary[token] for token in tokens)

    def close(self) -> None:
        """Nothing to release."""


class TableScorer:
    """A pair scorer given by ``function(query, visible_text) -> float``."""

    def __init__(self, function: Callable[[str, str], float], name: str = "table-scorer") -> None:
        self.function = function
        self.name = name
        self.fingerprint = "test-double"

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        return [float(self.function(query, document)) for document in documents]


class TableClassifier:
    """A classifier given by ``function(visible_text) -> label or None``."""

    def __init__(
        self, function: Callable[[str], str | None], name: str = "table-classifier"
    ) -> None:
        self.function = function
        self.name = name
        self.fingerprint = "test-double"

    def classify(self, texts: Sequence[str]) -> list[str | None]:
        return [self.function(text) for text in texts]


class TableProbabilities:
    """A classifier with probabilities, given by ``function(visible_text) -> {label: probability}``.

    Args:
        function: labels it leaves out have probability 0.
        labels: names of all labels, in order.
    """

    def __init__(
        self,
        function: Callable[[str], Mapping[str, float]],
        labels: Sequence[str],
        name: str = "table-probabilities",
    ) -> None:
        self.function = function
        self.labels = tuple(labels)
        self.name = name
        self.fingerprint = "test-double"

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        rows = [[row.get(label, 0.0) for label in self.labels] for row in map(self.function, texts)]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.labels))

    def classify(self, texts: Sequence[str]) -> list[str | None]:
        return [self.labels[int(row.argmax())] for row in self.probabilities(texts)]
