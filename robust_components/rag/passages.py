"""Passages and their sources: one source is one attacker unit, with one vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from robust_components.models.protocols import Reading

DEFAULT_SOURCE_KEY = "source_id"


@dataclass(frozen=True)
class Passage:
    """One retrieved passage.

    Attributes:
        text: what the model reads.
        source: who wrote it; passages with one source count as one attacker unit. ``None`` makes
            the passage a source of its own.
        id: identity of the document; a second passage with the same id is left out.
    """

    text: str
    source: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class PassageResult:
    """What became of one passage.

    Attributes:
        text: the passage as given.
        source: its source id.
        answer: the model's answer from this passage alone, or ``None``.
        abstained: the model said it does not know.
        vote: the answer its source's vote counted for, normalised, or ``None`` for no vote.
        supports: whether its source supports the aggregated answer; ``None`` when it did not vote.
        probability: the model's own probability for ``answer``, if it has one.
        failure: why the row counts as hostile, or ``None``.
        truncated: the passage was cut to the model's limit.
        unused: why the passage was not read (duplicate, beyond ``top_k``), or ``None``.
    """

    text: str
    source: str
    answer: str | None = None
    abstained: bool = True
    vote: str | None = None
    supports: bool | None = None
    probability: float | None = None
    failure: str | None = None
    truncated: bool = False
    unused: str | None = None

    def with_reading(self, reading: Reading) -> PassageResult:
        return replace(
            self,
            answer=reading.answer,
            abstained=reading.answer is None,
            probability=reading.probability,
            failure=reading.failure,
            truncated=reading.truncated,
        )


def source_of(
    meta: Mapping[str, Any], document_id: str | None, source_key: str = DEFAULT_SOURCE_KEY
) -> str | None:
    """The source id of a framework's document.

    ``source_key`` names a metadata field; with the prefix ``"host:"`` the host name of the URL in
    that field counts (``"host:url"``). Without a value the document is its own source.
    """
    wants_host = source_key.startswith("host:")
    value = meta.get(source_key.removeprefix("host:"))
    if value is None or value == "":
        return document_id
    if not wants_host:
        return str(value)
    host = urlsplit(str(value)).hostname
    return host or str(value)


def prepare(passages: Sequence[str | Passage], top_k: int | None) -> list[PassageResult]:
    """Give every passage a source, and mark those that will not be read.

    Passages with an id seen before, and passages beyond ``top_k``, are kept in the result with
    ``unused`` saying why.

    Raises:
        TypeError: ``passages`` is a string, or a passage is no text.
    """
    if isinstance(passages, (str, bytes)):
        raise TypeError(
            f"passages must be a list of strings or Passage objects, got one "
            f"{type(passages).__name__}; put it in a list"
        )
    named = {p.source for p in passages if isinstance(p, Passage)}
    results: list[PassageResult] = []
    seen: set[str] = set()
    used = 0
    for position, item in enumerate(passages):
        passage = Passage(item) if isinstance(item, str) else item
        if not isinstance(passage, Passage) or not isinstance(passage.text, str):
            text = passage.text if isinstance(passage, Passage) else passage
            raise TypeError(
                f"passage {position} must be text, got {type(text).__name__}; "
                "pass a string or a Passage with a string text"
            )
        source = passage.source
        if source is None:
            source = passage.id if passage.id is not None else f"passage {position + 1}"
            while passage.id is None and source in named:
                source += "'"
        unused = None
        if passage.id is not None and passage.id in seen:
            unused = f"duplicate id {passage.id!r}"
        elif top_k is not None and used >= top_k:
            unused = f"beyond top_k={top_k}"
        else:
            used += 1
        if passage.id is not None:
            seen.add(passage.id)
        results.append(PassageResult(text=passage.text, source=str(source), unused=unused))
    return results
