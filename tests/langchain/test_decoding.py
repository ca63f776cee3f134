"""The LangChain generator with secure decoding: answers, streams, traces, abandoned streams."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core")

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

import robust_components
from langchain_robust import RobustRAGGenerator
from robust_components import Certificate
from robust_components.models.testing import TableTokenModel

QUESTION = "What is the capital of France?"
LONG = 10_000
GOOD, BAD = ("one", "two", "three", "four"), "poisoned"
GIVEN = {"question": QUESTION, "context": [*GOOD, BAD]}
READER = Path(robust_components.__file__).parent / "models" / "weights" / "reader"
both = pytest.mark.parametrize("asynchronous", [False, True])


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
    """A token model that never stops, or fails at a step; counts the steps it was asked for."""

    name = fingerprint = "endless"
    eos = 0

    def __init__(self, fails_at: int = -1) -> None:
        self.steps = 0
        self.fails_at = fails_at

    def open(self, query: str, passages: Any) -> Any:
        self.abstention = np.zeros(len(passages))
        self.truncated, self.failures = [False] * len(passages), [None] * len(passages)
        return self

    def next_probabilities(self, prefix: Any, rows: Any) -> Any:
        self.steps += 1
        if len(prefix) == self.fails_at:
            raise MemoryError("no room for the cache")
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


def decoder(model: Any = None, **settings: Any) -> RobustRAGGenerator:
    return RobustRAGGenerator(llm=model or capital(), aggregation="decoding", **settings)


async def streamed(chain: Any, asynchronous: bool, given: Any = None, config: Any = None) -> list:
    given = GIVEN if given is None else given
    if asynchronous:
        return [chunk async for chunk in chain.astream(given, config)]
    return list(chain.stream(given, config))


def comparable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata without what differs from run to run."""
    certificate = {k: v for k, v in metadata["certificate"].items() if k not in ("cost", "digest")}
    return {**metadata, "certificate": certificate}


@both
async def test_invoke_answers_and_certifies(asynchronous: bool) -> None:
    generator = decoder()
    message = await generator.ainvoke(GIVEN) if asynchronous else generator.invoke(GIVEN)
    assert type(message) is AIMessage and message.content == "Paris it is"
    certificate = Certificate.from_dict(message.response_metadata["certificate"])
    assert certificate.method == "decoding" and certificate.model["name"] == "table-token-model"
    tokens = message.response_metadata["tokens"]
    assert [token["text"] for token in tokens] == ["Paris", " it", " is", ""]
    assert certificate.radius == min(token["certified_k"] for token in tokens)


def test_settings_reach_the_core() -> None:
    settings = {"eta": "0.125", "max_tokens": 2, "numerical_margin": 0.01, "max_branches": 7}
    message = decoder(gamma=0.5, **settings).invoke(GIVEN)
    certificate = message.response_metadata["certificate"]
    assert certificate["parameters"].items() >= {**settings, "numerical_margin": "0.01"}.items()
    assert certificate["evidence"]["gamma"] == "0.5" and message.content == "Paris it"


@both
async def test_streams_certified_tokens_then_the_metadata(asynchronous: bool) -> None:
    chunks = await streamed(decoder(), asynchronous)
    assert all(type(chunk) is AIMessageChunk for chunk in chunks)
    assert [chunk.content for chunk in chunks] == ["Paris", " it", " is", ""]
    message = decoder().invoke(GIVEN)
    budgets = [token["certified_k"] for token in message.response_metadata["tokens"]]
    assert [c.response_metadata for c in chunks[:-1]] == [{"certified_k": [k]} for k in budgets[:3]]
    assert comparable(chunks[-1].response_metadata) == comparable(message.response_metadata)
    whole = chunks[0] + chunks[1] + chunks[2] + chunks[3]
    assert whole.content == message.content
    assert whole.response_metadata.pop("certified_k") == budgets[:3]
    assert comparable(whole.response_metadata) == comparable(message.response_metadata)


@both
async def test_a_withheld_answer_ends_in_the_abstention(asynchronous: bool) -> None:
    chunks = await streamed(decoder(on_uncertified="abstain"), asynchronous)
    assert [chunk.content for chunk in chunks] == ["Paris", " it", "\nI don't know"]
    assert all(chunk.response_metadata["certified_k"][0] >= 1 for chunk in chunks[:-1])
    assert chunks[-1].response_metadata["abstained"] is True
    assert decoder(on_uncertified="abstain").invoke(GIVEN).content == "I don't know"


