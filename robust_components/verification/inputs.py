"""What a certificate is about: digests of the question and of the passages, with their sources."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robust_components.verification.passages import MAX_PASSAGES, RankedList
from robust_components.verification.reading import UnverifiableError, entry, listing, shown

_SHA256 = re.compile(r"[0-9a-f]{64}")


def concerns(
    certificate: Mapping[str, Any],
    query: str,
    passages: Sequence[str],
    sources: Sequence[str] | None = None,
) -> bool:
    """Whether a certificate is about this question and these passages, in this order.

    Args:
        certificate: the output of ``Certificate.to_dict()``.
        query: the question.
        passages: the texts that were read; none of those beyond ``top_k``. For one document of a
            ranked list that document, or all candidates.
        sources: the source of each passage; not compared when ``None``.

    Raises:
        TypeError: the question, a passage or a source is no text.
    """
    for name, texts in (("query", [query]), ("passages", passages), ("sources", sources or ())):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{name} must be text, got {shown(texts)}; pass strings")
    evidence = certificate.get("evidence")
    stated = evidence.get("inputs") if isinstance(evidence, Mapping) else None
    if not isinstance(stated, Mapping):
        return False
    digests = [digest_of(text) for text in passages]
    return (
        stated.get("query") == digest_of(query)
        and (stated.get("passages") == digests or _among(stated, digests))
        and (sources is None or stated.get("sources") == list(sources))
    )


def _among(stated: Mapping[str, Any], digests: Sequence[str]) -> bool:
    """Whether ``digests`` are the candidates among which one document was ranked."""
    named = stated.get("passages")
    return (
        isinstance(named, list)
        and all(one in digests for one in named)
        and stated.get("candidates") == list_digest(digests)
    )


def list_digest(digests: Sequence[str]) -> str:
    """SHA-256 of the digests of a list, one after the other."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def digest_of(text: str) -> str:
    """SHA-256 of a text, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def input_problems(certificate: Mapping[str, Any], listed: RankedList) -> Iterator[str]:
    """Whether the inputs fit the ranked list of the evidence."""
    evidence = certificate["evidence"]
    inputs = entry(evidence, "inputs", "evidence")
    if not isinstance(inputs, dict):
        raise UnverifiableError(f"evidence['inputs'] must be an object, got {shown(inputs)}.")
    where = "evidence['inputs']"
    passages, sources = (
        listing(entry(inputs, name, where), f"{where}[{name!r}]", MAX_PASSAGES)
        for name in ("passages", "sources")
    )
    for digest in (entry(inputs, "query", where), *passages):
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise UnverifiableError(f"{where} holds {shown(digest)}, which is no SHA-256.")
    if not all(isinstance(source, str) for source in sources):
        raise UnverifiableError(f"{where}['sources'] must hold texts only.")
    if len(passages) != len(listed.owners) or _groups(sources) != _groups(listed.owners):
        yield "evidence['inputs'] is another list of passages than the one in the evidence."
    names = evidence["sources"]
    named = all(isinstance(name, str) for name in names)  # decoding numbers them
    if named and sources != [names[owner] for owner in listed.owners]:
        yield "evidence['inputs'] names other sources than the evidence."


def _groups(values: Sequence[Any]) -> list[int]:
    """Each value as the number of its first appearance."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]
