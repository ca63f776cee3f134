"""Term coverage: which share of the query's words a document has, rarer words counting more.

A document that repeats one word of the query does not gain by it, unlike in a mean over masked
copies of positions. One edited word adds, or takes away, at most one word of the query, so the
share is exactly bounded under edits without any model. It is the coordination level of Boolean
retrieval with word weights (Sparck Jones 1972; Robertson & Sparck Jones 1976).
"""

from __future__ import annotations

import functools
import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import exact_decimal

UNIT = 10**9
FINEST_SHARE = 1000
LEVEL = 100
"""A word of this rank among the common ones weighs log 2."""

Integers = NDArray[np.int64]
_INNER = re.compile(r"\w(?:.*\w)?", re.DOTALL)
_STEMMING = threading.Lock()
"""A stemmer keeps the word it works on; two threads at once would mix up theirs."""


@dataclass(frozen=True)
class TermCoverage:
    """How much term coverage counts in a score, and how words are compared.

    Two words are the same if their stems are, without case and punctuation at their ends. A word
    weighs log(1 + rank / 100), where rank is its place among the 3,000 most common English words,
    or 3,000; words of other languages all weigh the same.

    Args:
        share: share of the score, in (0, 1), with at most three decimals; the smoothed score of the
            model has the rest.
        language: of the Snowball stemmer, e.g. ``"english"`` or ``"german"``; ``None`` compares
            words as they are.
        weights: word weights by word, at least 0, instead of the common words: for example the
            inverse document frequencies of one's own collection. Words not named get the largest.

    Raises:
        ValueError, TypeError: an argument is outside its range.
    """

    share: str | float | Fraction = "0.3"
    language: str | None = "english"
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        share = exact_decimal("share", self.share, "in (0, 1), for example '0.3'")
        if not 0 < share < 1 or FINEST_SHARE % share.denominator:
            raise ValueError(
                f"share must be in (0, 1) with at most three decimals, got {self.share!r}; for the "
                "model alone leave coverage out"
            )
        object.__setattr__(self, "share", share)
        if not isinstance(self.language, str | None):
            raise TypeError(
                f"language must be a name or None, got {self.language!r}; try 'english'"
            )
        if self.language is not None:
            _stemmer(self.language)
        if self.weights is not None:
            _check_weights(self.weights)
            object.__setattr__(self, "weights", dict(self.weights))

    def __hash__(self) -> int:
        return hash((self.share, self.language))

    def of(self, query: str, documents: Sequence[Sequence[str]]) -> Coverage:
        """The coverage of documents given as words, in the order given."""
        keys = sorted({self.key(word) for word in query.split()} - {""})
        raw = [self._weight(key) for key in keys]
        total = math.fsum(raw)
        weights = [int(UNIT * weight / total) if total else 0 for weight in raw]
        wanted = set(keys)
        known: dict[tuple[str, ...], list[int]] = {}
        rows = []
        for words in documents:
            document = tuple(words)
            if document not in known:
                found = Counter(key for key in map(self.key, document) if key in wanted)
                known[document] = [min(found[key], len(keys)) for key in keys]
            rows.append(known[document])
        return Coverage(
            share=Fraction(self.share),
            weights=np.array(weights, dtype=np.int64),
            counts=np.array(rows, dtype=np.int64).reshape(len(rows), len(keys)),
            language=self.language,
        )

    def key(self, word: str) -> str:
        """What is compared of a word: its stem; empty for punctuation."""
        return _key(word, self.language)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain data, for YAML."""
        weights = None if self.weights is None else dict(self.weights)
        return {"share": str(self.share), "language": self.language, "weights": weights}

    def _weight(self, key: str) -> float:
        table, rarest = self._table
        return table.get(key, rarest)

    @functools.cached_property
    def _table(self) -> tuple[dict[str, float], float]:
        if self.weights is None:
            return _common(self.language)
        table: dict[str, float] = {}
        for word, weight in self.weights.items():
            key = self.key(word)
            table[key] = max(float(weight), table.get(key, 0.0))
        return table, max(table.values(), default=1.0)


@dataclass(frozen=True)
class Coverage:
    """The words of one query in each document of a list.

    Attributes:
        share: share of the score.
        weights: int64 of shape (terms,), in units of 1/UNIT, with a sum of at most UNIT.
        counts: int64 of shape (documents, terms): how often a document has a term, at most
            ``terms`` times.
        language: of the stemmer that compared words, ``None`` for words as they are.
    """

    share: Fraction
    weights: Integers
    counts: Integers
    language: str | None = None

    @property
    def terms(self) -> int:
        """A number of edits beyond which further ones change nothing."""
        return len(self.weights)

    def score(self) -> Integers:
        """Sum of the weights of the terms a document has, shape (documents,), in 0..UNIT."""
        covered: Integers = (self.weights * (self.counts > 0)).sum(axis=1)
        return covered

    def mixed(self, of_copies: Integers, of_terms: Integers, copies: int) -> Integers:
        """The whole score, or a change of it, from its two parts.

        Args:
            of_copies: sum over masked copies, in units of 1/UNIT.
            of_terms: from :meth:`score`, :meth:`gain` or :meth:`loss`.
            copies: number of masked copies.

        Returns:
            In units of 1 / (UNIT * copies * share.denominator).
        """
        share = self.share
        mixed: Integers = (
            share.denominator - share.numerator
        ) * of_copies + share.numerator * copies * of_terms
        return mixed

    def gain(self, edits: int, most: Sequence[int] | None = None) -> Integers:
        """Largest rise by ``edits`` edited words, shape (documents,).

        Args:
            edits: at least 0.
            most: number of words of each document, where an edit replaces one.
        """
        missing = np.where(self.counts > 0, 0, self.weights)
        ordered = np.sort(missing, axis=1)[:, ::-1]
        room = np.full(len(missing), edits) if most is None else np.minimum(edits, most)
        counted = np.arange(self.terms) < room[:, None]
        rise: Integers = (ordered * counted).sum(axis=1)
        return rise

    def loss(self, edits: int) -> Integers:
        """Bound on the fall by ``edits`` edited words, shape (documents,).

        A term is lost when each of its occurrences is edited, so at most ``edits`` terms are, none
        of which occurs more often than that.
        """
        fragile = (self.counts > 0) & (self.counts <= edits)
        ordered = np.sort(np.where(fragile, self.weights, 0), axis=1)[:, ::-1]
        fall: Integers = ordered[:, :edits].sum(axis=1)
        return fall


def coverage_named(settings: TermCoverage | Mapping[str, Any] | None) -> TermCoverage | None:
    """A coverage from plain settings, as configuration files and models have them."""
    if settings is None or isinstance(settings, TermCoverage):
        return settings
    unknown = sorted(set(settings) - {"share", "language", "weights"})
    if unknown:
        raise ValueError(
            f"coverage has no setting {', '.join(unknown)}; it has share, language, weights"
        )
    return TermCoverage(**settings)


@functools.lru_cache(maxsize=65536)
def _key(word: str, language: str | None) -> str:
    inner = _INNER.search(word.casefold())
    if inner is None:
        return ""
    bare = inner[0].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if language is None:
        return bare
    with _STEMMING:
        stem: str = _stemmer(language).stemWord(bare)
    return stem


@functools.lru_cache(maxsize=8)
def _stemmer(language: str) -> Any:
    import snowballstemmer

    known = snowballstemmer.algorithms()
    if language not in known:
        raise ValueError(f"language must be None or one of {sorted(known)}, got {language!r}")
    return snowballstemmer.stemmer(language)


@functools.lru_cache(maxsize=8)
def _common(language: str | None) -> tuple[dict[str, float], float]:
    words = common_words() if language in (None, "english", "porter") else ()
    table: dict[str, float] = {}
    for rank, word in enumerate(words, start=1):
        table.setdefault(_key(word, language), math.log1p(rank / LEVEL))
    return table, math.log1p(len(words) / LEVEL) or 1.0


@functools.cache
def common_words() -> tuple[str, ...]:
    """The most common English words, most common first, in the order of BERT's vocabulary."""
    path = files("robust_components.smoothing").joinpath("common_words.txt")
    return tuple(path.read_text(encoding="utf-8").split())


def _check_weights(weights: Mapping[str, float]) -> None:
    if not isinstance(weights, Mapping):
        raise TypeError(
            f"weights must be numbers by word, got {type(weights).__name__}; pass a dictionary"
        )
    items: Iterable[tuple[Any, Any]] = weights.items()
    for word, weight in items:
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not isinstance(word, str) or not number or not 0 <= weight < math.inf:
            raise ValueError(
                f"weights[{word!r}] must be a finite number of at least 0 by a word, got {weight!r}"
            )
    if weights and not max(weights.values()):
        raise ValueError("weights are all 0; give words that matter a weight above 0")
