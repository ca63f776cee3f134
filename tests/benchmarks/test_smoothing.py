"""The parts of the smoothing benchmark that need no weights."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.smoothing import made_documents, measure, sampling, table_list
from robust_components.models.testing import TableScorer


def test_documents_have_about_sixty_words():
    query, documents = made_documents(100, 0)
    assert query.endswith("?")
    assert len(set(documents)) == 100
    assert all(55 <= len(document.split()) <= 65 for document in documents)
    assert made_documents(5, 1)[1] != documents[:5]


def test_every_way_is_measured_in_turn():
    times = measure(TableScorer(lambda query, text: 0.5), "query", ["one two", "three"], 2)
    assert list(times) == [
        "plain",
        "hash_buckets",
        "hash_buckets_with_base_scores",
        "balanced_mask",
        "balanced_mask_with_base_scores",
    ]
    assert all(figures["wall_seconds"] >= 0 for figures in times.values())


def test_lists_differ_in_their_gap():
    gaps = set()
    for number in range(5):
        scorer, documents = table_list(number, 0)
        assert len(documents) == 20
        first, second = scorer.score("q", [documents[0], documents[1]])
        assert 0 < second < 1
        gaps.add(round(first - second, 3))
    assert len(gaps) == 5


def test_adaptive_sampling_decides_alike_with_fewer_passes():
    found = sampling(2, 3)
    assert found["lists"] == 2
    assert found["lists_with_the_same_decision"] == 2
    assert found["passes"]["fixed"] > 40_000
    assert found["ratio"] == pytest.approx(
        found["passes"]["adaptive"] / found["passes"]["fixed"], abs=1e-4
    )
    assert found["ratio"] < 0.5
