"""Haystack documents as the core's passages, and what became of them back in their metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from haystack import Document, logging

from robust_components.rag.passages import Passage, PassageResult, source_of

logger = logging.getLogger(__name__)


def to_passages(documents: Sequence[Document], source_key: str) -> list[Passage]:
    """
    One passage a document. A document without text content becomes an empty passage and is logged.

    It is not left out: whoever placed it holds a slot of the list, and certificates count slots.
    """
    textless = [document.id for document in documents if document.content is None]
    if textless:
        logger.warning("Documents without text content are read as empty: {ids}", ids=textless)
    return [
        Passage(
            "" if document.content is None else document.content,
            source=source_of(document.meta, document.id, source_key),
            id=document.id,
        )
        for document in documents
    ]


def annotate(documents: Sequence[Document], results: Sequence[PassageResult]) -> list[Document]:
    """
    Copies of the documents, in order, with their result in `meta["robust_rag"]`.

    Failed readings are logged: they count as hostile.

    :param documents: the documents given to `to_passages`.
    :param results: one result a document.
    """
    failures = [result.failure for result in results if result.failure is not None]
    if failures:
        logger.warning(
            "{failed} of {total} documents gave no usable response and count as hostile: {why}",
            failed=len(failures),
            total=len(documents),
            why=failures[0],
        )
    annotated = []
    for document, result in zip(documents, results, strict=True):
        details = asdict(result)
        del details["text"]
        annotated.append(replace(document, meta={**document.meta, "robust_rag": details}))
    return annotated
