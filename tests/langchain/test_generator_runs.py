"""The LangChain generator among others: callbacks, config, batches, chains and streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_robust import RobustRAGGenerator

QUESTION = "What is the capital of France?"
POISON = "Poisontown"


class Words:
    def extract(self, text: str) -> frozenset[str]:
        return frozenset(text.lower().strip(".").split())


class ListRetriever(BaseRetriever):
    documents: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        assert query == QUESTION
        return self.documents


class Tokens(BaseCallbackHandler):
    """Whatever a handler hears token by token."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.heard.append(token)


def given(documents: list[Document], question: str = QUESTION) -> dict[str, Any]:
    return {"question": question, "context": documents}


async def call(generator: Any, asynchronous: bool, value: Any, config: Any = None) -> Any:
    if asynchronous:
        return await generator.ainvoke(value, config)
    return generator.invoke(value, config)


def comparable(message: Any) -> Any:
    """A message without what differs from run to run."""
    data = dict(message.response_metadata)
    certificate = dict(data.pop("certificate"))
    for name in ("cost", "digest"):
        certificate.pop(name)
    return message.content, data, certificate


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("aggregation", ["voting", "keyword"])
async def test_model_calls_are_children_of_the_generators_run(
    chat: Callable[..., Any], documents: list[Document], asynchronous: bool, aggregation: str
) -> None:
    llm = chat({"Several sources": "Paris", "Eiffel": "Paris", "Louvre": "Paris"})
    generator = RobustRAGGenerator(
        llm=llm,
        aggregation=aggregation,
        keyword_extractor=Words() if aggregation == "keyword" else None,
    )
    tracer = RunCollectorCallbackHandler()
    config = {
        "callbacks": [tracer],
        "tags": ["outer"],
        "metadata": {"user": "me"},
        "run_name": "robust",
    }
    message = await call(generator, asynchronous, given(documents), config)
    (run,) = tracer.traced_runs
    assert run.name == "robust" and run.run_type == "chain" and run.error is None
    assert run.outputs == {"output": message}
    assert len(run.child_runs) == len(llm.prompts) >= len(documents)
    for child in run.child_runs:
        assert child.run_type == "llm" and child.name == "TableChatModel"
        assert child.parent_run_id == run.id and child.trace_id == run.id
        assert {"outer", "nostream"} <= set(child.tags or [])
        assert child.metadata["user"] == "me"
    assert "nostream" not in (run.tags or [])
    assert message.response_metadata["certificate"]["cost"]["model_passes"] == len(run.child_runs)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_errors_end_the_run(paris: Any, asynchronous: bool) -> None:
    tracer = RunCollectorCallbackHandler()
    with pytest.raises(ValueError, match="must not be empty"):
        await call(
            RobustRAGGenerator(llm=paris), asynchronous, given([], ""), {"callbacks": [tracer]}
        )
    assert "must not be empty" in str(tracer.traced_runs[0].error)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("own", "configured", "most"), [(4, None, 4), (4, 2, 2), (2, 4, 2)])
async def test_the_smaller_max_concurrency_holds(
    chat: Callable[..., Any], asynchronous: bool, own: int, configured: int | None, most: int
) -> None:
    llm = chat()
    generator = RobustRAGGenerator(llm=llm, max_concurrency=own)
    config = {} if configured is None else {"max_concurrency": configured}
    value = given([Document(f"page {i}") for i in range(12)])
    await call(generator, asynchronous, value, config)
    assert len(llm.prompts) == 12
    assert 1 < llm.peak <= most


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_batches_give_what_single_calls_give(
    paris: Any, documents: list[Document], asynchronous: bool
) -> None:
    generator = RobustRAGGenerator(llm=paris)
    inputs = [given(documents[:size]) for size in range(7)]
    tracer = RunCollectorCallbackHandler()
    config = {"callbacks": [tracer], "max_concurrency": 3}
    if asynchronous:
        batched = await generator.abatch(inputs, config)
        single = [await generator.ainvoke(value) for value in inputs]
    else:
        batched = generator.batch(inputs, config)
        single = [generator.invoke(value) for value in inputs]
    assert [comparable(m) for m in batched] == [comparable(m) for m in single]
    assert sorted(len(run.child_runs) for run in tracer.traced_runs) == list(range(7))


async def test_sync_and_async_agree(paris: Any, documents: list[Document]) -> None:
    generator = RobustRAGGenerator(llm=paris)
    value = given(documents)
    assert comparable(generator.invoke(value)) == comparable(await generator.ainvoke(value))


