"""LangChain Documents as the core's passages, and copies of them that carry results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

from robust_components.rag.passages import Passage, source_of, warn_if_unnamed


def question_passages(input: Any, source_key: str | Sequence[str]) -> list[str | Passage]:
    """The passages in the input of a generator.

    Raises:
        ValueError: a key is missing.
        TypeError: it is no dictionary, or a passage is no text.
    """
    if not isinstance(input, Mapping):
        raise TypeError(
            f"input must be a dict with 'question' and 'context', got {type(input).__name__}; "
            'put {"context": retriever, "question": RunnablePassthrough()} before the generator'
        )
    missing = [key for key in ("question", "context") if key not in input]
    if missing:
        raise ValueError(
            f"input must have the keys 'question' and 'context', {missing} missing in "
            f"{list(input)}; add them"
        )
    return to_passages(input["context"], source_key)


def to_passages(context: Any, source_key: str | Sequence[str]) -> list[str | Passage]:
    """Documents as passages; strings stay as they are.

    A document's source is its first value under ``source_key``, else its ``id``. Warns when no
    document names a source.

    Raises:
        TypeError: ``context`` is no list, or holds something else.
    """
    if isinstance(context, (str, bytes)) or not isinstance(context, Sequence):
        raise TypeError(
            f"context must be a list of Documents or strings, got {type(context).__name__}; "
            "put it in a list"
        )
    passages = [_to_passage(at, item, source_key) for at, item in enumerate(context)]
    warn_if_unnamed(passages, source_key)
    return passages


def _to_passage(position: int, item: Any, source_key: str | Sequence[str]) -> str | Passage:
    if isinstance(item, str):
        return item
    if not isinstance(item, Document):
        raise TypeError(
            f"context[{position}] must be a Document or a string, got {type(item).__name__}; "
            "pass the documents without scores"
        )
    return Passage(item.page_content, source=source_of(item.metadata, source_key), id=item.id)


def annotated(item: Document | str, key: str, detail: dict[str, Any]) -> Document:
    """A copy of the document with ``detail`` under ``key`` in its metadata."""
    document = item if isinstance(item, Document) else Document(item)
    return document.model_copy(update={"metadata": {**document.metadata, key: detail}})
