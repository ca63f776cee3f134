"""Secure decoding: an answer built token by token from passages that are each read alone.

Every *source* that does not abstain adds its next-token distribution; the leading token is emitted
if it leads by more than eta times the number of such sources, else the token the model would give
without passages. No guarantee is made here: see :mod:`robust_components.rag.certify_decoding_path`
and :mod:`robust_components.rag.certify_decoding`.

Source: Xiang et al. 2024, "Certifiably Robust RAG against Retrieval Corruption" (arXiv
2405.15556), Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from robust_components.answers import LONGEST_ANSWER, is_abstention
from robust_components.models.protocols import TokenSession
from robust_components.rag.decoding_step import (
    MAX_PASSAGES,
    SUM_TOLERANCE,
    DecodingSettings,
    StepTable,
    Voter,
    fixed_point,
    reach,
    shorten,
)
from robust_components.rag.scenarios import PassageList, by_source

BAD_DISTRIBUTION = "the next-token distribution has NaN, a negative value or a sum above 1"


class IsolatedSources:
    """The passages of one question as Algorithm 2 and its certificate see them.

    Distributions are read from the session once per prefix and kept in short form, so that
    certification reuses what decoding read. A passage fails when the session says so, or when its
    abstention probability or a distribution is no number in range (NaN, negative, sum above 1).
    Its whole source then counts as hostile: see :attr:`passages`.

    Args:
        session: the question with its passages, opened on a token model; not closed here.
        passages: sources and length of the list, in the order of the session's rows.
        settings: parameters of Algorithm 2.

    Attributes:
        voters: the responding sources, J: indices of each one's responding passages.
        failures: for each passage, why it counts as hostile, or ``None``; grows while decoding.
        model_rows: next-token distributions asked of the model so far, no-retrieval ones included.

    Raises:
        ValueError: the session's rows do not match the list, or the list is too long.
    """

    def __init__(
        self, session: TokenSession, passages: PassageList, settings: DecodingSettings
    ) -> None:
        abstention = np.asarray(session.abstention, dtype=np.float64)
        size = len(passages.sources)
        if abstention.shape != (size,) or len(session.failures) != size:
            raise ValueError(
                f"the session must have one row a passage: got {abstention.shape} abstention "
                f"probabilities and {len(session.failures)} failures for {size} passages; "
                "open it with the same passages"
            )
        if passages.top_k > MAX_PASSAGES:
            raise ValueError(
                f"top_k must be at most {MAX_PASSAGES}, got {passages.top_k}; shorten the list"
            )
        self.session = session
        self.settings = settings
        self._listed = passages
        self.failures = [
            _row_failure(marked, failure, probability)
            for marked, failure, probability in zip(
                passages.failed, session.failures, abstention, strict=True
            )
        ]
        silenced = self.passages.failed_sources
        gamma = float(Fraction(str(settings.gamma)))
        near = float(Fraction(str(settings.numerical_margin)))
        responding = []
        for i, source in enumerate(passages.sources):
            if source in silenced:
                continue
            if abstention[i] < gamma:
                responding.append(i)
            if near and abs(abstention[i] - gamma) <= near:
                self.failures[i] = "Pr[abstention] is within numerical_margin of gamma"
        self._responding = tuple(responding)
        self.voters = self.voters_among(range(size))
        self.model_rows = 0
        self._tables: dict[tuple[int, ...], StepTable] = {}
        self._fallbacks: dict[tuple[int, ...], int] = {}

    @property
    def passages(self) -> PassageList:
        """The list, with every passage marked that failed so far."""
        failed = tuple(failure is not None for failure in self.failures)
        return PassageList(self._listed.sources, failed, self._listed.top_k)

    def voters_among(self, kept: Sequence[int]) -> tuple[Voter, ...]:
        """The responding sources when only the passages ``kept`` are left, in rank order."""
        responding = [i for i in kept if i in self._responding]
        return tuple(map(tuple, by_source(self._listed.sources, responding).values()))

    def fallback(self, prefix: tuple[int, ...]) -> int:
        """The token the model gives after ``prefix`` without passages."""
        if prefix not in self._fallbacks:
            self._fallbacks[prefix] = int(self.session.no_retrieval_token(prefix))
            self.model_rows += 1
        return self._fallbacks[prefix]

    def table(self, prefix: tuple[int, ...]) -> StepTable:
        """Read the step after ``prefix``, or recall it.

        Raises:
            ValueError: the session returned an array of the wrong shape.
        """
        if prefix not in self._tables:
            self._tables[prefix] = self._read(prefix)
        return self._tables[prefix]

    def _distributions(self, prefix: tuple[int, ...], rows: Sequence[int]) -> NDArray[np.float64]:
        """All rows at once; if that raises, one by one, so that one row fails alone."""
        try:
            every = self.session.next_probabilities(prefix, rows)
            return np.asarray(every, dtype=np.float64, order="C")
        except Exception:  # a row that raises counts as hostile, if another one works
            found: dict[int, NDArray[np.float64]] = {}
            for row in rows:
                try:
                    one = self.session.next_probabilities(prefix, (row,))
                    found[row] = np.array(one, dtype=np.float64)[0]
                except Exception as why:
                    self.failures[row] = f"{type(why).__name__}: {why}"[:200]
            if not found:
                raise
            width = len(next(iter(found.values())))
            nothing = np.zeros(width)
            return np.array([found.get(row, nothing) for row in rows], order="C")

    def _read(self, prefix: tuple[int, ...]) -> StepTable:
        rows = self._responding
        raw = self._distributions(prefix, rows)
        self.model_rows += len(rows)
        if raw.ndim != 2 or len(raw) != len(rows) or raw.shape[1] < 1:
            raise ValueError(
                f"next_probabilities must return shape ({len(rows)}, vocabulary), got {raw.shape}; "
                "correct the token session"
            )
        units, sound = fixed_point(raw)
        for i in (row for row, good in zip(rows, sound, strict=True) if not good):
            self.failures[i] = BAD_DISTRIBUTION
        mass = units
        if len(rows) < len(self.failures):
            mass = np.zeros((len(self.failures), units.shape[1]), dtype=np.int64)
            mass[list(rows)] = units
        full = StepTable(
            prefix=prefix,
            emitted=-1,
            fell_back=False,
            tokens=np.arange(units.shape[1]),
            mass=mass,
            rest=np.zeros(len(self.failures), dtype=np.int64),
            rest_total=0,
        )
        sums = full.votes(self.voters)[0].sum(axis=0)
        outcome = reach(
            sums[None],
            np.zeros(1, dtype=np.int64),
            voters=np.array([len(self.voters)]),
            newcomers=np.array([0]),
            eta=self.settings.exact_eta,
        )
        fell_back = bool(outcome.falls_back[0])
        emitted = self.fallback(prefix) if fell_back else int(outcome.wins[0].argmax())
        return shorten(full, sums, emitted, fell_back, self.settings.tracked_tokens)


def _row_failure(marked: bool, failure: str | None, abstention: float) -> str | None:
    if failure is not None or marked:
        return failure or "marked as failed"
    if not 0.0 <= abstention <= 1.0 + SUM_TOLERANCE:
        return f"Pr[abstention] is {abstention}"
    return None


@dataclass(frozen=True)
class Decoding:
    """An answer and the steps it came from.

    Attributes:
        tokens: emitted token ids, end-of-sequence included if it was emitted.
        pieces: what each token adds to the text; see :class:`Spelling`.
        text: the answer, which is the pieces joined; the abstention when nothing was decoded, or
            what was decoded is no answer (see :func:`spelled`).
        abstained: whether ``text`` is the abstention.
        steps: one table for each emitted token.
    """

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    text: str
    abstained: bool
    steps: tuple[StepTable, ...]

    @classmethod
    def of(cls, sources: IsolatedSources, steps: Sequence[StepTable]) -> Decoding:
        """The decoding with these steps."""
        tokens = tuple(step.emitted for step in steps)
        answer = spelled(sources, tokens)
        text = sources.settings.abstention if answer is None else answer
        return cls(tokens, pieces(sources, tokens), text, answer is None, tuple(steps))


class Spelling:
    """The text of an answer, piece by piece, such that no piece is ever taken back.

    The bytes of one character may come from several tokens; until the last of them is there,
    tokenizers show U+FFFD, which is held back at the end of a text.

    Args:
        session: spells tokens.

    Raises:
        ValueError: the session takes back what it spelled before.
    """

    def __init__(self, session: TokenSession) -> None:
        self._session = session
        self._tokens: list[int] = []
        self._shown = ""
        self._spelled = ""

    def add(self, token: int) -> str:
        """What the text gains by ``token``; end-of-sequence brings what was held back."""
        if token == self._session.eos:
            return self.rest()
        self._tokens.append(token)
        self._spelled = self._session.text(self._tokens)
        return self._gain(self._spelled.rstrip("\ufffd"))

    def rest(self) -> str:
        """What is still held back when the answer ends."""
        return self._gain(self._spelled)

    def _gain(self, text: str) -> str:
        if self._shown.startswith(text):
            return ""
        if not text.startswith(self._shown):
            raise ValueError(
                f"text(tokens) of a token session must begin with the text of fewer tokens, but "
                f"{self._shown[-40:]!r} became {text[-40:]!r}; correct the session"
            )
        gained = text[len(self._shown) :]
        self._shown = text
        return gained


def pieces(sources: IsolatedSources, tokens: Sequence[int]) -> tuple[str, ...]:
    """What each token adds to the text; what is held back at the end goes to the last one."""
    spelling = Spelling(sources.session)
    found = [spelling.add(token) for token in tokens]
    if found:
        found[-1] += spelling.rest()
    return tuple(found)


def spelled(sources: IsolatedSources, tokens: Sequence[int]) -> str | None:
    """The answer that ``tokens`` spell, or ``None`` for an abstention.

    They abstain if there are none, and if the text is blank, says "I don't know" (see
    :func:`robust_components.answers.is_abstention`) or is longer than ``LONGEST_ANSWER``.
    """
    text = "".join(pieces(sources, tokens))
    blank = not text.strip() or len(text) > LONGEST_ANSWER
    return None if blank or is_abstention(text) else text


def stream(sources: IsolatedSources) -> Iterator[StepTable]:
    """Algorithm 2, step by step; ends after end-of-sequence or ``max_tokens``.

    Yields nothing when no source responds.
    """
    prefix: tuple[int, ...] = ()
    while sources.voters and len(prefix) < sources.settings.max_tokens:
        table = sources.table(prefix)
        yield table
        if table.emitted == sources.session.eos:
            return
        prefix = (*prefix, table.emitted)


def decode(sources: IsolatedSources) -> Decoding:
    """Algorithm 2 to its end. An answer that reaches ``max_tokens`` is the text so far."""
    return Decoding.of(sources, tuple(stream(sources)))
