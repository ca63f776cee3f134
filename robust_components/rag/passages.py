"""Passages and their sources: one source is one attacker unit, with one vote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from robust_components.models.protocols import Reading
from robust_components.notices import warn_caller

DEFAULT_SOURCE_KEY = "source_id"
_HASH = re.compile(r"[0-9a-fA-F-]{32,}")
UNREADABLE_HOST = "host that cannot be read"


@dataclass(frozen=True)
class Passage:
    """One retrieved passage.

    Attributes:
        text: what the model reads.
        source: who wrote it; passages with one source count as one attacker unit. ``None`` makes
            the passage a source of its own.
        id: identity of the document, which names its source where ``source`` does not.
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
        unused: why the passage was not read (beyond ``top_k``), or ``None``.
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

    def details(self) -> dict[str, Any]:
        """Everything but the text, as plain data: for a document's metadata."""
        details = asdict(self)
        del details["text"]
        return details

    def with_reading(self, reading: Reading) -> PassageResult:
        return replace(
            self,
            answer=reading.answer,
            abstained=reading.answer is None,
            probability=reading.probability,
            failure=reading.failure,
            truncated=reading.truncated,
        )


def source_keys(source_key: Any) -> tuple[str, ...]:
    """The metadata fields that may name a document's source, in order.

    Args:
        source_key: one field, or several; ``"host:url"`` is the host name of the URL in ``url``.

    Raises:
        ValueError: no field is named.
    """
    keys = (source_key,) if isinstance(source_key, str) else source_key
    keys = tuple(keys) if isinstance(keys, Sequence) else ()
    if not keys or not all(isinstance(key, str) and key.removeprefix("host:") for key in keys):
        raise ValueError(
            f"source_key must name a metadata field, or several, got {source_key!r}; "
            "pass for example 'source_id' or 'host:url'"
        )
    return keys


def source_of(meta: Mapping[str, Any], source_key: str | Sequence[str]) -> str | None:
    """The source id in a document's metadata: the first value under one of ``source_key``.

    Raises:
        ValueError: no field is named.
    """
    for key in source_keys(source_key):
        value = meta.get(key.removeprefix("host:"))
        if value is not None and value != "":
            return _host(str(value)) if key.startswith("host:") else str(value)
    return None


def warn_if_unnamed(passages: Sequence[str | Passage], source_key: str | Sequence[str]) -> None:
    """Warn when there are documents, and none of them says who wrote it."""
    documents = [passage for passage in passages if isinstance(passage, Passage)]
    if documents and all(passage.source is None for passage in documents):
        keys = " or ".join(map(repr, source_keys(source_key)))
        warn_caller(
            f"no document has {keys} in its metadata, so each counts as a source of its own, and "
            "whoever wrote several has several votes; name the field that tells who wrote a "
            "document with source_key, for example 'host:url'"
        )


def _host(url: str) -> str:
    """Host name of ``url``, scheme or not; one name for all that have none."""
    try:
        host = urlsplit(url if "//" in url else "//" + url).hostname
    except ValueError:
        host = None
    return (host or UNREADABLE_HOST).rstrip(".").lower()


def encodable(text: str) -> str:
    """The text with a question mark for each lone surrogate, which tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def prepare(passages: Sequence[str | Passage], top_k: int | None) -> list[PassageResult]:
    """Give every passage a source, and mark those that will not be read.

    Passages beyond ``top_k`` are kept in the result with ``unused`` saying so. Repetitions are read
    like any other passage: they hold slots of the list, and their source has one vote.

    Raises:
        TypeError: ``passages`` is a string, or a passage is no text.
    """
    if isinstance(passages, (str, bytes, Passage)) or not isinstance(passages, Iterable):
        raise TypeError(
            f"passages must be a list of strings or Passage objects, got one "
            f"{type(passages).__name__}; put it in a list"
        )
    results: list[PassageResult] = []
    used = 0
    for passage, source in _with_sources([_as_passage(*pair) for pair in enumerate(passages)]):
        unused = None
        if top_k is not None and used >= top_k:
            unused = f"beyond top_k={top_k}"
        else:
            used += 1
        results.append(PassageResult(text=passage.text, source=source, unused=unused))
    return results


def _as_passage(position: int, item: Any) -> Passage:
    passage = Passage(item) if isinstance(item, str) else item
    if not isinstance(passage, Passage) or not isinstance(passage.text, str):
        text = passage.text if isinstance(passage, Passage) else passage
        raise TypeError(
            f"passage {position} must be text, got {type(text).__name__}; "
            "pass a string or a Passage with a string text"
        )
    return passage


def _with_sources(passages: Sequence[Passage]) -> Iterator[tuple[Passage, str]]:
    """Each passage with its source: as given, else by its id, else a name nothing else has.

    An id that is a hash would tell nobody anything, so it is shortened and numbered.
    """
    explicit = {str(p.source) for p in passages if p.source is not None}
    ids = {str(p.id) for p in passages if p.source is None and p.id is not None}
    taken = explicit | ids
    named: dict[str, str] = {}
    for position, passage in enumerate(passages, start=1):
        if passage.source is not None:
            yield passage, str(passage.source)
        elif passage.id is None:
            yield passage, _fresh(f"passage {position}", taken)
        else:
            name = str(passage.id)
            if name not in named:
                hashed = _HASH.fullmatch(name) and name not in explicit
                short = f"document {position} ({name[:8]})"
                named[name] = _fresh(short, taken) if hashed else name
            yield passage, named[name]


def _fresh(name: str, taken: Set[str]) -> str:
    while name in taken:
        name += "'"
    return name
