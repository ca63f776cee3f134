"""transformers and llama.cpp agree on answers and certificates of the shipped tiny Llama."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tqdm")

from benchmarks.agreement import CERTAIN, ETAS, PASSAGES, TINY, compare, questions, shares

if not TINY.is_dir():
    pytest.skip("needs the tiny Llama", allow_module_level=True)


@pytest.mark.parametrize("count", [20, pytest.param(220, marks=pytest.mark.slow)])
def test_both_back_ends_agree(count):
    figures = compare(count, seed=count)
    assert figures["differences"] == []
    assert figures["largest_difference_of_abstention"] < CERTAIN
    assert shares(figures) == {"answers": 1.0, "certificates": 1.0}
    # The questions are such that there is something to agree on.
    for eta, least in zip(ETAS, (0.3, 0.1), strict=True):
        assert figures["right"][eta] > least
        assert len(figures["certified_k"][eta]) > 1


def test_differences_are_counted():
    said = [{"answer": "red", "radius": 1}, {"answer": "red", "radius": 2}]
    other = [{"answer": "red", "radius": 1}, {"answer": "blue", "radius": 1}]
    figures = {"questions": 5, "differences": [{"said": said}, {"said": other}]}
    assert shares(figures) == {"answers": pytest.approx(0.9), "certificates": pytest.approx(0.8)}


def test_questions_are_the_same_every_time_and_some_are_attacked():
    made = list(questions(50, seed=1))
    assert made == list(questions(50, seed=1))
    assert all(len(question.passages) == PASSAGES for question in made)
    assert {question.hostile for question in made} == {0, 1, 2, 3}
    assert all(
        sum(question.answer in passage for passage in question.passages) >= 1 for question in made
    )
