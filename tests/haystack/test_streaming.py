"""Answers as streaming chunks: by token in decoding, in one piece otherwise."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("haystack")

from haystack import Pipeline
from haystack.components.builders import AnswerBuilder
from haystack.dataclasses import ComponentInfo, StreamingChunk

import robust_components
import robust_components.models
from haystack_integrations.components.generators.robust_components import RobustRAGGenerator
from haystack_integrations.components.generators.robust_components.streaming import (
    answer,
    answer_async,
)
from robust_components.models.testing import TableTokenModel
from robust_components.rag.generator import RobustRAGGenerator as CoreGenerator

QUERY = "What is the capital of France?"
INFO = ComponentInfo("test")
LONG = 10_000
GOOD, BAD = ("one", "two", "three", "four"), "poisoned"
READER = Path(robust_components.__file__).parent / "models" / "weights" / "reader"
embedded = pytest.mark.skipif(
    not READER.is_dir() or importlib.util.find_spec("peft") is None,
    reason="needs the embedded reader's weights and the extra 'transformers'",
)


def capital() -> TableTokenModel:
    """Four passages say "Paris it is", the last word with less and less conviction."""
    table: dict[Any, dict[str, float]] = {}
    for name in GOOD:
        table[name, ()] = {"Paris": 1.0}
        table[name, ("Paris",)] = {"it": 0.9, "Mars": 0.1}
        table[name, ("Paris", "it")] = {"is": 0.6, "was": 0.4}
    for prefix in ((), ("Paris",), ("Paris", "it")):
        table[BAD, prefix] = {"Mars": 1.0}
    return TableTokenModel(table)


class Endless:
    """A token model that never stops; counts the steps it was asked for."""

    name = fingerprint = "endless"
    eos = 0

    def __init__(self) -> None:
        self.steps = 0

    def open(self, query: str, passages: Any) -> Endless:
        self.abstention = np.zeros(len(passages))
        self.truncated, self.failures = [False] * len(passages), [None] * len(passages)
        return self

    def next_probabilities(self, prefix: Any, rows: Any) -> Any:
        self.steps += 1
        time.sleep(0.001)
        return np.tile([0.0, 1.0], (len(rows), 1))

    def no_retrieval_token(self, prefix: Any) -> int:
        return 1

    def token_text(self, token: int) -> str:
        return "ab"[token]

    def text(self, tokens: Any) -> str:
        return "b" * len(tokens)

    def close(self) -> None:
        pass


async def steps_taken(model: Endless) -> int:
    """How many steps a model took, once it takes no more."""
    before = -1
    while model.steps > before:
        before = model.steps
        await asyncio.sleep(0.2)
    return before


async def collect(core: CoreGenerator, passages: Any, asynchronous: bool) -> tuple[Any, list[Any]]:
    """The result, and the chunks that a callback gets."""
    chunks: list[StreamingChunk] = []
    if not asynchronous:
        run = partial(core.run, QUERY, passages)
        return answer(run, chunks.append, INFO), chunks
    loop, here = asyncio.get_running_loop(), threading.current_thread()

    async def callback(chunk: StreamingChunk) -> None:
        assert asyncio.get_running_loop() is loop and threading.current_thread() is here
        await asyncio.sleep(0)
        chunks.append(chunk)

    return await answer_async(partial(core.run_async, QUERY, passages), callback, INFO), chunks


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_decoding_sends_each_token_with_its_budget(asynchronous):
    core = CoreGenerator(capital(), "decoding")
    result, chunks = await collect(core, [*GOOD, BAD], asynchronous)
    *tokens, last = chunks
    assert [chunk.content for chunk in tokens] == ["Paris", " it", " is"]
    assert "".join(chunk.content for chunk in chunks) == result.answer == "Paris it is"
    budgets = [token.certified_k for token in result.tokens]
    assert [chunk.meta for chunk in tokens] == [{"certified_k": [k]} for k in budgets[:3]]
    assert budgets[0] > budgets[2]
    assert last.content == "" and last.finish_reason == "stop"
    assert last.meta == result.metadata() and last.meta["certificate"]["radius"] == min(budgets)
    assert [chunk.start for chunk in chunks] == [True, False, False, False]
    assert all(chunk.index == 0 and chunk.component_info == INFO for chunk in chunks)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_withheld_answer_ends_in_the_abstention(asynchronous):
    core = CoreGenerator(capital(), "decoding", on_uncertified="abstain")
    result, chunks = await collect(core, [*GOOD, BAD], asynchronous)
    assert result.abstained
    assert [chunk.content for chunk in chunks] == ["Paris", " it", "\nI don't know"]
    assert chunks[-1].meta["abstained"] is True


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_nobody_knows(asynchronous):
    model = TableTokenModel({}, abstain=dict.fromkeys(GOOD, 1.0))
    for passages in (GOOD, []):
        _, chunks = await collect(CoreGenerator(model, "decoding"), passages, asynchronous)
        assert [chunk.content for chunk in chunks] == ["I don't know"]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_callback_that_raises_ends_the_decoding(asynchronous):
    model = Endless()
    core = CoreGenerator(model, "decoding", max_tokens=LONG)

    def callback(chunk: StreamingChunk) -> None:
        raise ConnectionError("the reader went away")

    with pytest.raises(ConnectionError, match="went away"):
        if asynchronous:
            await answer_async(partial(core.run_async, QUERY, GOOD), callback, INFO)
        else:
            answer(partial(core.run, QUERY, GOOD), callback, INFO)
    assert await steps_taken(model) < LONG


async def test_a_cancelled_run_ends_though_its_callback_waits_for_ever():
    model = Endless()
    core = CoreGenerator(model, "decoding", max_tokens=LONG)
    entered = asyncio.Event()

    async def callback(chunk: StreamingChunk) -> None:
        entered.set()
        await asyncio.Event().wait()

    run = asyncio.create_task(answer_async(partial(core.run_async, QUERY, GOOD), callback, INFO))
    await entered.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await steps_taken(model) < LONG


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("at_init", [False, True])
async def test_voting_sends_the_final_answer_alone(generator, documents, asynchronous, at_init):
    chunks: list[StreamingChunk] = []

    async def callback(chunk: StreamingChunk) -> None:
        chunks.append(chunk)

    chosen = callback if asynchronous else chunks.append
    component = RobustRAGGenerator(generator, streaming_callback=chosen if at_init else None)
    given = {"query": QUERY, "documents": documents}
    if not at_init:
        given["streaming_callback"] = chosen
    result = await component.run_async(**given) if asynchronous else component.run(**given)
    (chunk,) = chunks
    assert chunk.content == "Paris" and chunk.start and chunk.finish_reason == "stop"
    assert chunk.meta == result["replies"][0].meta
    assert chunk.component_info.type.endswith("RobustRAGGenerator")


def test_an_asynchronous_callback_needs_run_async(generator, documents):
    async def callback(chunk: StreamingChunk) -> None: ...

    with pytest.raises(ValueError, match="cannot be a coroutine"):
        RobustRAGGenerator(generator).run(QUERY, documents, streaming_callback=callback)


async def test_a_synchronous_callback_does_for_run_async(generator, documents):
    chunks: list[StreamingChunk] = []
    component = RobustRAGGenerator(generator)
    await component.run_async(QUERY, documents, streaming_callback=chunks.append)
    assert [chunk.content for chunk in chunks] == ["Paris"]


@embedded
async def test_the_embedded_reader_streams_in_a_pipeline(plays):
    pipeline = Pipeline()
    pipeline.add_component("rag", RobustRAGGenerator(aggregation="decoding"))
    pipeline.add_component("builder", AnswerBuilder())
    pipeline.connect("rag.replies", "builder.replies")
    chunks: list[StreamingChunk] = []
    given = {"query": "Who wrote Hamlet?", "documents": plays}
    shared = {"builder": {"query": "Who wrote Hamlet?"}}
    result = pipeline.run({"rag": {**given, "streaming_callback": chunks.append}, **shared})
    (built,) = result["builder"]["answers"]
    assert "".join(chunk.content for chunk in chunks) == built.data
    assert built.data == "William Shakespeare" and built.meta["certificate"]["method"] == "decoding"
    budgets = [token["certified_k"] for token in built.meta["tokens"]]
    shown = [budget for chunk in chunks[:-1] for budget in chunk.meta["certified_k"]]
    assert shown == budgets[: len(chunks) - 1]

    awaited: list[StreamingChunk] = []

    async def callback(chunk: StreamingChunk) -> None:
        awaited.append(chunk)

    await pipeline.run_async({"rag": {**given, "streaming_callback": callback}, **shared})
    assert [chunk.content for chunk in awaited] == [chunk.content for chunk in chunks]
