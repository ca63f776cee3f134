"""Haystack documents as the core's passages, and what became of them back in their metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from haystack import Document, logging

from robust_components.rag.passages import Passage, PassageResult, source_of

logger = logging.getLogger(__name__)


def to_passages(documents: Sequence[Document], source_key: str) -> list[Passage]:
    """Passages of the documents that have text content; the others are logged."""
    textless = [document.id for document in documents if document.content is None]
    if textless:
        logger.warning("Documents without text content are not read: {ids}", ids=textless)
    return [
        Passage(document.content, source=_source(document, source_key), id=document.id)
        for document in documents
        if document.content is not None
    ]


def annotate(
    documents: Sequence[Document], results: Sequence[PassageResult], source_key: str
) -> list[Document]:
    """
    Copies of all documents, in order, with their result in `meta["robust_rag"]`.

    Failed readings are logged: they count as hostile.

    :param documents: the documents given to `to_passages`.
    :param results: one result for each passage that `to_passages` returned.
    :param source_key: as for `to_passages`.
    """
    failures = [result.failure for result in results if result.failure is not None]
    if failures:
        logger.warning(
            "{failed} of {total} documents gave no usable response and count as hostile: {why}",
            failed=len(failures),
            total=len(documents),
            why=failures[0],
        )
    remaining = iter(results)
    annotated = []
    for document in documents:
        if document.content is None:
            source = _source(document, source_key)
            result = PassageResult("", source, unused="no text content")
        else:
            result = next(remaining)
        details = asdict(result)
        del details["text"]
        annotated.append(replace(document, meta={**document.meta, "robust_rag": details}))
    return annotated


def _source(document: Document, source_key: str) -> str:
    return source_of(document.meta, document.id, source_key) or document.id
