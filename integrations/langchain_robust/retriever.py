"""Any retriever followed by a certified ranker, as one retriever."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableConfig, run_in_executor
from pydantic import ConfigDict, Field, SkipValidation, field_validator

from langchain_robust.ranker import SmoothedRanker


class RobustRetriever(BaseRetriever):
    """Retrieves candidates with ``retriever`` and returns the certified top K of ``ranker``.

    The certificates, which are in the documents' metadata (see :class:`SmoothedRanker`), are about
    the candidates: word edits that change which documents are retrieved at all are outside them. So
    let ``retriever`` bring clearly more than ``k`` candidates.

    Example:
        .. code-block:: python

            retriever = RobustRetriever(retriever=store.as_retriever(search_kwargs={"k": 50}), k=5)
            chain = {"context": retriever, "question": RunnablePassthrough()} | robust_generator

    Args:
        retriever: any retriever, or Runnable from a query to documents.
        ranker: ranks what it brings; the embedded ranker by default.
        k: number of documents returned, at least 1; the ranker's ``top_n`` when ``None``. Also an
            argument of ``invoke``.
    """

    retriever: SkipValidation[Runnable[str, list[Document]]]
    ranker: SmoothedRanker = Field(default_factory=SmoothedRanker)
    k: int | None = Field(default=None, gt=0)

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @field_validator("retriever")
    @classmethod
    def _runnable(cls, retriever: Any) -> Any:
        if not isinstance(retriever, Runnable):
            raise ValueError(
                f"retriever must be a retriever or another Runnable, got "
                f"{type(retriever).__name__}; wrap a function in RunnableLambda"
            )
        return retriever

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        return self._top(query, self.retriever.invoke(query, config), k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        config: RunnableConfig = {"callbacks": run_manager.get_child()}
        candidates = await self.retriever.ainvoke(query, config)
        return await run_in_executor(None, self._top, query, candidates, k)

    def _top(self, query: str, candidates: Any, k: int | None) -> list[Document]:
        return self.ranker.top(query, candidates, self.k if k is None else k)
