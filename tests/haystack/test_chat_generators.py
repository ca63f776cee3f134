"""Any Haystack chat generator as the model: failures, time-outs, streaming, life cycle, spans."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any

import pytest

pytest.importorskip("haystack")

from haystack import component, tracing
from haystack.components.generators.chat import FallbackChatGenerator, MockChatGenerator
from haystack.components.generators.utils import print_streaming_chunk
from haystack.dataclasses import ChatMessage

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator

QUERY = "What is the capital of France?"


def city_in(messages: list[ChatMessage]) -> str:
    """Paris or Mars, whichever the passage names."""
    context = messages[-1].text.partition("Question:")[0]
    return "Mars" if "Mars" in context else "Paris" if "Paris" in context else "I don't know"


def details_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [document.meta["robust_rag"] for document in result["answers"][0].documents]


@component
class SyncGenerator:
    """Blocking only; notes the threads and how many calls were under way at once."""

    def __init__(self) -> None:
        self.threads: set[str] = set()
        self.active = 0
        self.most = 0
        self.lock = threading.Lock()

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage]) -> dict[str, Any]:
        with self.lock:
            self.active += 1
            self.most = max(self.most, self.active)
            self.threads.add(threading.current_thread().name)
        time.sleep(0.01)
        with self.lock:
            self.active -= 1
        return {"replies": [ChatMessage.from_assistant(city_in(messages))]}


class AsyncGenerator:
    """Asynchronous only, hence no Haystack component."""

    async def run_async(self, messages: list[ChatMessage]) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {"replies": [ChatMessage.from_assistant(city_in(messages))]}


@component
class Recorder:
    """Counts what its owner forwards."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.arguments: list[dict[str, Any]] = []

    def warm_up(self) -> None:
        self.calls.append("warm_up")

    async def warm_up_async(self) -> None:
        self.calls.append("warm_up_async")

    def close(self) -> None:
        self.calls.append("close")

    async def close_async(self) -> None:
        self.calls.append("close_async")

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], **kwargs: Any) -> dict[str, Any]:
        self.arguments.append(kwargs)
        return {"replies": [ChatMessage.from_assistant(city_in(messages))]}


