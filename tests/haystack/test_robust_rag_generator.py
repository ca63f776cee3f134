"""The Haystack component: what goes in, what comes out, and that it adds nothing to the core."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
from pathlib import Path

import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.components.builders import AnswerBuilder
from haystack.components.generators.chat import MockChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ByteStream, GeneratedAnswer
from haystack.document_stores.in_memory import InMemoryDocumentStore

import robust_components
from haystack_integrations.components.generators.robust_components import RobustRAGGenerator
from robust_components import Certificate
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator as CoreGenerator
from robust_components.rag.passages import Passage

QUERY = "What is the capital of France?"
DETAILS = {
    *("answer", "abstained", "vote", "supports", "source"),
    *("probability", "failure", "truncated", "unused"),
}
READER = Path(robust_components.__file__).parent / "models" / "weights" / "reader"
embedded = pytest.mark.skipif(
    not READER.is_dir() or importlib.util.find_spec("peft") is None,
    reason="needs the embedded reader's weights and the extra 'transformers'",
)


def comparable(certificate):
    """A certificate without what differs from run to run."""
    return {k: v for k, v in certificate.items() if k not in ("cost", "digest")}


def details_of(result):
    return [document.meta["robust_rag"] for document in result["answers"][0].documents]


def test_voting_answers_and_certifies(generator, documents):
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=documents)
    (answer,) = result["answers"]
    (reply,) = result["replies"]
    assert answer.data == reply.text == "Paris"
    assert answer.query == QUERY
    assert reply.is_from("assistant")
    certificate = Certificate.from_dict(result["certificate"])
    assert certificate.certified
    assert certificate.statement == "observed"
    assert certificate.radius == 1
    assert certificate.model["name"] == "MockChatGenerator(mock-model)"
    assert answer.meta == reply.meta
    assert answer.meta["certificate"] == result["certificate"]
    assert answer.meta["sources"] == ["a", "c", "e", "f"]
    assert answer.meta["abstained"] is False


def test_keyword_answers_and_certifies(generator, documents):
    pytest.importorskip("spacy")
    component = RobustRAGGenerator(generator, aggregation="keyword", beta=2)
    result = component.run(query=QUERY, documents=documents)
    assert result["answers"][0].data == "Paris"
    assert result["answers"][0].meta["keywords"] == ["paris"]
    assert result["certificate"]["method"] == "keyword"
    assert result["certificate"]["certified"]
    assert [detail["supports"] for detail in details_of(result)] == [
        *(True, False, True, None, True, True)
    ]


def test_every_document_comes_back_with_its_own_result(generator, documents):
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=documents)
    returned = result["answers"][0].documents
    assert [d.id for d in returned] == [d.id for d in documents]
    assert [d.score for d in returned] == [d.score for d in documents]
    assert all(set(detail) == DETAILS for detail in details_of(result))
    first, poisoned, _, unknown, *_ = details_of(result)
    assert first["answer"] == "Paris" and first["vote"] == "paris" and first["supports"] is True
    assert poisoned["vote"] == "mars" and poisoned["supports"] is False
    assert unknown["abstained"] is True and unknown["supports"] is None
    assert [detail["source"] for detail in details_of(result)] == list("abcdef")


def test_documents_given_are_not_touched(generator, documents):
    before = copy.deepcopy(documents)
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=documents)
    result["answers"][0].documents[0].meta["note"] = "mine"
    assert documents == before
    assert all("robust_rag" not in document.meta for document in documents)


def test_outputs_share_no_certificate(generator, documents):
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=documents)
    result["certificate"]["radius"] = 99
    result["answers"][0].meta["certificate"]["radius"] = 98
    assert result["replies"][0].meta["certificate"]["radius"] == 1


def test_answer_survives_json(generator, documents):
    answer = RobustRAGGenerator(generator).run(query=QUERY, documents=documents)["answers"][0]
    restored = GeneratedAnswer.from_dict(json.loads(json.dumps(answer.to_dict())))
    assert restored == answer
    assert Certificate.from_dict(restored.meta["certificate"]).digest


@pytest.mark.parametrize("aggregation", ["voting", "keyword"])
async def test_async_gives_the_same(generator, documents, aggregation):
    if aggregation == "keyword":
        pytest.importorskip("spacy")
    options = {"beta": 2} if aggregation == "keyword" else {}
    component = RobustRAGGenerator(generator, aggregation, **options)
    blocking = component.run(query=QUERY, documents=documents)
    awaited = await component.run_async(query=QUERY, documents=documents)
    assert blocking["answers"][0].data == awaited["answers"][0].data == "Paris"
    assert comparable(blocking["certificate"]) == comparable(awaited["certificate"])
    assert blocking["answers"][0].documents == awaited["answers"][0].documents
    passes = [result["certificate"]["cost"]["model_passes"] for result in (blocking, awaited)]
    assert passes[0] == passes[1]


def test_adds_nothing_to_the_core(documents):
    """Same passages, same responses: the same answer and evidence as the core alone."""
    passages = [Passage(d.content, d.meta["source_id"], d.id) for d in documents]
    reader = KeywordReader(lambda _, text: "Paris" if "Paris" in text else text.partition(".")[0])
    responses = {d.content: reader.function(QUERY, d.content) for d in documents}

    def respond(messages):
        return next(answer for text, answer in responses.items() if text in messages[0].text)

    component = RobustRAGGenerator(MockChatGenerator(response_fn=respond), corruption_size=2)
    certificate = component.run(query=QUERY, documents=documents)["certificate"]
    expected = CoreGenerator(reader, "voting", 2).run(QUERY, passages).certificate.to_dict()
    for key in ("evidence", "radius", "certified", "claim", "parameters", "assumptions", "threat"):
        assert certificate[key] == expected[key]


def test_corruption_size_can_be_set_per_run(generator, documents):
    component = RobustRAGGenerator(generator, on_uncertified="abstain")
    assert component.run(query=QUERY, documents=documents)["answers"][0].data == "Paris"
    strict = component.run(query=QUERY, documents=documents, corruption_size=3)
    assert strict["answers"][0].data == "I don't know"
    assert strict["answers"][0].meta["abstained"] is True
    assert strict["certificate"]["threat"]["budget"] == 3
    assert not strict["certificate"]["certified"]
    after = component.run(query=QUERY, documents=documents)
    assert after["certificate"]["threat"]["budget"] == component.corruption_size == 1
    with pytest.raises(ValueError, match="corruption_size must be >= 1, got 0"):
        component.run(query=QUERY, documents=documents, corruption_size=0)


@pytest.mark.parametrize("documents", ["text", ["text"], 3])
def test_documents_must_be_documents(generator, documents):
    with pytest.raises(TypeError, match=r"documents must be a list of Documents, got (str|int)"):
        RobustRAGGenerator(generator).run(query=QUERY, documents=documents)


def test_no_documents(generator):
    result = RobustRAGGenerator(generator, abstention="No answer.").run(query=QUERY, documents=[])
    assert result["answers"][0].data == result["replies"][0].text == "No answer."
    assert result["answers"][0].documents == []
    assert not result["certificate"]["certified"]


@pytest.mark.parametrize("query", ["", " \n"])
async def test_empty_query(generator, documents, query):
    component = RobustRAGGenerator(generator)
    with pytest.raises(ValueError, match="query must not be empty"):
        component.run(query=query, documents=documents)
    with pytest.raises(ValueError, match="query must not be empty"):
        await component.run_async(query=query, documents=documents)


def test_duplicates_hold_slots_and_documents_beyond_top_k_are_marked(generator, documents):
    component = RobustRAGGenerator(generator, top_k=3)
    result = component.run(query=QUERY, documents=[documents[0], *documents])
    unused = [detail["unused"] for detail in details_of(result)]
    assert unused == [None, None, None, *["beyond top_k=3"] * (len(documents) - 2)]
    assert result["certificate"]["cost"]["model_passes"] == 3


def test_a_document_without_text_is_read_as_empty(generator, documents, caplog):
    """It keeps its place, so that an image cannot push a source out of the count unseen."""
    image = Document(id="image", blob=ByteStream(b"\x89PNG", mime_type="image/png"))
    given = [documents[0], image, *documents[1:]]
    with caplog.at_level(logging.WARNING):
        result = RobustRAGGenerator(generator).run(query=QUERY, documents=given)
    assert "image" in caplog.text and "without text content" in caplog.text
    returned = result["answers"][0].documents
    assert [d.id for d in returned] == [d.id for d in given]
    assert returned[1].content is None and returned[1].blob == image.blob
    assert returned[1].meta["robust_rag"]["abstained"] is True
    assert returned[1].meta["robust_rag"]["source"] == "image"
    assert "image" in result["certificate"]["evidence"]["sources"]


def test_chunks_of_one_source_have_one_vote(generator, make_documents):
    mars = ["Mars is the capital.", "It is Mars.", "Mars, they say."]
    paris = ["Paris is the capital.", "The capital is Paris."]
    chunks = make_documents(*mars, *paris, sources="eeeab")
    result = RobustRAGGenerator(generator).run(query=QUERY, documents=chunks)
    assert result["answers"][0].data == "Paris"
    assert result["certificate"]["evidence"]["votes"] == {"paris": 2, "mars": 1}


def test_source_key_names_a_field_or_the_host_of_a_url(generator):
    urls = ["https://a.example/1", "https://A.example/2", "http://b.example:8080/3", None]
    given = [
        Document(id=str(i), content="Paris.", meta={"url": url, "publisher": "p"})
        for i, url in enumerate(urls)
    ]

    def sources(key):
        component = RobustRAGGenerator(generator, source_key=key)
        return [d["source"] for d in details_of(component.run(query=QUERY, documents=given))]

    assert sources("publisher") == ["p"] * 4
    assert sources("host:url") == ["a.example", "a.example", "b.example", "3"]
    assert sources("source_id") == ["0", "1", "2", "3"]


@pytest.fixture
def pipeline(generator, documents):
    store = InMemoryDocumentStore()
    store.write_documents(documents)
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=6))
    pipeline.add_component("rag", RobustRAGGenerator(generator, top_k=6))
    pipeline.add_component("builder", AnswerBuilder())
    pipeline.connect("retriever.documents", "rag.documents")
    pipeline.connect("rag.replies", "builder.replies")
    return pipeline


def test_in_a_pipeline_after_a_retriever(pipeline):
    inputs = {name: {"query": QUERY} for name in ("retriever", "rag", "builder")}
    result = pipeline.run(inputs, include_outputs_from={"rag"})
    assert result["rag"]["answers"][0].data == "Paris"
    assert result["rag"]["certificate"]["certified"]
    built = result["builder"]["answers"][0]
    assert built.data == "Paris"
    assert built.meta["certificate"] == result["rag"]["certificate"]


async def test_in_an_asynchronous_pipeline(pipeline):
    inputs = {name: {"query": QUERY} for name in ("retriever", "rag", "builder")}
    result = await pipeline.run_async(inputs)
    assert result["rag"]["answers"][0].data == "Paris"


@embedded
@pytest.mark.parametrize("aggregation", ["voting", "keyword", "decoding"])
async def test_the_embedded_reader_is_the_default(plays, aggregation):
    if aggregation == "keyword":
        pytest.importorskip("spacy")
    component = RobustRAGGenerator(aggregation=aggregation)
    component.warm_up()
    result = component.run(query="Who wrote Hamlet?", documents=plays)
    awaited = await component.run_async(query="Who wrote Hamlet?", documents=plays)
    assert result["answers"][0].data.lower() in "william shakespeare"
    assert comparable(result["certificate"]) == comparable(awaited["certificate"])
    read = [detail for detail in details_of(result) if detail["answer"] is not None]
    assert bool(read) == (aggregation != "decoding")  # which reads no whole answers
    assert all(type(detail["probability"]) is float for detail in read)


@embedded
def test_docstring_example_runs(capsys):
    example = RobustRAGGenerator.__doc__.partition("```python")[2].partition("```")[0]
    exec("\n".join(line.removeprefix("    ") for line in example.splitlines()), {})
    answer, radius = capsys.readouterr().out.rsplit(maxsplit=1)
    assert answer == "Shakespeare" and int(radius) >= 1
