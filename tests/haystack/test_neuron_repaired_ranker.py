"""NeuronRepairedRanker in Haystack: documents in and out, YAML by patch path, warm-up, settings."""

from __future__ import annotations

import copy
import inspect

import pytest

pytest.importorskip("haystack")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from haystack import Document, Pipeline
from haystack.utils import ComponentDevice

from haystack_integrations.components.rankers.robust_components import (
    NeuronRepairedRanker,
    SmoothedRanker,
)
from robust_components import Certificate
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair import NeuronRepairedRanker as CoreRanker
from tests.repair.toy import toy_patch

QUERY = "who is the man"
CHANGED = {
    "model": "folder/of/a/model",
    "patch": None,
    "probes": "probes.jsonl",
    "repair_kwargs": {"neurons": 64, "step": 1e-5},
    "top_k": 4,
    "score_threshold": 0.25,
    "meta_fields_to_embed": ["title"],
    "embedding_separator": " - ",
    "device": ComponentDevice.from_str("cpu"),
    "token": None,
    "tokens_a_batch": 256,
    "model_kwargs": {"attn_implementation": "eager"},
    "tokenizer_kwargs": {"use_fast": True},
}


@pytest.fixture(scope="module")
def made(tiny_ranker, tmp_path_factory):
    return toy_patch(tiny_ranker, tmp_path_factory.mktemp("patch"))


@pytest.fixture
def ranker(tiny_ranker, made):
    return NeuronRepairedRanker(tiny_ranker, made[0], top_k=2)


@pytest.fixture
def found():
    texts = ["the man a b", "a river c d e", "what city", "the man is true"]
    return [
        Document(id=f"doc-{i}", content=text, meta={"title": "city"}, score=1.0 - i / 10)
        for i, text in enumerate(texts)
    ]


def test_the_top_is_returned_with_the_cores_scores_and_certificate(
    ranker, tiny_ranker, made, found
):
    result = ranker.run(query=QUERY, documents=found)
    core = CoreRanker(load_pair_scorer(tiny_ranker), made[0], top_k=2)
    expected = core.rank(QUERY, [document.content for document in found])
    assert [d.id for d in result["documents"]] == [f"doc-{i.index}" for i in expected.top]
    assert [d.score for d in result["documents"]] == pytest.approx([i.score for i in expected.top])
    best = result["documents"][0]
    details = best.meta["robust_ranking"]
    assert details["rank"] == details["times_given"] == 1
    assert details["previous_score"] == found[expected.top[0].index].score
    assert best.meta["title"] == "city"
    certificate = Certificate.from_dict(result["certificate"])
    assert certificate.verify()
    assert (certificate.guarantee, certificate.certified) == ("empirical", False)
    assert certificate.claim == expected.certificate.claim


async def test_async_gives_the_same_and_documents_are_not_changed(ranker, found):
    before = copy.deepcopy(found)
    first = ranker.run(query=QUERY, documents=found, top_k=3)
    second = await ranker.run_async(query=QUERY, documents=found, top_k=3)
    for result in (first, second):
        for name in ("cost", "digest"):
            del result["certificate"][name]
    assert first == second
    assert len(first["documents"]) == 3
    assert found == before
    assert inspect.signature(ranker.run) == inspect.signature(ranker.run_async)


def test_yaml_round_trip_by_patch_path(ranker, found):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.to_dict()["components"] == pipeline.to_dict()["components"]
    again = loaded.get_component("ranker")
    assert again._core is None
    ours, theirs = (r.run(query=QUERY, documents=found)["documents"] for r in (ranker, again))
    assert ours == theirs
    result = loaded.run({"ranker": {"query": QUERY, "documents": found}})["ranker"]
    assert result["documents"] == ours


def test_every_setting_survives_serialisation():
    component = NeuronRepairedRanker(**CHANGED)
    parameters = list(inspect.signature(NeuronRepairedRanker.__init__).parameters)[1:]
    assert sorted(CHANGED) == sorted(parameters)
    loaded = Pipeline()
    loaded.add_component("ranker", component)
    again = Pipeline.loads(loaded.dumps()).get_component("ranker")
    for name, value in CHANGED.items():
        assert getattr(again, name) == value


def test_warm_up_repairs_with_probes_and_gets_the_same_patch(tiny_ranker, made, found):
    patch, probes, settings = made
    component = NeuronRepairedRanker(tiny_ranker, probes=probes, repair_kwargs=settings)
    assert component._core is None
    component.warm_up()
    core = component._core
    component.warm_up()
    assert component._core is core
    from_file = NeuronRepairedRanker(tiny_ranker, patch)
    ours, theirs = (r.run(query=QUERY, documents=found) for r in (component, from_file))
    assert [d.score for d in ours["documents"]] == [d.score for d in theirs["documents"]]


def test_can_be_smoothed_by_yaml(ranker, found):
    pipeline = Pipeline()
    settings = {"mechanism_kwargs": {"blocks": 3}, "top_k": 1}
    pipeline.add_component("ranker", SmoothedRanker(ranker=ranker, **settings))
    loaded = Pipeline.loads(pipeline.dumps())
    result = loaded.run({"ranker": {"query": QUERY, "documents": found}})["ranker"]
    certificate = Certificate.from_dict(result["certificate"])
    assert certificate.guarantee == "deterministic"
    assert certificate.verify()


def test_repeated_documents_count_once_and_thresholds_are_inclusive(ranker, found):
    result = ranker.run(query=QUERY, documents=[*found, found[1]], top_k=9, score_threshold=0.0)
    assert len(result["documents"]) == 4
    assert sum(d.meta["robust_ranking"]["times_given"] for d in result["documents"]) == 5
    least = result["documents"][1].score
    assert len(ranker.run(query=QUERY, documents=found, score_threshold=least)["documents"]) == 2
    assert ranker.run(query=QUERY, documents=[])["documents"] == []


def test_bad_input_is_refused(tiny_ranker, made, tmp_path):
    with pytest.raises(ValueError, match="one of patch and probes"):
        NeuronRepairedRanker(tiny_ranker)
    with pytest.raises(ValueError, match="one of patch and probes"):
        NeuronRepairedRanker(tiny_ranker, made[0], probes=made[1])
    with pytest.raises(ValueError, match="top_k"):
        NeuronRepairedRanker(tiny_ranker, made[0], top_k=0)
    with pytest.raises(TypeError, match="list of names"):
        NeuronRepairedRanker(tiny_ranker, made[0], meta_fields_to_embed="title")
    with pytest.raises(FileNotFoundError, match="no patch at"):
        NeuronRepairedRanker(tiny_ranker, str(tmp_path / "none")).warm_up()
    with pytest.raises(ValueError, match="query must not be empty"):
        NeuronRepairedRanker(tiny_ranker, made[0]).run(query="", documents=[])
