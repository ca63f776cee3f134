"""Haystack documents as the core's texts, and the core's classifications as Haystack documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from haystack import Document, logging

from robust_components.checks import listed
from robust_components.classification import Classification

logger = logging.getLogger(__name__)


def contents(documents: Sequence[Document], field: str | None) -> list[str]:
    """
    What is classified: the content, or a metadata field.

    A document without text there counts as empty, which gets no label, and is logged.

    :raises TypeError: `documents` is no list of Documents.
    """
    listed(documents, Document)
    if field is None:
        found = [document.content for document in documents]
    else:
        found = [document.meta.get(field) for document in documents]
    textless = [
        document.id
        for document, text in zip(documents, found, strict=True)
        if not isinstance(text, str)
    ]
    if textless:
        logger.warning("Documents without text get no label: {ids}", ids=textless)
    return [text if isinstance(text, str) else "" for text in found]


def details(classification: Classification) -> dict[str, Any]:
    """
    A classification in the form Haystack's own classifiers write.

    `score` is the label's share of the votes of masked copies, and no probability.
    """
    plain = classification.to_dict()
    del plain["certificate"]
    label = plain.pop("label")
    share = 0.0 if label is None else float(classification.votes[label])
    plain["certified"] = classification.certified
    return {"label": label, "score": share, "details": plain}


def classified(document: Document, classification: Classification) -> Document:
    """A copy of the document with the classification and its certificate in the metadata."""
    meta = {
        **document.meta,
        "classification": details(classification),
        "certificate": classification.certificate.to_dict(),
    }
    return replace(document, meta=meta)
