"""Span distributions as next-token distributions over words.

The tokens are words and punctuation marks of the passages, in lower case, with a leading space
where the passage has white space before them (never at the start of an answer). An answer is
spelled by joining its tokens. For a prefix of tokens the next-token probability is the share of
span mass that continues it, and end-of-sequence gets the mass of spans that stop there: the product
along an answer is that answer's probability given that there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robust_components.models.reader_encoding import EncodedPair

EOS = "</answer>"


@dataclass(frozen=True)
class WordSpans:
    """One passage: its words and the probability of every span of words.

    Attributes:
        words: surface forms, in order.
        spaced: whether white space precedes each word.
        mass: float64 (words, words); entry (s, e) is the probability of words s..e.
        no_answer: probability of "no answer".
        truncated: whether the passage was cut.
        failure: why the passage could not be read, or ``None``.
    """

    words: tuple[str, ...]
    spaced: tuple[bool, ...]
    mass: NDArray[np.float64]
    no_answer: float
    truncated: bool
    failure: str | None = None

    @classmethod
    def failed(cls, error: Exception) -> WordSpans:
        """A passage on which the reader raised."""
        reason = f"{type(error).__name__}: {error}"[:200]
        return cls((), (), np.zeros((0, 0)), 0.0, False, reason)

    @classmethod
    def from_pieces(
        cls, pair: EncodedPair, mass: NDArray[np.float64], no_answer: float
    ) -> WordSpans:
        """Collect word-piece spans, which start and end at word boundaries, into word spans."""
        first = [i for i, flag in enumerate(pair.can_start) if flag]
        last = [i for i, flag in enumerate(pair.can_end) if flag]
        words, spaced, previous = [], [], 0
        for i, j in zip(first, last, strict=True):
            begin, end = pair.offsets[i], pair.offsets[j]
            assert begin is not None and end is not None
            words.append(pair.passage[begin[0] : end[1]])
            spaced.append(begin[0] > previous)
            previous = end[1]
        return cls(
            tuple(words), tuple(spaced), mass[np.ix_(first, last)], no_answer, pair.truncated
        )


class SpanSession:
    """A :class:`~robust_components.models.protocols.TokenSession` over span distributions."""

    def __init__(self, rows: Sequence[WordSpans]) -> None:
        self._rows = list(rows)
        names: dict[str, int] = {EOS: 0}
        for row in self._rows:
            for word in row.words:
                names.setdefault(word.lower(), len(names))
                names.setdefault(" " + word.lower(), len(names))
        self._names = list(names)
        self._initial = [
            np.array([names[w.lower()] for w in row.words], dtype=np.int64) for row in self._rows
        ]
        self._following = [
            np.array(
                [names[" " * s + w.lower()] for w, s in zip(row.words, row.spaced, strict=True)],
                dtype=np.int64,
            )
            for row in self._rows
        ]
        self._surfaces: dict[tuple[int, ...], str] = {}
        self.eos = 0
        self.abstention = np.array([row.no_answer for row in self._rows], dtype=np.float64)
        self.truncated = [row.truncated for row in self._rows]
        self.failures = [
            row.failure
            or (
                None
                if np.isfinite(row.no_answer) and np.isfinite(row.mass).all()
                else "the reader's scores are not finite"
            )
            for row in self._rows
        ]

    def _starts(self, row: int, prefix: tuple[int, ...]) -> NDArray[np.int64]:
        """Positions at which ``prefix`` occurs in the row's words."""
        initial, following = self._initial[row], self._following[row]
        starts = np.flatnonzero(initial == prefix[0]) if prefix else np.arange(len(initial))
        for offset, token in enumerate(prefix[1:], start=1):
            starts = starts[starts + offset < len(following)]
            starts = starts[following[starts + offset] == token]
        return starts

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        """Float64 (len(rows), vocabulary); all end-of-sequence where no span continues.

        A row is added up and divided before it is laid out over the vocabulary, which the other
        passages have a part in: its numbers are bit for bit the same whatever those are.
        """
        result = np.zeros((len(rows), len(self._names)), dtype=np.float64)
        for at, row in enumerate(rows):
            tokens, shares = self._continuations(row, prefix)
            result[at, tokens] = shares
        return result

    def _continuations(
        self, row: int, prefix: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Tokens that may follow, in the row's own order, with their probabilities."""
        size, mass = len(prefix), self._rows[row].mass
        starts = self._starts(row, prefix)
        longer = starts[starts + size < mass.shape[1]]
        words = self._initial[row] if not size else self._following[row]
        shares = {self.eos: math.fsum(mass[s, s + size - 1] for s in starts) if size else 0.0}
        for start in longer:
            token = int(words[start + size])
            shares[token] = shares.get(token, 0.0) + float(mass[start, start + size :].sum())
        total = math.fsum(shares.values())
        if total <= 0:  # no mass is left; NaN goes on to the caller
            shares, total = {self.eos: 1.0}, 1.0
        tokens = np.fromiter(shares, dtype=np.int64)
        return tokens, np.fromiter(shares.values(), dtype=np.float64) / total

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        """Without a passage there is nothing to extract: end-of-sequence."""
        return self.eos

    def token_text(self, token: int) -> str:
        return self._names[token]

    def text(self, tokens: Sequence[int]) -> str:
        """The tokens' surface forms, each as the highest-ranked passage with the same beginning
        writes it, so that the text of a prefix is a prefix of the text.
        """
        return "".join(self._surface(tuple(tokens[: n + 1])) for n in range(len(tokens)))

    def _surface(self, prefix: tuple[int, ...]) -> str:
        """The last word of ``prefix``, as the first passage in which ``prefix`` occurs has it."""
        if prefix not in self._surfaces:
            self._surfaces[prefix] = self._find_surface(prefix)
        return self._surfaces[prefix]

    def _find_surface(self, prefix: tuple[int, ...]) -> str:
        for row, spans in enumerate(self._rows):
            for start in self._starts(row, prefix):
                last = int(start) + len(prefix) - 1
                return (" " if spans.spaced[last] and len(prefix) > 1 else "") + spans.words[last]
        return self._names[prefix[-1]]

    def close(self) -> None:
        """Nothing to release."""
