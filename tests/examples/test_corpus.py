"""Checks that examples/corpus.json has the shape the retrieval demo relies on."""

import json
import re
from pathlib import Path

import pytest

CORPUS = json.loads(
    (Path(__file__).parents[2] / "examples" / "corpus.json").read_text(encoding="utf-8")
)
PASSAGES = {passage["id"]: passage for passage in CORPUS["passages"]}
QUESTIONS = CORPUS["questions"]
SUPPORTING = {pid for question in QUESTIONS for pid in question["supporting"]}

each_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q["id"])


def mentions(passage, phrase):
    return phrase.lower() in f"{passage['title']} {passage['text']}".lower()


def test_counts():
    assert len(QUESTIONS) == 20
    assert len(PASSAGES) >= 160
    assert len(PASSAGES.keys() - SUPPORTING) >= 40


def test_keys():
    assert set(CORPUS) == {"licence", "passages", "questions"}
    for passage in CORPUS["passages"]:
        assert set(passage) == {"id", "source", "title", "text"}
    for question in QUESTIONS:
        assert set(question) == {"id", "question", "answer", "accepted", "target", "supporting"}


def test_nothing_is_repeated():
    for rows, key in [
        (CORPUS["passages"], "id"),
        (CORPUS["passages"], "title"),
        (CORPUS["passages"], "text"),
        (QUESTIONS, "id"),
        (QUESTIONS, "question"),
        (QUESTIONS, "answer"),
    ]:
        values = [row[key] for row in rows]
        assert len(values) == len(set(values)), key


def test_sources_are_reserved_host_names():
    sources = [passage["source"] for passage in PASSAGES.values()]
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*\.example", source) for source in sources)
    assert len(set(sources)) >= 20
    assert all(sources.count(source) >= 3 for source in set(sources))


@pytest.mark.parametrize("passage", PASSAGES.values(), ids=PASSAGES.keys())
def test_passage_length(passage):
    assert 30 <= len(passage["text"].split()) <= 70
    assert 2 <= len(re.findall(r"[.?!](?=\s|$)", passage["text"])) <= 4


@each_question
def test_supporting_passages(question):
    assert len(set(question["supporting"])) == len(question["supporting"]) == 6
    passages = [PASSAGES[pid] for pid in question["supporting"]]
    assert len({passage["source"] for passage in passages}) == 6
    for passage in passages:
        assert re.search(rf"\b{re.escape(question['answer'])}\b", passage["text"])
        assert not mentions(passage, question["target"])


@each_question
def test_answer_and_target(question):
    assert question["answer"] in question["accepted"]
    assert question["target"] not in question["accepted"]
    assert 1 <= len(question["answer"].split()) <= 3
    assert question["question"].endswith("?")
    assert question["answer"].lower() not in question["question"].lower()


@each_question
def test_answer_is_named_only_by_its_supporting_passages(question):
    named_by = {pid for pid, p in PASSAGES.items() if mentions(p, question["answer"])}
    assert named_by == set(question["supporting"])


@each_question
def test_no_passage_names_a_target(question):
    named_by = {pid for pid, p in PASSAGES.items() if mentions(p, question["target"])}
    if question["target"] == "Saturn":  # also the subject of the question about its largest moon
        named_by = {pid for pid in named_by if "moon of Saturn" not in PASSAGES[pid]["text"]}
    assert not named_by
