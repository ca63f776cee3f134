"""RobustRetriever: LangChain's own standard tests, and what they do not ask."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("langchain_tests")

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

from langchain_robust import RobustRAGGenerator, RobustRetriever, SmoothedRanker
from robust_components.models.testing import TableScorer

TEXTS = (
    "Bananas are yellow.",
    "The Louvre stands in the capital.",
    "From the Eiffel tower one sees the capital of France, and all of the capital.",
    "A capital has the parliament.",
    "Rain falls in November.",
)


def overlap(query: str, text: str) -> float:
    wanted = query.lower().split()
    return sum(word in text.lower().split() for word in wanted) / len(wanted)


class Shelf(BaseRetriever):
    """Brings every document it has."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(text, id=str(i)) for i, text in enumerate(TEXTS)]


class TestStandard(RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return RobustRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        ranker = SmoothedRanker(model=TableScorer(overlap))
        return {"retriever": Shelf(), "ranker": ranker}

    @property
    def retriever_query_example(self) -> str:
        return "the capital of France"


class Runs(BaseCallbackHandler):
    """Who ran under whom."""

    def __init__(self) -> None:
        self.parents: list[tuple[str, bool]] = []

    def on_retriever_start(self, *args: Any, **kwargs: Any) -> None:
        self.parents.append((kwargs["name"], kwargs["parent_run_id"] is not None))


@pytest.fixture
def ranker() -> SmoothedRanker:
    return SmoothedRanker(model=TableScorer(overlap), top_n=2)


async def test_the_inner_retriever_is_a_child_run(ranker: SmoothedRanker) -> None:
    retriever = RobustRetriever(retriever=Shelf(), ranker=ranker)
    for asynchronous in (False, True):
        runs = Runs()
        config: Any = {"callbacks": [runs]}
        if asynchronous:
            found = await retriever.ainvoke("the capital of france", config)
        else:
            found = retriever.invoke("the capital of france", config)
        assert runs.parents == [("RobustRetriever", False), ("Shelf", True)]
        assert [document.id for document in found] == ["2", "1"]
        assert found[0].metadata["robust_ranking"]["rank"] == 1


async def test_k_of_the_call_beats_k_of_the_retriever_beats_top_n(ranker: SmoothedRanker) -> None:
    plain = RobustRetriever(retriever=Shelf(), ranker=ranker)
    three = RobustRetriever(retriever=Shelf(), ranker=ranker, k=3)
    assert len(plain.invoke("the capital")) == 2
    assert len(three.invoke("the capital")) == 3
    assert len(three.invoke("the capital", k=1)) == 1
    assert len(await three.ainvoke("the capital", k=4)) == 4
    assert len(three.invoke("the capital", k=99)) == len(TEXTS)


def test_any_runnable_retrieves(ranker: SmoothedRanker) -> None:
    shelf = RunnableLambda(lambda query: [Document(f"{query} {text}") for text in TEXTS])
    assert len(RobustRetriever(retriever=shelf, ranker=ranker).invoke("capital")) == 2


def test_in_front_of_the_generator(paris: Any, ranker: SmoothedRanker) -> None:
    retriever = RobustRetriever(retriever=Shelf(), ranker=ranker, k=3)
    question = "Which city is the capital of France?"
    generator = RobustRAGGenerator(llm=paris)
    chain = {"context": retriever, "question": RunnableLambda(str)} | generator
    message = chain.invoke(question)
    assert message.content.startswith("Paris")
    assert len(message.response_metadata["passages"]) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"k": 0}, "greater than 0"), ({"kk": 1}, "kk"), ({"ranker": 3}, "ranker")],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RobustRetriever(**{"retriever": Shelf(), **settings})
    assert words in str(caught.value)


@pytest.mark.parametrize("k", [0, -1])
def test_bad_k_of_the_call_is_refused(ranker: SmoothedRanker, k: int) -> None:
    with pytest.raises(ValueError, match="top_k must be >= 1"):
        RobustRetriever(retriever=Shelf(), ranker=ranker).invoke("the capital", k=k)


def test_what_is_no_retriever_is_refused():
    with pytest.raises(ValueError, match="retriever must be a retriever or another Runnable, got"):
        RobustRetriever(retriever=3)
