"""SmoothedRanker in LangChain: copies, scores, certificates, wrapped rerankers, settings."""

from __future__ import annotations

import copy
import json
import logging
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ValidationError

from langchain_robust import SmoothedRanker
from robust_components import Certificate
from robust_components.models.testing import TableScorer
from robust_components.ranking.scoring import ListwiseScorerError
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask, TermCoverage

QUERY = "nile river africa"


def overlap(query: str, text: str) -> float:
    wanted = query.lower().split()
    return sum(word in text.lower().split() for word in wanted) / len(wanted)


class Overlap(BaseCrossEncoder):
    """A cross-encoder that counts words."""

    def __init__(self, offset: float = 0.0, relative: bool = False) -> None:
        self.offset = offset
        self.relative = relative

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        scores = [overlap(query, text) + self.offset for query, text in text_pairs]
        return [score / max(scores) for score in scores] if self.relative else scores


class Reranker(BaseDocumentCompressor):
    """Reranks as hosted rerankers do: cut at top_n, relevance_score in the metadata."""

    top_n: int | None = 3
    scores: bool = True

    def compress_documents(self, documents: Any, query: str, callbacks: Any = None) -> Any:
        ranked = sorted(documents, key=lambda d: -overlap(query, d.page_content))
        found = []
        for document in ranked[: self.top_n]:
            score = {"relevance_score": overlap(query, document.page_content)}
            metadata = {**document.metadata, **(score if self.scores else {})}
            found.append(Document(document.page_content, metadata=metadata))
        return found


class CrossEncoderReranker(Reranker):
    """Named like the one of langchain-classic."""


@pytest.fixture
def rivers() -> list[Document]:
    """The first is far ahead of the others."""
    texts = [
        "bread is baked from flour and water in an oven",
        "nile " * 10 + "river " * 10 + "africa " * 10,
        "a river runs through the city of lyon in france",
        "",
    ]
    return [
        Document(text, id=f"doc-{i}", metadata={"page": i, "relevance_score": 0.5})
        for i, text in enumerate(texts)
    ]


async def test_the_top_comes_first_with_scores_and_certificates(rivers: list[Document]) -> None:
    before = copy.deepcopy(rivers)
    ranker = SmoothedRanker(model=Overlap(), top_n=2)
    for best in (
        ranker.compress_documents(rivers, QUERY),
        await ranker.acompress_documents(rivers, QUERY),
    ):
        assert [document.id for document in best] == ["doc-1", "doc-2"]
        metadata = best[0].metadata
        assert metadata["relevance_score"] == pytest.approx(26 / 30)
        assert metadata["page"] == 1
        details = metadata["robust_ranking"]
        assert details["previous_score"] == 0.5
        assert details["certified_radius"] >= 1
        assert details["top_n_certified"] == (details["top_n_radius"] >= 1)
        certificate = Certificate.from_dict(metadata["certificate"])
        assert certificate.certified
        assert certificate.verify()
        assert certificate.statement == "observed"
    best[0].metadata["page"] = "changed"
    assert rivers == before


def test_certificates_in_metadata_stay_small() -> None:
    documents = [Document(f"text {i} " + "word " * 60) for i in range(100)]
    ranker = SmoothedRanker(model=Overlap(), top_n=3)
    for document in ranker.compress_documents(documents, QUERY):
        assert len(json.dumps(document.metadata)) < 4000


def test_the_certificate_of_the_set_comes_with_rank(rivers: list[Document]) -> None:
    ranking = SmoothedRanker(model=Overlap(), top_n=1).rank(QUERY, rivers)
    assert ranking.certificate.certified
    assert ranking.certificate.verify()
    assert len(ranking.items) == len(rivers)
    assert len(SmoothedRanker(model=Overlap()).rank(QUERY, ["one text", "two"]).items) == 2


