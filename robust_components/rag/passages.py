"""Passages and their sources: one source is one attacker unit, with one vote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from robust_components.models.protocols import Reading

DEFAULT_SOURCE_KEY = "source_id"
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


def checked_source_key(source_key: Any) -> str:
    """Return ``source_key``, or raise a ValueError that says what it must be."""
    if not isinstance(source_key, str) or not source_key.removeprefix("host:"):
        raise ValueError(
            f"source_key must name a metadata field, got {source_key!r}; "
            "pass for example 'source_id' or 'host:url'"
        )
    return source_key


def source_of(
    meta: Mapping[str, Any], document_id: str | None, source_key: str = DEFAULT_SOURCE_KEY
) -> str | None:
    """The source id of a framework's document.

    ``source_key`` names a metadata field; with the prefix ``"host:"`` the host name of the URL in
    that field counts (``"host:url"``). Without a value the document is its own source.
    """
    value = meta.get(source_key.removeprefix("host:"))
    if value is None or value == "":
        return document_id
    return _host(str(value)) if source_key.startswith("host:") else str(value)


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
    """Each passage with its source: as given, else its id, else a name nothing else has."""
    named = [str(p.id if p.source is None else p.source) for p in passages]
    taken = {
        name
        for name, passage in zip(named, passages, strict=True)
        if passage.source is not None or passage.id is not None
    }
    for position, (name, passage) in enumerate(zip(named, passages, strict=True)):
        anonymous = passage.source is None and passage.id is None
        yield passage, _fresh(f"passage {position + 1}", taken) if anonymous else name


def _fresh(name: str, taken: Set[str]) -> str:
    while name in taken:
        name += "'"
    return name
