"""The evaluation harnesses on small made-up data, with models given by tables."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("tqdm")

from benchmarks import realtimeqa
from benchmarks.models import GreedyReader, MemoTokens, load_subject, subject
from robust_components.models.testing import TableTokenModel

CITIES = ("paris", "oslo", "rome")


class CityTokens(TableTokenModel):
    """Says the first city a passage names, in one token; else it does not know."""

    opened = 0

    def __init__(self):
        super().__init__({("", ()): dict.fromkeys(CITIES, 0.0)})

    def open(self, query, passages):
        self.opened += 1
        self.table, self.abstain = {}, {}
        for passage in passages:
            named = [word for word in passage.lower().split() if word.strip(".,") in CITIES]
            self.table[passage, ()] = {named[0].strip(".,"): 1.0} if named else {}
            self.abstain[passage] = 0.0 if named else 1.0
        return super().open(query, passages)


def question(gold, cities):
    return {
        "question": f"Which city is {gold}?",
        "correct answer": [gold],
        "expanded answer": [],
        "incorrect answer": "oslo",
        "incorrect_context": ["It is oslo."],
        "context": [{"title": f"Page {i}", "text": c} for i, c in enumerate(cities)]
        + [{"title": "empty", "text": ""}],
    }


@pytest.fixture
def data(tmp_path):
    rows = [
        question("Paris", ["it is paris"] * 10),
        question("Rome", ["it is rome"] * 6 + ["it is paris"] * 4),
    ]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_realtimeqa_counts_what_it_says(data):
    pytest.importorskip("spacy")
    questions = realtimeqa.read_questions(data)
    assert [len(item["clean"]) for item in questions] == [10, 10]
    tokens = CityTokens()
    figures = realtimeqa.evaluate(questions, subject(GreedyReader(tokens), tokens))
    assert set(figures) == {"plain", "voting", "keyword", "decoding"}
    # The joined pages hold the attacker's city first, alone they do not.
    assert figures["plain"]["acc"] == 1.0
    assert figures["plain"]["asr_pia"] == figures["plain"]["asr_poison"] == 1.0
    for system in ("voting", "decoding"):
        row = figures[system]
        assert row["acc"] == row["racc_pia"] == row["racc_poison"] == 1.0
        assert row["asr_pia"] == row["asr_poison"] == 0.0
        # k' injected passages push out as many of the last: 6 against 4 - k' of the minority.
        # Rewriting k' of the majority leaves 6 - k' against 4 + k', which is lost at once.
        assert [row[f"cacc_injection_{k}"] for k in (1, 2, 3)] == [1.0, 1.0, 1.0]
        assert [row[f"cacc_modification_{k}"] for k in (1, 2, 3)] == [0.5, 0.5, 0.5]
        assert row["certified_for_1_clean"] == 0.5
        assert row["acc_abstain"] == 0.5
    assert figures["keyword"]["cacc_injection_3"] == 0.0  # beta = 3: three can add any keyword


def test_the_table_has_a_line_for_each_system(data):
    row = {"acc": 0.5, "cacc_injection_1": 0.25, "racc_pia": 1.0, "asr_pia": 0.0}
    lines = realtimeqa.table({"plain": {"acc": 0.4}, "voting": row}).splitlines()
    assert len(lines) == 4
    assert "| 0.25 |" in lines[3] and "1.00 / 0.00" in lines[3]
    assert lines[2].split("|")[3].strip() == "–"


def test_sessions_are_read_once_for_each_list():
    tokens = CityTokens()
    memo = MemoTokens(tokens)
    first = memo.open("q", ["it is paris"])
    again = memo.open("q", ["it is paris"])
    assert first is again and tokens.opened == 1
    assert memo.open("q", ["it is rome"]) is not first
    assert memo.open("another", ["it is paris"]) is not first and tokens.opened == 3
    with pytest.raises(AttributeError):
        memo.abstention_threshold  # noqa: B018


def test_greedy_answers_come_from_one_passage_each():
    readings = GreedyReader(CityTokens()).read("q", ["oslo it is", "nothing", "rome or oslo"])
    assert [reading.answer for reading in readings] == ["oslo", None, "rome"]
    assert all(reading.failure is None for reading in readings)


def test_a_folder_of_transformers_can_be_evaluated(data, tmp_path):
    """A random model says nothing sensible; what is tested is that every figure comes out."""
    pytest.importorskip("torch")
    pytest.importorskip("spacy")
    from benchmarks.random_llama import build, tokenizer

    model = build("tiny")
    model.save_pretrained(tmp_path / "model")
    tokenizer(model.config.vocab_size).save_pretrained(tmp_path / "model")
    subject = load_subject(str(tmp_path / "model"), max_tokens=3)
    figures = realtimeqa.evaluate(realtimeqa.read_questions(data)[:1], subject, budgets=(1,))
    assert all(0.0 <= value <= 1.0 for row in figures.values() for value in row.values())
    assert "cacc_modification_1" in figures["decoding"]
    assert len(subject.tokens.fingerprint) == 16
