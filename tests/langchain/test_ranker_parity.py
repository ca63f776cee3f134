"""Same query, documents and model: same ranking and certificates in both frameworks."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("haystack")

import haystack
from haystack import component
from langchain_core.documents import Document

from haystack_integrations.components.rankers.robust_components import (
    SmoothedRanker as HaystackRanker,
)
from langchain_robust import SmoothedRanker
from robust_components.models.testing import TableScorer
from robust_components.smoothing import BalancedMask, HashBuckets

WORDS = ("nile", "river", "africa", "bread", "flour", "oven", "city")
SAME = ("claim", "certified", "radius", "guarantee", "evidence", "parameters", "assumptions")


def overlap(query: str, text: str) -> float:
    words = text.split()
    return sum(word in query.split() for word in words) / max(1, len(words))


@component
class Overlap:
    """The table scorer's function as a Haystack ranker."""

    @component.output_types(documents=list[haystack.Document])
    def run(self, query: str, documents: list[haystack.Document]) -> dict[str, Any]:
        return {
            "documents": [
                haystack.Document(id=d.id, content=d.content, score=overlap(query, d.content or ""))
                for d in documents
            ]
        }


@pytest.mark.parametrize("mechanism", [BalancedMask(7), HashBuckets(7, partitions=2)])
@pytest.mark.parametrize("words", [1, 2])
async def test_same_ranking_and_certificates(mechanism: Any, words: int) -> None:
    rng = random.Random(3)
    settings = mechanism.to_dict()
    name = settings.pop("name")
    certified = 0
    for top in (1, 3, 5):
        ours = SmoothedRanker(
            model=TableScorer(overlap), mechanism=mechanism, top_n=top, words=words
        )
        theirs = HaystackRanker(
            ranker=Overlap(), mechanism=name, mechanism_kwargs=settings, top_k=top, words=words
        )
        for _ in range(6):
            texts = [" ".join(rng.choices(WORDS, k=rng.randrange(30))) for _ in range(6)]
            found = ours.compress_documents(
                [Document(text, id=str(i)) for i, text in enumerate(texts)], "nile river africa"
            )
            there = await theirs.run_async(
                query="nile river africa",
                documents=[haystack.Document(id=str(i), content=t) for i, t in enumerate(texts)],
            )
            assert len(found) == len(there["documents"]) == top
            for a, b in zip(found, there["documents"], strict=True):
                assert a.id == b.id
                assert a.metadata["relevance_score"] == b.score
                mine, other = a.metadata["certificate"], b.meta["certificate"]
                assert {key: mine[key] for key in SAME} == {key: other[key] for key in SAME}
                certified += mine["certified"]
            details = found[0].metadata["robust_ranking"]
            assert details["top_n_radius"] == there["certificate"]["radius"]
    assert certified > 0 or words > 1
