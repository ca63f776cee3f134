"""Models by name, as every aggregation needs them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robust_components.answers import is_abstention
from robust_components.models.memo import MemoReader
from robust_components.models.protocols import Reading, TokenModel
from robust_components.models.token_models import load_token_model

HELP = "'reader' (the embedded one), a GGUF file, or a folder or hub name of transformers"


@dataclass(frozen=True)
class Subject:
    """A model under evaluation.

    Attributes:
        reader: for voting and keywords; also reads all passages at once, as a plain pipeline does.
        tokens: for decoding.
    """

    reader: Any
    tokens: TokenModel


class GreedyReader:
    """A token model as a reader: the greedy answer to each passage alone.

    Args:
        tokens: reads a passage.
        combiner: reads keywords in place of a passage; ``tokens`` when ``None``.
        gamma: a passage abstains from this probability of "I don't know" on.
        max_tokens: longest answer.
    """

    def __init__(
        self,
        tokens: TokenModel,
        combiner: TokenModel | None = None,
        *,
        gamma: float = 0.99,
        max_tokens: int = 64,
    ) -> None:
        self.tokens = tokens
        self.combiner = tokens if combiner is None else combiner
        self.gamma = gamma
        self.max_tokens = max_tokens
        self.name = tokens.name
        self.fingerprint = tokens.fingerprint

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]:
        return self._read(self.tokens, query, passages)

    def combine(self, query: str, keywords: Sequence[str]) -> Reading:
        return self._read(self.combiner, query, [", ".join(keywords)])[0]

    def read_together(self, query: str, passages: Sequence[str]) -> Reading:
        """One passage can silence all others here; this is the baseline, not the defence."""
        return self.read(query, ["\n\n".join(passages)])[0]

    def _read(self, model: TokenModel, query: str, passages: Sequence[str]) -> list[Reading]:
        session = model.open(query, passages)
        try:
            return [self._answer(session, row) for row in range(len(passages))]
        finally:
            session.close()

    def _answer(self, session: Any, row: int) -> Reading:
        if session.failures[row] is not None:
            return Reading(None, failure=session.failures[row])
        if session.abstention[row] >= self.gamma:
            return Reading(None, truncated=session.truncated[row])
        tokens: tuple[int, ...] = ()
        while len(tokens) < self.max_tokens:
            token = int(session.next_probabilities(tokens, (row,))[0].argmax())
            if token == session.eos:
                break
            tokens = (*tokens, token)
        text = session.text(tokens).strip()
        answer = None if not text or is_abstention(text) else text
        return Reading(answer, truncated=session.truncated[row])


class MemoTokens:
    """A token model that keeps the sessions of one question, and what they said.

    Several certificates of one list then cost one reading of it. Sound for a model that gives the
    same numbers for the same prompts, as every certificate assumes.
    """

    def __init__(self, tokens: TokenModel) -> None:
        self.tokens = tokens
        self.name, self.fingerprint = tokens.name, tokens.fingerprint
        threshold = getattr(tokens, "abstention_threshold", None)
        if threshold is not None:
            self.abstention_threshold = threshold
        self._query: str | None = None
        self._sessions: dict[tuple[str, ...], _KeptSession] = {}

    def open(self, query: str, passages: Sequence[str]) -> Any:
        if query != self._query:
            self.forget()
            self._query = query
        key = tuple(passages)
        if key not in self._sessions:
            self._sessions[key] = _KeptSession(self.tokens.open(query, passages))
        return self._sessions[key]

    def forget(self) -> None:
        for kept in self._sessions.values():
            kept.session.close()
        self._sessions.clear()


class _KeptSession:
    """A session that stays open and reads every distribution once."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self._read: dict[tuple[tuple[int, ...], tuple[int, ...]], Any] = {}

    def next_probabilities(self, prefix: tuple[int, ...], rows: Sequence[int]) -> Any:
        key = (prefix, tuple(rows))
        if key not in self._read:
            self._read[key] = self.session.next_probabilities(prefix, rows)
        return self._read[key]

    def close(self) -> None:
        """The memo closes it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


def load_tokens(name: str, **options: Any) -> Any:
    """The token model of that name.

    Args:
        options: for the model's loader; the embedded reader takes none.
    """
    if name == "reader":
        from robust_components.models.embedded import MANY_PASSAGES, load_reader

        return load_reader(threshold=MANY_PASSAGES)
    if name.lower().endswith(".gguf"):
        return load_token_model(name, **options)
    from transformers import AutoTokenizer

    from robust_components.models.transformers_tokens import TransformersTokenModel

    network = _transformers(name).model
    return TransformersTokenModel(network, AutoTokenizer.from_pretrained(name), **options)


@functools.cache
def _transformers(name: str) -> Any:
    """The weights, loaded once for all prompts."""
    return load_token_model(name)


def load_subject(name: str, *, max_tokens: int = 64) -> Subject:
    """The model for short answers; readings and sessions of a question are made once."""
    tokens = load_tokens(name)
    reader = tokens if name == "reader" else GreedyReader(tokens, max_tokens=max_tokens)
    return subject(reader, tokens)


def subject(reader: Any, tokens: TokenModel) -> Subject:
    memo = MemoReader(reader)
    memo.read_together = reader.read_together  # type: ignore[attr-defined]
    return Subject(memo, MemoTokens(tokens))
