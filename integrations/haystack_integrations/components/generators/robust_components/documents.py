"""Haystack documents as the core's passages, and the core's result as Haystack objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, GeneratedAnswer, logging
from haystack.dataclasses import ChatMessage

from robust_components.checks import listed
from robust_components.rag.passages import Passage, PassageResult, source_of, warn_if_unnamed
from robust_components.rag.result import RAGResult

logger = logging.getLogger(__name__)


def to_passages(documents: Sequence[Document], source_key: str | Sequence[str]) -> list[Passage]:
    """
    One passage a document. A document without text content becomes an empty passage and is logged.

    It is not left out: whoever placed it holds a slot of the list, and certificates count slots.
    Warns when no document names a source.

    :raises TypeError: `documents` is no list of Documents.
    """
    listed(documents, Document)
    textless = [document.id for document in documents if document.content is None]
    if textless:
        logger.warning("Documents without text content are read as empty: {ids}", ids=textless)
    passages = [
        Passage(
            "" if document.content is None else document.content,
            source=source_of(document.meta, source_key),
            id=document.id,
        )
        for document in documents
    ]
    warn_if_unnamed(passages, source_key)
    return passages


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
    return [
        replace(document, meta={**document.meta, "robust_rag": result.details()})
        for document, result in zip(documents, results, strict=True)
    ]


def outputs(query: str, documents: Sequence[Document], result: RAGResult) -> dict[str, Any]:
    """What the component returns: `answers`, `replies` and `certificate`, which share nothing."""
    annotated = annotate(documents, result.passages)
    answer = GeneratedAnswer(result.answer, query, annotated, meta=result.metadata())
    reply = ChatMessage.from_assistant(result.answer, meta=result.metadata())
    certificate = result.certificate.to_dict()
    return {"answers": [answer], "replies": [reply], "certificate": certificate}
