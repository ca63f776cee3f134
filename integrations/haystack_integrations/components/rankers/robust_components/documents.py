"""Haystack documents as the core's texts, and the core's ranking as Haystack documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, logging

from robust_components.checks import listed
from robust_components.ranking.result import Ranking
from robust_components.repair.result import RepairedRanking

logger = logging.getLogger(__name__)


def texts(documents: Sequence[Document], fields: Sequence[str], separator: str) -> list[str]:
    """
    What is ranked: the values of the metadata fields and the content, joined by the separator.

    A document without text content counts as empty and is logged.

    :raises TypeError: `documents` is no list of Documents.
    """
    listed(documents, Document)
    textless = [document.id for document in documents if document.content is None]
    if textless:
        logger.warning("Documents without text content are ranked as empty: {ids}", ids=textless)
    found = []
    for document in documents:
        values = [str(document.meta[field]) for field in fields if document.meta.get(field)]
        found.append(separator.join([*values, document.content or ""]))
    return found


def check_embedding(fields: Any, separator: str, operations: str) -> None:
    """
    Whether metadata and content become words of one text as the threat counts them.

    :raises TypeError: `fields` is one text, which would be taken letter by letter.
    :raises ValueError: the separator joins words, so that deleting one changes two others.
    """
    if isinstance(fields, str):
        raise TypeError(
            f"meta_fields_to_embed must be a list of names, got {fields!r}; put it in a list"
        )
    apart = separator[:1].isspace() and separator[-1:].isspace()
    if fields and operations == "any" and not apart:
        raise ValueError(
            "embedding_separator must begin and end with white space when words are inserted and "
            f"deleted, got {separator!r}; put spaces around it"
        )


def checked_threshold(threshold: Any) -> float | None:
    """
    The threshold as a number, or `None`.

    :raises ValueError: it is no finite number.
    """
    if threshold is None:
        return None
    if isinstance(threshold, bool | str) or not math.isfinite(threshold):
        raise ValueError(
            f"score_threshold must be a finite number, got {threshold!r}; leave it out to keep all"
        )
    return float(threshold)


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


def outputs(
    core: Any,
    query: str,
    documents: Sequence[Document],
    *,
    fields: Sequence[str],
    separator: str,
    top_k: int,
    threshold: float | None,
) -> dict[str, Any]:
    """
    What a ranker's `run` returns.

    :param core: a core ranker.
    :param fields, separator: for `texts`.
    :param threshold: documents with a lower score are left out.
    """
    contents = texts(documents, fields, separator)
    times_given = distinct(documents, contents)
    ranking = core.rank(query, [contents[place] for place in times_given], top_k)
    kept = [documents[place] for place in times_given]
    return {
        "documents": ranked(kept, list(times_given.values()), ranking, threshold),
        "certificate": ranking.certificate.to_dict(),
    }


def ranked(
    documents: Sequence[Document],
    times_given: Sequence[int],
    ranking: Ranking | RepairedRanking,
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
        own = {name: details.pop(name) for name in ("certificate",) if name in details}
        details["previous_score"] = document.score
        details["times_given"] = times_given[item.index]
        meta = {**document.meta, "robust_ranking": details, **own}
        found.append(replace(document, score=item.score, meta=meta))
    return found