@both
async def test_nobody_knows(asynchronous: bool) -> None:
    model = TableTokenModel({}, abstain=dict.fromkeys(GOOD, 1.0))
    for context in (list(GOOD), []):
        chunks = await streamed(decoder(model), asynchronous, {**GIVEN, "context": context})
        assert [chunk.content for chunk in chunks] == ["I don't know"]


@both
async def test_a_dictionary_comes_in_one_piece(asynchronous: bool) -> None:
    (answer,) = await streamed(decoder(output="dict"), asynchronous)
    assert answer["answer"] == "Paris it is" and len(answer["tokens"]) == 4
    assert answer["documents"][4].metadata["robust_rag"]["supports"] is False


@both
async def test_a_stream_is_one_run(asynchronous: bool) -> None:
    tracer = RunCollectorCallbackHandler()
    config = {"callbacks": [tracer], "run_name": "robust"}
    chunks = await streamed(decoder(), asynchronous, config=config)
    (run,) = tracer.traced_runs
    assert run.name == "robust" and run.run_type == "chain" and run.error is None
    assert run.child_runs == [] and run.inputs == GIVEN
    assert run.outputs["output"].content == "".join(chunk.content for chunk in chunks)


@both
async def test_streams_through_a_chain(asynchronous: bool) -> None:
    context = RunnableLambda(lambda question: GIVEN["context"])
    chain = {"context": context, "question": RunnablePassthrough()} | decoder() | StrOutputParser()
    assert await streamed(chain, asynchronous, QUESTION) == ["Paris", " it", " is", ""]
    events = [event async for event in chain.astream_events(QUESTION)]
    pieces = [e["data"]["chunk"] for e in events if e["event"] == "on_parser_stream"]
    assert pieces == ["Paris", " it", " is", ""]


@both
async def test_errors_are_raised_where_the_stream_is_read(asynchronous: bool) -> None:
    tracer = RunCollectorCallbackHandler()
    for given, model, error in (
        ({**GIVEN, "question": ""}, None, ValueError),
        ({"question": QUESTION}, None, ValueError),
        ("text", None, TypeError),
        (GIVEN, Endless(fails_at=2), MemoryError),
    ):
        with pytest.raises(error):
            await streamed(decoder(model), asynchronous, given, {"callbacks": [tracer]})
        assert error.__name__ in tracer.traced_runs[-1].error
    with pytest.raises(TypeError, match="temperature"):
        next(decoder().stream(GIVEN, temperature=1))


def test_tokens_come_before_the_answer_is_complete() -> None:
    model = Endless()
    stream = decoder(model, max_tokens=LONG).stream(GIVEN)
    assert next(stream).content == "b" and model.steps < LONG
    stream.close()


def test_an_abandoned_stream_ends_its_thread() -> None:
    before, model = threading.active_count(), Endless()
    for chunk in decoder(model, max_tokens=LONG).stream(GIVEN):
        assert chunk.content == "b"
        break
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before and model.steps < LONG


async def test_an_abandoned_asynchronous_stream_ends() -> None:
    model = Endless()
    stream = decoder(model, max_tokens=LONG).astream(GIVEN)
    async for chunk in stream:
        assert chunk.content == "b"
        break
    await stream.aclose()
    assert await steps_taken(model) < LONG


async def test_a_cancelled_stream_ends() -> None:
    model, chunks = Endless(), []

    async def read() -> None:
        async for chunk in decoder(model, max_tokens=LONG).astream(GIVEN):
            chunks.append(chunk)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.5)
    read_so_far = len(chunks)
    assert await steps_taken(model) < LONG and len(chunks) == read_so_far


@pytest.mark.skipif(
    not READER.is_dir() or importlib.util.find_spec("peft") is None,
    reason="needs the embedded reader's weights and the extra 'transformers'",
)
@both
async def test_the_embedded_reader_decodes(asynchronous: bool) -> None:
    pages = ("Hamlet was written by William Shakespeare.", "Shakespeare wrote Hamlet.", "Bread.")
    question = "Who wrote Hamlet?"
    given = {"question": question, "context": pages}
    generator = RobustRAGGenerator(aggregation="decoding")
    chunks = await streamed(generator, asynchronous, given)
    result = robust_components.RobustRAGGenerator(aggregation="decoding").run(question, pages)
    assert "".join(chunk.content for chunk in chunks) == result.answer
    assert len(chunks) > 1 and "Shakespeare" in result.answer
    certificate = chunks[-1].response_metadata["certificate"]
    assert certificate["evidence"] == result.certificate.evidence