@pytest.mark.parametrize(
    "model",
    [Overlap(), Reranker(), TableScorer(overlap)],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("mechanism", [None, BalancedMask(5), HashBuckets(5)])
def test_any_point_wise_model_gives_the_same(
    rivers: list[Document], model: Any, mechanism: Any
) -> None:
    best = SmoothedRanker(model=model, mechanism=mechanism, top_n=2).top(QUERY, rivers)
    plain = SmoothedRanker(model=TableScorer(overlap), mechanism=mechanism, top_n=2)
    assert [d.metadata["relevance_score"] for d in best] == [
        d.metadata["relevance_score"] for d in plain.top(QUERY, rivers)
    ]
    assert type(model).__name__.lower() in (
        best[0].metadata["certificate"]["model"]["name"].lower().replace("-", "")
    )


def test_random_masks(rivers: list[Document]) -> None:
    ranker = SmoothedRanker(
        model=Overlap(), mechanism=RandomMask(samples=400, seed=1), top_n=1, pass_budget=5000
    )
    ranking = ranker.rank(QUERY, rivers)
    assert ranking.certificate.guarantee == "probabilistic"
    assert ranking.certificate.confidence == 0.95


def test_scores_relative_to_the_list_are_refused(rivers: list[Document]) -> None:
    with pytest.raises(ListwiseScorerError):
        SmoothedRanker(model=Overlap(offset=0.1, relative=True)).top("one short text", rivers)


def test_raw_logits_are_refused_with_the_map_to_choose(rivers: list[Document]) -> None:
    with pytest.raises(ValueError, match="score_map='sigmoid'"):
        SmoothedRanker(model=Overlap(offset=-3)).top(QUERY, rivers)
    best = SmoothedRanker(model=Overlap(offset=-3), score_map="sigmoid").top(QUERY, rivers)
    assert all(0 < document.metadata["relevance_score"] < 1 for document in best)


def test_rerankers_without_scores_are_refused(rivers: list[Document]) -> None:
    with pytest.raises(ValueError, match=r"gave no metadata\['relevance_score'\] for"):
        SmoothedRanker(model=Reranker(scores=False)).top(QUERY, rivers)


def test_thresholds_are_inclusive_and_come_after_certification(rivers: list[Document]) -> None:
    ranker = SmoothedRanker(model=Overlap(), top_n=2)
    both = ranker.top(QUERY, rivers)
    least = both[1].metadata["relevance_score"]
    at = ranker.model_copy(update={"score_threshold": least})
    above = ranker.model_copy(update={"score_threshold": least + 1e-9})
    assert [d.id for d in at.top(QUERY, rivers)] == ["doc-1", "doc-2"]
    assert [d.id for d in above.top(QUERY, rivers)] == ["doc-1"]


@pytest.mark.parametrize("coverage", [{"share": "0.4"}, TermCoverage("0.4")], ids=repr)
def test_words_of_the_query_count_when_asked(coverage: Any, rivers: list[Document]) -> None:
    certificate = SmoothedRanker(model=Overlap(), coverage=coverage).rank(QUERY, rivers).certificate
    assert certificate.parameters["aggregation"]["share"] == "2/5"
    assert certificate.verify()
    without = SmoothedRanker(model=Overlap()).rank(QUERY, rivers).certificate
    assert without.parameters["aggregation"] == {"name": "mean"}


def test_changed_copies_do_not_keep_old_settings(rivers: list[Document]) -> None:
    ranker = SmoothedRanker(model=Overlap(), top_n=1)
    ranker.top(QUERY, rivers)
    other = ranker.model_copy(update={"mechanism": HashBuckets(7), "words": 2})
    certificate = other.rank(QUERY, rivers).certificate
    assert certificate.parameters["mechanism"]["name"] == "hash_buckets"
    assert certificate.threat["budget"] == 2


def test_repetitions_are_ranked_once_and_said(
    rivers: list[Document], caplog: pytest.LogCaptureFixture
) -> None:
    same_id = Document("another text under the same id", id="doc-1")
    no_ids = [Document("x", metadata={"page": 1}), Document("x", metadata={"page": 2})]
    given = [*rivers, rivers[1].model_copy(), same_id, *no_ids, no_ids[0].model_copy()]
    with caplog.at_level(logging.WARNING):
        best = SmoothedRanker(model=Overlap(), top_n=20).compress_documents(given, QUERY)
    assert len(best) == len(given) - 1
    assert "1 of 9 documents were given more than once" in caplog.text


@pytest.mark.parametrize("statement", ["pre_attack", "observed"])
def test_no_edit_takes_a_document_out_by_making_it_like_another(statement: str) -> None:
    """Of three documents without ids the first two lead; one word makes them the same text."""
    ahead = "nile " * 10 + "river " * 10 + "africa " * 10
    clean, twin, third = Document(ahead + "delta"), Document(ahead + "nile"), Document("bread")
    ranker = SmoothedRanker(model=Overlap(), top_n=2, statement=statement)
    lists = [[clean, twin, third], [Document(ahead + "nile"), twin, third]]
    tops = [ranker.compress_documents(documents, QUERY) for documents in lists]
    for top in tops:
        assert all(document.metadata["certificate"]["radius"] >= 1 for document in top)
        assert all(document.page_content.startswith(ahead) for document in top)


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        (None, "NoneType"),
        ([None], "NoneType"),
        ("text", "str"),
        (["text"], "str"),
        (Document("text"), "Document"),
    ],
)
def test_what_is_no_list_of_documents_is_refused(documents: Any, found: str) -> None:
    with pytest.raises(TypeError, match=f"must be a list of Documents, got {found}; pass a list"):
        SmoothedRanker(model=Overlap()).compress_documents(documents, QUERY)
    if documents != ["text"]:
        with pytest.raises(TypeError, match="must be a list of Documents"):
            SmoothedRanker(model=Overlap()).rank(QUERY, documents)