@component
class SyncRecorder:
    """The blocking half of a life cycle."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def warm_up(self) -> None:
        self.calls.append("warm_up")

    def close(self) -> None:
        self.calls.append("close")

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage]) -> dict[str, Any]:
        return {"replies": [ChatMessage.from_assistant(city_in(messages))]}


def mock(answer: Any) -> MockChatGenerator:
    return MockChatGenerator(response_fn=answer)


async def test_a_blocking_generator_runs_in_threads(documents):
    inner = SyncGenerator()
    rag = RobustRAGGenerator(inner, max_concurrency=2)
    assert (await rag.run_async(query=QUERY, documents=documents))["answers"][0].data == "Paris"
    assert rag.run(query=QUERY, documents=documents)["answers"][0].data == "Paris"
    assert threading.main_thread().name not in inner.threads
    assert inner.most <= 2


def test_an_asynchronous_generator_runs_blocking(documents):
    rag = RobustRAGGenerator(AsyncGenerator())
    assert rag.run(query=QUERY, documents=documents)["answers"][0].data == "Paris"


async def test_an_asynchronous_generator_runs_on_the_loop(documents):
    result = await RobustRAGGenerator(AsyncGenerator()).run_async(query=QUERY, documents=documents)
    assert result["answers"][0].data == "Paris"


def test_a_failing_call_counts_as_hostile(documents, caplog):
    def answer(messages):
        if "Mars" in messages[0].text:
            raise RuntimeError("content filter")
        return city_in(messages)

    with caplog.at_level(logging.WARNING):
        result = RobustRAGGenerator(mock(answer), retries=0).run(query=QUERY, documents=documents)
    assert result["answers"][0].data == "Paris"
    failed = details_of(result)[1]
    assert failed["failure"] == "RuntimeError: content filter"
    assert failed["answer"] is None and failed["supports"] is None
    assumptions = " ".join(result["certificate"]["assumptions"])
    assert "1 source gave no usable response and counts as hostile" in assumptions
    assert "1 of 6 documents" in caplog.text and "content filter" in caplog.text


def test_a_failed_call_is_tried_again(documents):
    seen: set[str] = set()

    def answer(messages):
        text = messages[0].text
        if text not in seen:
            seen.add(text)
            raise RuntimeError("busy")
        return city_in(messages)

    result = RobustRAGGenerator(mock(answer), retries=1).run(query=QUERY, documents=documents)
    assert [detail["failure"] for detail in details_of(result)] == [None] * 6


@pytest.mark.parametrize("answer", ["", ChatMessage.from_assistant()], ids=["empty", "no text"])
def test_no_text_is_a_failure(documents, answer):
    def reply(messages):
        return answer if "Mars" in messages[0].text else city_in(messages)

    result = RobustRAGGenerator(mock(reply), retries=0).run(query=QUERY, documents=documents)
    assert [bool(detail["failure"]) for detail in details_of(result)] == [False, True] + [False] * 4
    silent = RobustRAGGenerator(mock(lambda messages: answer), retries=0)
    with pytest.raises(RuntimeError, match="no usable response to any of 6 passages"):
        silent.run(query=QUERY, documents=documents)


async def test_a_call_that_takes_too_long_counts_as_hostile(documents):
    released = threading.Event()

    def answer(messages):
        if "Mars" in messages[0].text:
            released.wait(20)
        return city_in(messages)

    class Slow:
        async def run_async(self, messages):
            if "Mars" in messages[0].text:
                await asyncio.sleep(20)
            return {"replies": [ChatMessage.from_assistant(city_in(messages))]}

    started = time.monotonic()
    try:
        blocking = RobustRAGGenerator(mock(answer), timeout=0.3, retries=0)
        results = [blocking.run(query=QUERY, documents=documents)]
        awaited = RobustRAGGenerator(Slow(), timeout=0.3, retries=0)
        results.append(await awaited.run_async(query=QUERY, documents=documents))
    finally:
        released.set()
    assert time.monotonic() - started < 15
    for result in results:
        assert result["answers"][0].data == "Paris"
        assert details_of(result)[1]["failure"] == "TimeoutError: no response within 0.3 seconds"


def test_a_streaming_generator_is_refused():
    streaming = MockChatGenerator("Paris", streaming_callback=print_streaming_chunk)
    for inner in (streaming, FallbackChatGenerator([MockChatGenerator("Paris"), streaming])):
        with pytest.raises(ValueError, match=r"must not stream.*possibly poisoned"):
            RobustRAGGenerator(inner)
    RobustRAGGenerator(FallbackChatGenerator([MockChatGenerator("Paris")]))


def test_messages_are_all_that_the_generator_gets(documents):
    inner = Recorder()
    RobustRAGGenerator(inner).run(query=QUERY, documents=documents)
    assert inner.arguments == [{}] * 6


def test_prompts_can_be_changed(documents):
    prompts: list[str] = []

    def answer(messages):
        prompts.append(messages[0].text)
        return "Paris"

    rag = RobustRAGGenerator(mock(answer), isolated_prompt="{query} Read: {passage}")
    rag.run(query=QUERY, documents=documents)
    assert sorted(prompts) == sorted(f"{QUERY} Read: {d.content}" for d in documents)


async def test_life_cycle_is_forwarded(documents):
    inner = Recorder()
    rag = RobustRAGGenerator(inner)
    assert inner.calls == []
    rag.warm_up()
    rag.close()
    await rag.warm_up_async()
    await rag.close_async()
    assert inner.calls == ["warm_up", "close", "warm_up_async", "close_async"]
    inner.calls.clear()
    rag.run(query=QUERY, documents=documents)
    await rag.run_async(query=QUERY, documents=documents)
    assert inner.calls == ["warm_up", "warm_up_async"]


async def test_life_cycle_of_a_blocking_generator(documents):
    inner = SyncRecorder()
    rag = RobustRAGGenerator(inner)
    await rag.warm_up_async()
    await rag.close_async()
    await rag.close_async()
    assert inner.calls == ["warm_up", "close", "close"]
    await rag.run_async(query=QUERY, documents=documents)


async def test_life_cycle_of_a_generator_without_one(documents):
    rag = RobustRAGGenerator(SyncGenerator())
    rag.close()
    rag.warm_up()
    rag.warm_up()
    await rag.warm_up_async()
    await rag.close_async()
    assert rag.run(query=QUERY, documents=documents)["answers"][0].data == "Paris"


class Spans(tracing.Tracer):
    """Keeps every span with its tags."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, Any]]] = []

    @contextlib.contextmanager
    def trace(self, operation_name, tags=None, parent_span=None):
        span = Tags(dict(tags or {}))
        self.spans.append((operation_name, span.tags))
        yield span

    def current_span(self):
        return None


class Tags(tracing.Span):
    def __init__(self, tags: dict[str, Any]) -> None:
        self.tags = tags

    def set_tag(self, key: str, value: Any) -> None:
        self.tags[key] = value


def test_each_call_opens_a_span_without_content(documents):
    spans = Spans()
    tracing.enable_tracing(spans)
    try:
        RobustRAGGenerator(mock(city_in)).run(query=QUERY, documents=documents)
    finally:
        tracing.disable_tracing()
    expected = {
        "haystack.component.name": "chat_generator",
        "haystack.component.type": "MockChatGenerator",
    }
    assert spans.spans == [("haystack.chat_generator.run", expected)] * 6
