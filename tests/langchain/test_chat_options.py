"""Memo, costs, sources, extractors and budgets for one call of the LangChain generator."""

from __future__ import annotations

import itertools
import pickle
import warnings
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import (
    ConfigurableField,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
)
from pydantic import Field, ValidationError

from langchain_robust import RobustRAGGenerator
from robust_components import Certificate

QUESTION = "What is the capital?"


def given(documents: list[Document]) -> dict[str, Any]:
    return {"question": QUESTION, "context": documents}


def sampling() -> RunnableLambda[Any, Any]:
    numbers = itertools.count()
    return RunnableLambda(lambda prompt: f"city {next(numbers)}")


async def test_a_memo_makes_a_sampling_model_repeat_itself(documents: list[Document]) -> None:
    robust = RobustRAGGenerator(llm=sampling(), memo=True)
    first = robust.invoke(given(documents))
    again = robust.invoke(given(documents))
    awaited = await robust.ainvoke(given(documents))
    assert first.content == again.content == awaited.content
    certificate = Certificate.from_dict(again.response_metadata["certificate"])
    assert certificate.verify() and certificate.parameters["memo"] is True
    assert certificate.cost["model_passes"] == 0
    forgetful = RobustRAGGenerator(llm=sampling())
    assert forgetful.invoke(given(documents)).content != forgetful.invoke(given(documents)).content


def test_generators_without_a_memo_can_be_pickled(chat: Any) -> None:
    robust = RobustRAGGenerator(llm=None)
    assert pickle.loads(pickle.dumps(robust)) == robust


def test_calls_and_tokens_are_counted(documents: list[Document]) -> None:
    attempts: set[str] = set()

    def respond(prompt: str) -> AIMessage:
        if "Bananas" in prompt and prompt not in attempts:
            attempts.add(prompt)
            raise ConnectionError("busy")
        usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
        return AIMessage("Paris", usage_metadata=usage)

    robust = RobustRAGGenerator(llm=RunnableLambda(respond), retry_delay=0)
    cost = robust.invoke(given(documents)).response_metadata["certificate"]["cost"]
    assert cost["model_passes"] == 7 and cost["tokens"] == 72 and cost["seconds"] > 0


@pytest.mark.parametrize("output", ["message", "dict"])
async def test_the_budget_can_be_changed_for_one_call(
    paris: Any, documents: list[Document], output: str
) -> None:
    robust = RobustRAGGenerator(llm=paris, output=output)

    def budget(result: Any) -> int:
        data = result if output == "dict" else result.response_metadata
        return int(data["certificate"]["threat"]["budget"])

    assert budget(robust.invoke(given(documents), corruption_size=2)) == 2
    assert budget(await robust.ainvoke(given(documents), corruption_size=3)) == 3
    assert budget(robust.bind(corruption_size=2).invoke(given(documents))) == 2
    assert budget(robust.invoke(given(documents))) == 1
    assert budget(robust.batch([given(documents)], corruption_size=2)[0]) == 2
    with pytest.raises(ValueError, match="corruption_size must be >= 1, got 0"):
        robust.invoke(given(documents), corruption_size=0)


async def test_the_budget_can_be_changed_for_one_stream() -> None:
    pytest.importorskip("peft")
    texts = ["Hamlet was written by Shakespeare."] * 5
    context = [Document(text, metadata={"source": str(i)}) for i, text in enumerate(texts)]
    asked = {"question": "Who wrote Hamlet?", "context": context}
    robust = RobustRAGGenerator(aggregation="decoding", on_uncertified="abstain")
    assert "".join(chunk.content for chunk in robust.stream(asked)) == "Shakespeare"
    withheld = [chunk async for chunk in robust.astream(asked, corruption_size=4)]
    assert withheld[-1].response_metadata["abstained"]
    assert [chunk.content for chunk in robust.stream(asked, corruption_size=4)] == [
        chunk.content for chunk in withheld
    ]


def test_models_that_stream_are_refused(chat: Any) -> None:
    class Streaming(type(chat())):  # type: ignore[misc]
        streaming: bool = Field(default=True)

    model = Streaming()
    for llm in (
        model,
        model.bind(stop=["x"]),
        RunnableLambda(lambda prompt: prompt) | model,
        chat().with_fallbacks([model]),
        model.with_retry(),
        model | RunnableLambda(lambda message: message),
        RunnableParallel(said=model) | RunnableLambda(lambda found: found["said"]),
        RunnableBranch((lambda prompt: len(prompt) > 9, model), chat()),
        RunnableBranch((lambda prompt: len(prompt) > 9, chat()), model),
        chat().configurable_alternatives(ConfigurableField(id="model"), other=model),
        RunnableLambda(lambda prompt: model.invoke(prompt)),
    ):
        with pytest.raises(ValidationError, match=r"llm must not stream.*streaming=False"):
            RobustRAGGenerator(llm=llm)
    RobustRAGGenerator(llm=Streaming(streaming=False))


def test_prompts_without_a_chat_model_are_refused() -> None:
    with pytest.raises(ValidationError, match="isolated_prompt goes with a chat model"):
        RobustRAGGenerator(isolated_prompt="{passage} {query}")


def test_a_function_extracts_keywords(paris: Any, documents: list[Document]) -> None:
    paris.table["Several sources"] = "Paris"
    robust = RobustRAGGenerator(
        llm=paris, aggregation="keyword", keyword_extractor=lambda text: [text.strip(".")]
    )
    assert robust.invoke(given(documents)).response_metadata["keywords"] == ["Paris"]


def test_sampling_is_warned_about_at_the_callers_line(chat: Any) -> None:
    with pytest.warns(UserWarning, match="llm has temperature 0.5.*memo=True") as caught:
        RobustRAGGenerator(llm=chat(temperature=0.5))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RobustRAGGenerator(llm=chat(temperature=0.5), memo=True)


async def test_documents_that_name_no_source_are_warned_about_at_the_callers_line(
    paris: Any,
) -> None:
    robust = RobustRAGGenerator(llm=paris, source_key=("author", "host:url"))
    context = [Document(f"Eiffel {i}", metadata={"page": i}) for i in range(3)]
    for call in (
        lambda: robust.invoke(given(context)),
        lambda: (RunnableLambda(lambda x: x) | robust).invoke(given(context)),
        lambda: list(robust.stream(given(context))),
    ):
        with pytest.warns(UserWarning, match="no document has 'author' or 'host:url'") as caught:
            call()
        assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="no document has"):
        await robust.ainvoke(given(context))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        robust.invoke(given([*context, Document("Louvre", metadata={"author": "Ann"})]))
        robust.invoke({"question": QUESTION, "context": ["Eiffel", "Louvre"]})
