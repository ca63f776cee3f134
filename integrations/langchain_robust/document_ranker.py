"""What our document compressors that rank share: LangChain's documents in and out."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from robust_components.checks import listed

logger = logging.getLogger(__name__)


class DocumentRanker(BaseDocumentCompressor):
    """Returns copies of the top N documents by a core ranker, best first."""

    score_threshold: float | None = Field(default=None, allow_inf_nan=False)

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The top N at or above the threshold, best first, as copies.

        A document given twice, with the same id and text, is ranked once and logged. Without ids
        every document counts: two of them may be alike because one was edited.

        Raises:
            ValueError: the query is empty, or the model cannot rank.
            TypeError: ``documents`` is no list of Documents.
        """
        return self.top(query, documents)

    def top(
        self, query: str, documents: Sequence[Document], top_n: int | None = None
    ) -> list[Document]:
        """:meth:`compress_documents` with another N for this call."""
        kept = distinct(listed(documents, Document))
        ranking = self.rank(query, kept, top_n)
        least = self.score_threshold
        return [
            self._annotated(kept[item.index], item, ranking)
            for item in ranking.top
            if least is None or item.score >= least
        ]

    @abstractmethod
    def rank(
        self, query: str, documents: Sequence[Document | str], top_n: int | None = None
    ) -> Any:
        """The core's ranking."""

    @abstractmethod
    def _of_list(self, ranking: Any) -> dict[str, Any]:
        """What every document's metadata says of the whole ranking."""

    def _annotated(self, document: Document, item: Any, ranking: Any) -> Document:
        details = item.to_dict()
        own = {name: details.pop(name) for name in ("certificate",) if name in details}
        details["previous_score"] = document.metadata.get("relevance_score")
        metadata = {
            **document.metadata,
            "relevance_score": item.score,
            "robust_ranking": details | self._of_list(ranking),
            **own,
        }
        return document.model_copy(update={"metadata": metadata})


def texts_of(documents: Sequence[Document | str]) -> list[str]:
    """What is ranked.

    Raises:
        TypeError: ``documents`` is no list of Documents or strings.
    """
    return [
        item if isinstance(item, str) else item.page_content
        for item in listed(documents, Document, str)
    ]


def distinct(documents: Sequence[Document]) -> list[Document]:
    """The documents without repetitions, in order; repetitions are logged.

    Only ids tell what is a repetition: were documents without one left out for being alike, an
    edit could take a document out of the list by making it like another.
    """
    kept: dict[tuple[Any, ...], Document] = {}
    for place, document in enumerate(documents):
        key = (place,) if document.id is None else (document.id, document.page_content)
        kept.setdefault(key, document)
    if len(kept) < len(documents):
        logger.warning(
            "%d of %d documents were given more than once and are ranked once",
            len(documents) - len(kept),
            len(documents),
        )
    return list(kept.values())