def test_no_documents() -> None:
    assert SmoothedRanker(model=Overlap()).compress_documents([], QUERY) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"top_n": 0}, "top_k must be >= 1"),
        ({"words": 0}, "budget must be >= 1"),
        ({"mechanism": "balanced"}, "mechanism must be one of"),
        ({"mechanism": 10}, "mechanism must be a BalancedMask"),
        ({"operations": "any"}, "BalancedMask covers substitutions"),
        ({"operations": ""}, "operations must be 'substitute' or 'any', got ''"),
        ({"score_threshold": float("nan")}, "Input should be a finite number"),
        ({"statement": "later"}, "statement must be one of"),
        ({"scope": "promotion"}, "needs statement='pre_attack'"),
        ({"score_map": "min_max"}, "depends on the other candidates"),
        ({"certify": "some"}, "certify must be one of"),
        ({"coverage": "much"}, "coverage must be a TermCoverage, 'model' or None"),
        ({"coverage": {"share": 2}}, "share must be in (0, 1)"),
        ({"alpha": 0}, "alpha must be in (0, 1)"),
        ({"top_k": 3}, "top_k"),
        ({"model": 3}, "an object with score(query, documents), got int"),
        ({"model": CrossEncoderReranker()}, "it gives no scores; pass its model instead"),
        ({"model": SmoothedRanker(model=Overlap())}, "it is smoothed already"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SmoothedRanker(**settings)
    assert words in str(caught.value)


def test_settings_that_certify_nothing_warn_at_the_callers_line() -> None:
    with pytest.warns(UserWarning, match="can never certify 2 edited words") as caught:
        SmoothedRanker(model=Overlap(), mechanism=BalancedMask(3), words=2)
    assert [warning.filename for warning in caught] == [__file__]


def test_a_hugging_face_model_by_folder(tiny_ranker: str) -> None:
    documents = [Document(text) for text in ("the man", "", "river city a b c", "a")]
    best = SmoothedRanker(model=tiny_ranker, top_n=2).compress_documents(documents, "who is")
    assert len(best) == 2
    assert best[0].metadata["certificate"]["model"]["name"] == tiny_ranker
    prefixed = SmoothedRanker(model=tiny_ranker, document_prefix="a river ", top_n=2)
    scores = [
        d.metadata["relevance_score"] for d in prefixed.compress_documents(documents, "who is")
    ]
    assert scores != [d.metadata["relevance_score"] for d in best]
