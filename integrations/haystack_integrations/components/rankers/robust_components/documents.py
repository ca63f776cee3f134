"""Haystack documents as the core's texts, and the core's ranking as Haystack documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, logging

from robust_components.ranking.result import Ranking

logger = logging.getLogger(__name__)


def texts(documents: Sequence[Document], fields: Sequence[str], separator: str) -> list[str]:
    """
    What is ranked: the values of the metadata fields and the content, joined by the separator.

    A document without text content counts as empty and is logged.
    """
    textless = [document.id for document in documents if document.content is None]
    if textless:
        logger.warning("Documents without text content are ranked as empty: {ids}", ids=textless)
    found = []
    for document in documents:
        values = [str(document.meta[field]) for field in fields if document.meta.get(field)]
        found.append(separator.join([*values, document.content or ""]))
    return found


def distinct(documents: Sequence[Document], contents: Sequence[str]) -> dict[int, int]:
    """
    Positions of the documents without repetitions, in order, and how often each was given.

    Several retrievers may bring the same document; its first place counts. Documents with one id
    but different texts are all kept: otherwise whoever copies an id could displace a document.
    """
    first: dict[tuple[str, str], int] = {}
    times: dict[int, int] = {}
    for position, (document, text) in enumerate(zip(documents, contents, strict=True)):
        place = first.setdefault((document.id, text), position)
        times[place] = times.get(place, 0) + 1
    repeated = [documents[place].id for place, number in times.items() if number > 1]
    if repeated:
        logger.warning("Documents given more than once are ranked once: {ids}", ids=repeated)
    return times


def ranked(
    documents: Sequence[Document],
    times_given: Sequence[int],
    ranking: Ranking,
    threshold: float | None,
) -> list[Document]:
    """
    Copies of the top K at or above the threshold, best first.

    :param documents: those that were ranked, in the order the ranking's indices mean.
    :param times_given: how often each was given.
    """
    found = []
    for item in ranking.top:
        if threshold is not None and item.score < threshold:
            continue
        document = documents[item.index]
        details: dict[str, Any] = item.to_dict()
        certificate = details.pop("certificate")
        details["previous_score"] = document.score
        details["times_given"] = times_given[item.index]
        meta = {**document.meta, "robust_ranking": details, "certificate": certificate}
        found.append(replace(document, score=item.score, meta=meta))
    return found
