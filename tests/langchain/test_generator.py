"""The LangChain generator: input, output, settings, errors, hostile failures."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.load import dumpd, load
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField, RunnableLambda

import robust_components
from langchain_robust import RobustRAGGenerator
from robust_components import Certificate
from robust_components.models.protocols import ModelFailedError
from robust_components.models.testing import KeywordReader
from robust_components.rag.passages import Passage

QUESTION = "What is the capital of France?"
READER = Path(robust_components.__file__).parent / "models" / "weights" / "reader"


class Words:
    """A keyword extractor without spaCy."""

    def extract(self, text: str) -> frozenset[str]:
        return frozenset(text.lower().strip(".").split())


def ask(generator: RobustRAGGenerator, context: Any) -> Any:
    return generator.invoke({"question": QUESTION, "context": context})


def test_message_carries_answer_certificate_and_what_became_of_each_document(
    paris: Any, documents: list[Document]
) -> None:
    message = ask(RobustRAGGenerator(llm=paris), documents)
    assert isinstance(message, AIMessage)
    assert message.content == "Paris"
    data = message.response_metadata
    certificate = Certificate.from_dict(data["certificate"])
    assert certificate.certified and certificate.radius == 1 and certificate.statement == "observed"
    assert certificate.model["name"] == "TableChatModel(table-1)"
    assert certificate.evidence["sources"] == [d.metadata["source"] for d in documents]
    assert data["abstained"] is False and data["keywords"] == []
    assert data["sources"] == ["a.example", "b.example", "c.example", "d.example"]
    poisoned, irrelevant = data["passages"][2], data["passages"][5]
    assert poisoned["answer"] == "Poisontown" and poisoned["supports"] is False
    assert irrelevant["abstained"] and irrelevant["vote"] is None
    assert "text" not in poisoned
    assert json.loads(json.dumps(data)) == data
    assert len(json.dumps(data)) < 4000


def test_model_sees_one_page_content_at_a_time_and_no_metadata(
    paris: Any, documents: list[Document]
) -> None:
    ask(RobustRAGGenerator(llm=paris), documents)
    assert len(paris.prompts) == len(documents)
    for document in documents:
        assert sum(document.page_content in prompt for prompt in paris.prompts) == 1
    assert not any(".example" in prompt or "page" in prompt for prompt in paris.prompts)


def test_documents_are_not_changed(paris: Any, documents: list[Document]) -> None:
    before = copy.deepcopy(documents)
    for output in ("message", "dict"):
        ask(RobustRAGGenerator(llm=paris, output=output), documents)
    assert documents == before


def test_dict_output_holds_annotated_copies(paris: Any, documents: list[Document]) -> None:
    generator = RobustRAGGenerator(llm=paris, output="dict")
    result = ask(generator, [*documents, "A string about the Louvre."])
    assert result["question"] == QUESTION and result["answer"] == "Paris."
    assert result["abstained"] is False and "a.example" in result["sources"]
    assert Certificate.from_dict(result["certificate"]).certified
    first, last = result["documents"][0], result["documents"][-1]
    assert first.page_content == documents[0].page_content
    assert first.metadata["source"] == "a.example" and first.metadata["page"] == 1
    assert first.metadata["robust_rag"]["supports"] is True
    assert last.page_content == "A string about the Louvre."
    assert last.metadata["robust_rag"]["source"] == "passage 7"
    assert generator.OutputType == dict[str, Any]
    assert generator.get_output_jsonschema()["type"] == "object"
    assert RobustRAGGenerator(llm=paris).OutputType is AIMessage


def test_message_and_dict_agree(paris: Any, documents: list[Document]) -> None:
    message = ask(RobustRAGGenerator(llm=paris), documents)
    result = ask(RobustRAGGenerator(llm=paris, output="dict"), documents)
    passages = [document.metadata["robust_rag"] for document in result["documents"]]
    assert result["answer"] == message.content
    assert passages == message.response_metadata["passages"]


def sources(generator: RobustRAGGenerator, context: list[Any]) -> list[str]:
    passages = ask(generator, context).response_metadata["passages"]
    return [passage["source"] for passage in passages]


def test_source_comes_from_metadata_then_id_then_is_its_own(paris: Any) -> None:
    context = [
        Document("1", id="x", metadata={"source_id": "party", "source": "file"}),
        Document("2", id="y", metadata={"source": "file"}),
        Document("3", id="z", metadata={"url": "https://host.example/a"}),
        Document("4"),
        "5",
    ]
    default = RobustRAGGenerator(llm=paris)
    assert sources(default, context) == ["party", "file", "z", "passage 4", "passage 5"]
    by_host = RobustRAGGenerator(llm=paris, source_key="host:url")
    assert sources(by_host, context) == ["x", "y", "host.example", "passage 4", "passage 5"]


def test_chunks_of_one_file_and_a_repeated_id_have_one_vote(paris: Any) -> None:
    evil = [Document(f"Mallory {i}", metadata={"source": "evil.pdf"}) for i in range(5)]
    good = [Document(f"Eiffel {i}", metadata={"source": f"{i}.pdf"}) for i in range(2)]
    assert ask(RobustRAGGenerator(llm=paris), evil + good).content == "Paris"
    twice = [Document("Eiffel", id="1"), Document("Eiffel", id="1")]
    passages = ask(RobustRAGGenerator(llm=paris), twice).response_metadata["passages"]
    assert passages[0]["source"] == passages[1]["source"]


def test_keyword_aggregation(chat: Any, documents: list[Document]) -> None:
    llm = chat({"Several sources": "Paris", "Eiffel": "Paris", "Louvre": "in Paris"})
    generator = RobustRAGGenerator(
        llm=llm, aggregation="keyword", keyword_extractor=Words(), alpha="0.3", beta=2
    )
    message = ask(generator, documents)
    assert message.content == "Paris"
    assert message.response_metadata["keywords"] == ["in", "paris"]
    certificate = Certificate.from_dict(message.response_metadata["certificate"])
    assert certificate.method == "keyword" and certificate.parameters["alpha"] == "3/10"


def test_no_context_is_an_uncertified_abstention(paris: Any) -> None:
    message = ask(RobustRAGGenerator(llm=paris, abstention="No idea."), [])
    assert message.content == "No idea." and message.response_metadata["abstained"]
    assert not message.response_metadata["certificate"]["certified"]
    assert message.response_metadata["passages"] == [] and paris.prompts == []


def test_uncertified_answers_can_be_withheld(paris: Any) -> None:
    context = [Document("Eiffel"), Document("Mallory")]
    generator = RobustRAGGenerator(llm=paris, on_uncertified="abstain", corruption_size=2)
    message = ask(generator, context)
    assert message.content == "I don't know" and message.response_metadata["abstained"]


@pytest.mark.parametrize("failing", ["!error", "!sleep"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_failures_count_as_hostile(
    chat: Any, failing: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    llm = chat({"Eiffel": "Paris", "broken": failing}, slow=3)
    generator = RobustRAGGenerator(llm=llm, timeout=1.5, retries=0)
    context = ["Eiffel one", "Eiffel two", "Eiffel three", "broken"]
    given = {"question": QUESTION, "context": context}
    message = await generator.ainvoke(given) if asynchronous else generator.invoke(given)
    certificate = message.response_metadata["certificate"]
    error = "ConnectionError" if failing == "!error" else "TimeoutError"
    assert message.content == "Paris"
    assert error in message.response_metadata["passages"][3]["failure"]
    assert certificate["radius"] == 1 and "1 source gave no usable" in str(
        certificate["assumptions"]
    )
    assert "1 of 4 documents" in caplog.text and error in caplog.text


def test_a_failed_call_is_tried_again(documents: list[Document]) -> None:
    attempts: list[str] = []

    def flaky(prompt: str) -> str:
        attempts.append(prompt)
        if attempts.count(prompt) == 1:
            raise ConnectionError("once")
        return "Paris"

    llm = RunnableLambda(flaky)
    passages = ask(RobustRAGGenerator(llm=llm), documents).response_metadata["passages"]
    assert all(passage["failure"] is None for passage in passages)
    with pytest.raises(ModelFailedError, match="ConnectionError"):
        ask(RobustRAGGenerator(llm=llm, retries=0), ["new"])


@pytest.mark.parametrize("answer", [None, 3, {"content": "Paris"}, "", AIMessage("")])
def test_responses_that_are_no_text_count_as_hostile(answer: Any) -> None:
    llm = RunnableLambda(lambda prompt: answer)
    with pytest.raises(ModelFailedError, match="no usable response to any of 2 passages"):
        ask(RobustRAGGenerator(llm=llm, retries=0, timeout=5), ["one", "two"])
    mixed = RunnableLambda(lambda prompt: "Paris" if "one" in prompt else answer)
    passages = ask(RobustRAGGenerator(llm=mixed, retries=0, timeout=5), ["one", "two"])
    failures = [passage["failure"] for passage in passages.response_metadata["passages"]]
    assert failures[0] is None and failures[1]


def test_content_blocks_strings_and_core_readers_are_read() -> None:
    blocks = [{"type": "text", "text": "Paris"}, {"type": "reasoning", "reasoning": "hm"}]
    models = [
        RunnableLambda(lambda prompt: AIMessage(blocks)),
        RunnableLambda(lambda prompt: "Paris"),
        FakeListChatModel(responses=["Paris"]),
        GenericFakeChatModel(messages=iter([AIMessage("Paris")] * 3)),
        KeywordReader(lambda query, text: "Paris"),
    ]
    for llm in models:
        assert ask(RobustRAGGenerator(llm=llm), ["a", "b", "c"]).content == "Paris"


def test_a_bound_model_keeps_its_name_and_arguments(paris: Any) -> None:
    generator = RobustRAGGenerator(llm=paris.bind(stop=["\n"]).with_config(tags=["mine"]))
    certificate = ask(generator, ["Eiffel"]).response_metadata["certificate"]
    assert certificate["model"]["name"] == "TableChatModel(table-1)"


def test_sampling_models_are_warned_about_at_the_callers_line(chat: Any) -> None:
    with pytest.warns(UserWarning, match=r"temperature 0\.7") as caught:
        RobustRAGGenerator(llm=chat(temperature=0.7))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RobustRAGGenerator(llm=chat(temperature=0.0))


def test_no_arguments_are_needed_and_repr_is_short() -> None:
    assert repr(RobustRAGGenerator()) == "RobustRAGGenerator()"
    assert repr(RobustRAGGenerator(corruption_size=2)) == "RobustRAGGenerator(corruption_size=2)"


@pytest.mark.skipif(not READER.is_dir(), reason="the embedded reader is not trained yet")
async def test_no_llm_means_the_embedded_reader(documents: list[Document]) -> None:
    generator = RobustRAGGenerator()
    passages = [Passage(d.page_content, source=d.metadata["source"]) for d in documents]
    result = robust_components.RobustRAGGenerator().run(QUESTION, passages)
    given = {"question": QUESTION, "context": documents}
    for message in (generator.invoke(given), await generator.ainvoke(given)):
        assert message.content == result.answer
        assert message.response_metadata["certificate"]["evidence"] == result.certificate.evidence
        assert message.response_metadata["certificate"]["model"] == result.certificate.model


def test_copies_and_changed_settings_take_effect(paris: Any, documents: list[Document]) -> None:
    generator = RobustRAGGenerator(llm=paris, aggregation="keyword", keyword_extractor=Words())
    voting = generator.model_copy(
        update={"aggregation": "voting", "keyword_extractor": None, "corruption_size": 2}
    )
    certificate = ask(voting, documents).response_metadata["certificate"]
    assert certificate["method"] == "voting" and certificate["threat"]["budget"] == 2
    assert copy.copy(voting) == voting
    simple = RobustRAGGenerator(llm=FakeListChatModel(responses=["Paris"]), aggregation="keyword")
    for again in (copy.deepcopy(simple), pickle.loads(pickle.dumps(simple))):
        assert again == simple


def test_settings_can_be_changed_for_one_call(paris: Any, documents: list[Document]) -> None:
    field = ConfigurableField(id="corruption_size")
    generator = RobustRAGGenerator(llm=paris).configurable_fields(corruption_size=field)
    given = {"question": QUESTION, "context": documents}
    for budget, certified in ((1, True), (2, False)):
        message = generator.invoke(given, {"configurable": {"corruption_size": budget}})
        assert message.response_metadata["certificate"]["certified"] is certified


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_goes_through_langchain_serialisation(chat: Any, documents: list[Document]) -> None:
    llm = chat({"Eiffel": "Paris"})
    generator = RobustRAGGenerator(llm=llm, corruption_size=2, choices=["Paris", "Rome"])
    stored = json.loads(json.dumps(dumpd(generator)))
    assert stored["type"] == "constructor"
    assert stored["id"] == ["langchain_robust", "generator", "RobustRAGGenerator"]
    stored["kwargs"].pop("llm")
    again = load(
        stored, allowed_objects=[RobustRAGGenerator], valid_namespaces=["langchain_robust"]
    )
    assert again == RobustRAGGenerator(corruption_size=2, choices=["Paris", "Rome"])
