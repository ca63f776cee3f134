"""Memo, costs, sources and extractors of the Haystack component."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator
from robust_components import Certificate
from robust_components.rag.prompting import ISOLATED_PROMPT

QUERY = "What is the capital of France?"


def sampling() -> MockChatGenerator:
    """Says something else every time."""
    numbers = itertools.count()
    return MockChatGenerator(
        response_fn=lambda messages: ChatMessage.from_assistant(f"city {next(numbers)}")
    )


def test_a_memo_makes_a_sampling_generator_repeat_itself(documents):
    component = RobustRAGGenerator(sampling(), memo=True)
    first, second = (component.run(query=QUERY, documents=documents) for _ in range(2))
    assert first["answers"][0].data == second["answers"][0].data
    certificate = Certificate.from_dict(second["certificate"])
    assert certificate.verify() and certificate.parameters["memo"] is True
    assert certificate.cost["model_passes"] == 0
    forgetful = RobustRAGGenerator(sampling())
    answers = [forgetful.run(query=QUERY, documents=documents)["answers"][0] for _ in range(2)]
    assert answers[0].data != answers[1].data


def test_calls_and_tokens_are_counted(documents):
    attempts: set[str] = set()

    def respond(messages):
        text = messages[0].text
        if "Bread" in text and text not in attempts:
            attempts.add(text)
            raise ConnectionError("busy")
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        return ChatMessage.from_assistant("Paris", meta={"usage": usage})

    component = RobustRAGGenerator(MockChatGenerator(response_fn=respond), retry_delay=0)
    cost = component.run(query=QUERY, documents=documents)["certificate"]["cost"]
    assert cost["model_passes"] == 7 and cost["tokens"] == 72 and cost["seconds"] > 0


def test_the_fingerprint_tells_settings_apart():
    class Configured(MockChatGenerator):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__("Paris")
            self.generation_kwargs = kwargs

    def fingerprint(**kwargs):
        component = RobustRAGGenerator(Configured(**kwargs))
        documents = [Document(content="a", meta={"source_id": "a"})]
        return component.run(query=QUERY, documents=documents)["certificate"]["model"]

    assert fingerprint(seed=1) == fingerprint(seed=1)
    assert fingerprint(seed=1)["fingerprint"].startswith("settings ")
    assert fingerprint(seed=1) != fingerprint(seed=2)
    assert fingerprint()["fingerprint"] == "unknown"
    with pytest.warns(UserWarning, match="chat_generator has temperature 0.7") as caught:
        RobustRAGGenerator(Configured(temperature=0.7))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RobustRAGGenerator(Configured(temperature=0.7), memo=True)
        RobustRAGGenerator(Configured(temperature=0))


def test_prompts_without_a_chat_generator_are_refused():
    RobustRAGGenerator(isolated_prompt=ISOLATED_PROMPT)
    for options in (
        {"isolated_prompt": "{passage} {query}"},
        {"keyword_prompt": "{keywords} {query}"},
    ):
        with pytest.raises(ValueError, match="goes with a chat model"):
            RobustRAGGenerator(**options)


def test_a_function_extracts_keywords(generator, documents):
    component = RobustRAGGenerator(
        generator, "keyword", keyword_extractor=lambda text: [text.upper()]
    )
    answer = component.run(query=QUERY, documents=documents)["answers"][0]
    assert answer.meta["keywords"] == ["PARIS"] and answer.data == "Paris"


# -------------------------------------------------------------------------------------- sources


def test_the_first_field_with_a_value_names_the_source(generator):
    documents = [
        Document(content="Paris one.", meta={"author": "Ann", "url": "https://a.example/1"}),
        Document(content="Paris two.", meta={"url": "https://a.example/2"}),
        Document(content="Paris three.", meta={"author": "", "url": "https://a.example/3"}),
    ]
    component = RobustRAGGenerator(generator, source_key=["author", "host:url"])
    result = component.run(query=QUERY, documents=documents)
    assert result["certificate"]["evidence"]["sources"] == ["Ann", "a.example"]
    assert component.to_dict()["init_parameters"]["source_key"] == ["author", "host:url"]


def test_documents_that_name_no_source_are_warned_about_at_the_callers_line(generator):
    documents = [Document(content=f"Paris {i}.", meta={"page": i}) for i in range(3)]
    component = RobustRAGGenerator(generator)
    with pytest.warns(UserWarning, match="no document has 'source_id' in its metadata") as caught:
        component.run(query=QUERY, documents=documents)
    assert caught[0].filename == __file__
    pipeline = Pipeline()
    pipeline.add_component("rag", component)
    with pytest.warns(UserWarning, match="source_key") as caught:
        pipeline.run({"rag": {"query": QUERY, "documents": documents}})
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named = [Document(content="Paris.", meta={"source_id": "a"}), *documents]
        component.run(query=QUERY, documents=named)
        component.run(query=QUERY, documents=[])


@pytest.mark.filterwarnings("ignore:no document has")
def test_hashes_are_not_shown_as_sources(generator):
    twice = Document(content="Paris, again.")
    documents = [Document(content="Paris."), twice, twice, Document(id="doc 7", content="Paris!")]
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=documents)
    sources = [d.meta["robust_rag"]["source"] for d in result["answers"][0].documents]
    assert sources[0] == f"document 1 ({documents[0].id[:8]})"
    assert sources[1] == sources[2] == f"document 2 ({twice.id[:8]})"
    assert sources[3] == "doc 7"
    parent = Document(content="Paris, whole.")
    chunk = Document(content="Paris, part.", meta={"source_id": parent.id})
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=[parent, chunk])
    assert result["certificate"]["evidence"]["sources"] == [parent.id], "one party, one vote"