def test_one_bad_input_of_a_batch_leaves_the_others(paris: Any, documents: list[Document]) -> None:
    inputs = [given(documents), given(documents, "")]
    answers = RobustRAGGenerator(llm=paris).batch(inputs, return_exceptions=True)
    assert answers[0].content == "Paris" and isinstance(answers[1], ValueError)


async def test_does_not_block_the_event_loop(
    chat: Callable[..., Any], documents: list[Document]
) -> None:
    llm = chat({"example": "Paris", "Eiffel": "!sleep"})
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    clock = asyncio.create_task(tick())
    await RobustRAGGenerator(llm=llm).ainvoke(given(documents))
    clock.cancel()
    assert ticks >= 3


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_in_a_chain_behind_a_retriever(
    paris: Any, documents: list[Document], asynchronous: bool
) -> None:
    retriever = ListRetriever(documents=documents)
    robust = RobustRAGGenerator(llm=paris)
    chain = {"context": retriever, "question": RunnablePassthrough()} | robust
    tracer = RunCollectorCallbackHandler()
    message = await call(chain, asynchronous, QUESTION, {"callbacks": [tracer]})
    assert message.content == "Paris" and message.response_metadata["certificate"]["radius"] == 1
    (run,) = tracer.traced_runs
    generator = next(child for child in run.child_runs if child.name == "RobustRAGGenerator")
    assert len(generator.child_runs) == len(documents)
    assert await call(chain | StrOutputParser(), asynchronous, QUESTION) == "Paris"


def test_input_of_a_chain_may_hold_more(paris: Any, documents: list[Document]) -> None:
    retriever = ListRetriever(documents=documents)
    chain = RunnablePassthrough.assign(
        context=RunnableLambda(lambda value: value["question"]) | retriever
    ).assign(answer=RobustRAGGenerator(llm=paris))
    result = chain.invoke({"question": QUESTION, "history": []})
    assert result["answer"].content == "Paris" and result["context"] == documents


async def test_streams_give_the_final_answer_alone(paris: Any, documents: list[Document]) -> None:
    retriever = ListRetriever(documents=documents)
    robust = RobustRAGGenerator(llm=paris)
    chain = {"context": retriever, "question": RunnablePassthrough()} | robust
    for streamed in (
        list(chain.stream(QUESTION)),
        [chunk async for chunk in chain.astream(QUESTION)],
        list(robust.stream(given(documents))),
        [chunk async for chunk in robust.astream(given(documents))],
    ):
        assert [message.content for message in streamed] == ["Paris"]


async def test_isolated_answers_can_be_kept_out_of_event_streams(
    paris: Any, documents: list[Document]
) -> None:
    chain = RobustRAGGenerator(llm=paris) | StrOutputParser()
    shown = chain.astream_events(given(documents), exclude_tags=["nostream"])
    events = [event async for event in shown]
    assert not [event for event in events if "chat_model" in event["event"]]
    chunks = [e["data"]["chunk"] for e in events if e["event"] == "on_parser_stream"]
    assert chunks == ["Paris"]
    told = [event async for event in chain.astream_events(given(documents))]
    assert POISON in str([e for e in told if e["event"] == "on_chat_model_end"])


async def test_no_token_of_an_isolated_answer_is_called_back(
    paris: Any, documents: list[Document]
) -> None:
    tokens = Tokens()
    generator = RobustRAGGenerator(llm=paris)
    generator.invoke(given(documents), {"callbacks": [tokens]})
    await generator.ainvoke(given(documents), {"callbacks": [tokens]})
    assert tokens.heard == []


def test_a_global_llm_cache_changes_nothing(paris: Any, documents: list[Document]) -> None:
    generator = RobustRAGGenerator(llm=paris)
    plain = generator.invoke(given(documents))
    set_llm_cache(InMemoryCache())
    try:
        cached = [generator.invoke(given(documents)) for _ in range(2)]
    finally:
        set_llm_cache(None)
    assert [comparable(message) for message in cached] == [comparable(plain)] * 2
    assert len(paris.prompts) == 2 * len(documents)


def test_unknown_call_arguments_are_refused(paris: Any, documents: list[Document]) -> None:
    with pytest.raises(TypeError, match="temperature"):
        RobustRAGGenerator(llm=paris).invoke(given(documents), temperature=1)
