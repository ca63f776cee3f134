"""What a model has to offer. Any object with these methods will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reading:
    """What a model made of one passage.

    Attributes:
        answer: the answer, or ``None`` when the model abstains ("I don't know").
        probability: the model's own probability for ``answer``, if it has one.
        failure: why the call produced no usable response (exception, time-out, empty text), or
            ``None``. A failed reading counts as hostile.
        truncated: the passage was longer than the model's limit and was cut.
        tokens: model tokens read and written, as far as known.
        calls: calls of the model this took, retries included.
        span: character range of the answer in the passage, if the model extracts.
    """

    answer: str | None
    probability: float | None = None
    failure: str | None = None
    truncated: bool = False
    tokens: int = 0
    calls: int = 1
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Completion:
    """What a text generator made of one prompt.

    Attributes:
        text: the response, or ``None`` when there is none.
        failure: why there is none.
        tokens: tokens of prompt and response as the provider counts them; 0 when it does not say.
        calls: calls of the model this took, retries included.
    """

    text: str | None
    failure: BaseException | None = None
    tokens: int = 0
    calls: int = 1


class ModelFailedError(RuntimeError):
    """The model gave no usable response to any passage, so that there is nothing to answer from."""


@runtime_checkable
class PassageReader(Protocol):
    """Answers a question from one passage at a time, each in isolation.

    ``read`` returns one :class:`Reading` a passage, in order; a reading must depend on its own
    passage and the query alone. ``combine`` answers from a set of keywords, given in a fixed order.
    """

    name: str
    fingerprint: str

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]: ...

    def combine(self, query: str, keywords: Sequence[str]) -> Reading: ...


@runtime_checkable
class TextGenerator(Protocol):
    """Completes prompts, one string a prompt. Decoding must be greedy for a certificate to hold.

    An element of the result may be an ``Exception`` instead of a string: that call failed. It may
    be a :class:`Completion`, which says what the call took.
    """

    def generate(self, prompts: Sequence[str]) -> Sequence[Any]: ...


class TokenSession(Protocol):
    """One question with its passages, read once; next-token distributions on demand.

    Attributes:
        eos: id of the end-of-sequence token.
        abstention: float64 array of shape (rows,): each row's probability of "I don't know".
        truncated: for each row, whether its passage was cut.
        failures: for each row, why it produced no distribution, or ``None``.

    A session may also count, for whoever measures cost: ``token_rows``, the tokens of prompts and
    answers it fed to its model for the rows asked for (a shared beginning counts once, when it is
    fed), and ``padding_rows``, what it fed besides.
    """

    eos: int
    abstention: NDArray[np.float64]
    truncated: list[bool]
    failures: list[str | None]

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        """Next-token distributions after ``prefix``: float64 of shape (len(rows), vocabulary)."""
        ...

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        """Greedy next token of the same model when it reads no passage."""
        ...

    def token_text(self, token: int) -> str:
        """A stable name of one token; distinct tokens have distinct names."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The string that ``tokens`` (without end-of-sequence) spell.

        The string of a prefix is a prefix of the string, but for a character at its end that lacks
        bytes, which is shown as U+FFFD.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class TokenModel(Protocol):
    """Opens a session over a question and isolated passages; used by secure decoding."""

    name: str
    fingerprint: str

    def open(self, query: str, passages: Sequence[str]) -> TokenSession: ...


@runtime_checkable
class PairScorer(Protocol):
    """Scores (query, document) pairs, each alone; higher is more relevant."""

    def score(self, query: str, documents: Sequence[str]) -> Sequence[float]: ...


@runtime_checkable
class TextClassifier(Protocol):
    """Labels texts, each alone; ``None`` abstains."""

    def classify(self, texts: Sequence[str]) -> Sequence[str | None]: ...


@runtime_checkable
class ProbabilisticClassifier(Protocol):
    """Gives each text, alone, one probability a label.

    Attributes:
        labels: distinct names, in the order of the columns; at least one.
    """

    labels: tuple[str, ...]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """Float array of shape (texts, labels), each row adding up to at most 1."""
        ...


@runtime_checkable
class SentenceEncoder(Protocol):
    """Embeds texts into float vectors of shape (texts, dimension)."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]: ...
