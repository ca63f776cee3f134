"""NeuronRepairedRanker in LangChain: copies, scores, probes, settings; the same as in Haystack."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("torch")
pytest.importorskip("transformers")

from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_robust import NeuronRepairedRanker, SmoothedRanker
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair import NeuronRepairedRanker as CoreRanker
from robust_components.smoothing import BalancedMask
from tests.repair.toy import toy_patch

QUERY = "who is the man"
TEXTS = ["the man a b", "a river c d e", "what city", "the man is true"]


@pytest.fixture(scope="module")
def made(tiny_ranker, tmp_path_factory):
    return toy_patch(tiny_ranker, tmp_path_factory.mktemp("patch"))


@pytest.fixture
def ranker(tiny_ranker, made):
    return NeuronRepairedRanker(model=tiny_ranker, patch=made[0], top_n=2)


@pytest.fixture
def documents():
    return [
        Document(text, id=str(i), metadata={"page": i, "relevance_score": i / 10})
        for i, text in enumerate(TEXTS)
    ]


async def test_the_top_as_copies_with_the_cores_scores(ranker, tiny_ranker, made, documents):
    before = copy.deepcopy(documents)
    found = ranker.compress_documents(documents, QUERY)
    expected = CoreRanker(load_pair_scorer(tiny_ranker), made[0], top_k=2).rank(QUERY, TEXTS)
    assert [d.id for d in found] == [str(i.index) for i in expected.top]
    for document, item in zip(found, expected.top, strict=True):
        assert document.metadata["relevance_score"] == pytest.approx(item.score)
        details = document.metadata["robust_ranking"]
        assert details["rank"] == item.rank
        assert details["previous_score"] == item.index / 10
        assert details["measured"] == expected.certificate.claim
        assert document.metadata["page"] == item.index
    assert documents == before
    assert await ranker.acompress_documents(documents, QUERY) == found


def test_the_certificate_is_empirical(ranker, documents):
    certificate = ranker.rank(QUERY, documents).certificate
    assert certificate.verify()
    assert certificate.guarantee == "empirical"
    assert not certificate.certified
    assert certificate.concerns(QUERY, TEXTS)


def test_same_order_and_scores_as_in_haystack(tiny_ranker, made, documents):
    pytest.importorskip("haystack")
    import haystack

    from haystack_integrations.components.rankers.robust_components import (
        NeuronRepairedRanker as HaystackRanker,
    )

    ours = NeuronRepairedRanker(model=tiny_ranker, patch=made[0]).compress_documents(
        documents, QUERY
    )
    theirs = HaystackRanker(tiny_ranker, made[0]).run(
        query=QUERY,
        documents=[haystack.Document(id=str(i), content=text) for i, text in enumerate(TEXTS)],
    )["documents"]
    assert [d.id for d in ours] == [d.id for d in theirs]
    assert [d.metadata["relevance_score"] for d in ours] == [d.score for d in theirs]


def test_repairs_with_probes_when_it_first_ranks(tiny_ranker, made, documents):
    patch, probes, settings = made
    ranker = NeuronRepairedRanker(model=tiny_ranker, probes=probes, repair_kwargs=settings)
    assert ranker._made is None
    assert ranker.score(QUERY, TEXTS) == NeuronRepairedRanker(model=tiny_ranker, patch=patch).score(
        QUERY, TEXTS
    )


def test_another_n_keeps_the_repaired_model(ranker, documents):
    ranker.compress_documents(documents, QUERY)
    core = ranker._core()
    other = ranker.model_copy(update={"top_n": 1})
    assert len(other.compress_documents(documents, QUERY)) == 1
    assert other._core() is core
    assert len(ranker.top(QUERY, documents, 3)) == 3


def test_repetitions_and_thresholds(ranker, documents):
    everything = ranker.top(QUERY, [*documents, documents[0]], 9)
    assert len(everything) == 4
    least = everything[1].metadata["relevance_score"]
    cut = NeuronRepairedRanker(
        model=ranker.model, patch=ranker.patch, score_threshold=least
    ).compress_documents(documents, QUERY)
    assert [d.id for d in cut] == [d.id for d in everything[:2]]


def test_can_be_smoothed(ranker, documents):
    best = []
    for model in (ranker, ranker._core()):
        smoothed = SmoothedRanker(model=model, mechanism=BalancedMask(3), coverage=None, top_n=1)
        best += smoothed.compress_documents(documents, QUERY)
    for document in best:
        assert document.metadata["certificate"]["guarantee"] == "deterministic"
    assert best[0].id == best[1].id
    assert best[0].metadata["relevance_score"] == best[1].metadata["relevance_score"]


def test_bad_input_is_refused(tiny_ranker, made, ranker):
    for wrong in (
        {},
        {"patch": made[0], "probes": made[1]},
        {"patch": made[0], "top_n": 0},
        {"patch": made[0], "epochs": 3},
        {"probes": made[1], "repair_kwargs": {"epochs": 3}},
    ):
        with pytest.raises(ValidationError):
            NeuronRepairedRanker(model=tiny_ranker, **wrong)
    with pytest.raises(TypeError, match="list of Documents"):
        ranker.compress_documents("text", QUERY)
    with pytest.raises(TypeError, match="TransformersPairScorer"):
        NeuronRepairedRanker(model=object(), patch=made[0]).rank(QUERY, TEXTS)
