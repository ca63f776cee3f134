"""Which passages are read, and which of them come from one source."""

from __future__ import annotations

import pytest

from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage, source_of
from robust_components.threats import PassageInjection


def run(passages, **options):
    reader = KeywordReader(lambda query, text: None if text == "-" else text)
    return RobustRAGGenerator(reader, **options).run("q", passages)


def votes(passages, **options):
    return run(passages, **options).certificate.evidence["votes"]


def test_texts_are_sources_of_their_own():
    result = run(["a", "a", "b"])
    assert len({passage.source for passage in result.passages}) == 3
    assert result.certificate.evidence["votes"] == {"a": 2, "b": 1}


def test_one_source_has_one_vote():
    flood = [Passage("evil", "spam")] * 5
    assert votes([*flood, Passage("a", "s0"), Passage("a", "s1")]) == {"a": 2, "evil": 1}


def test_a_source_that_contradicts_itself_has_no_vote():
    passages = [Passage("a", "s0"), Passage("b", "s0"), Passage("-", "s1"), Passage("b", "s1")]
    result = run(passages)
    assert result.certificate.evidence["votes"] == {"b": 1}
    assert [passage.vote for passage in result.passages] == [None, None, "b", "b"]


def test_names_given_by_rank_do_not_meet_source_ids():
    passages = ["a", Passage("b", source="passage 1"), Passage("c", source="passage 1'"), "a"]
    result = run(passages)
    assert len({passage.source for passage in result.passages}) == 4
    assert result.certificate.evidence["votes"] == {"a": 2, "b": 1, "c": 1}


def test_names_given_by_rank_do_not_meet_document_ids():
    assert votes([Passage("b", id="passage 2"), "a"]) == {"b": 1, "a": 1}


def test_documents_without_source_count_by_id():
    assert votes([Passage("a", id="x"), Passage("a", id="y")]) == {"a": 2}
    assert votes([Passage("a", id="x"), Passage("a", source="x")]) == {"a": 1}


def test_repetitions_hold_slots_and_have_one_vote():
    same = Passage("a", "s0", "x")
    result = run([same, same, Passage("b", "s1", "x")])
    assert not any(passage.unused for passage in result.passages)
    assert result.certificate.evidence["votes"] == {"a": 1, "b": 1}


def test_passages_beyond_top_k_are_listed_but_not_read():
    reader = KeywordReader(lambda query, text: text)
    result = RobustRAGGenerator(reader, top_k=2).run("q", ["a", "b", "c"])
    assert reader.calls == 2
    assert [passage.unused for passage in result.passages] == [None, None, "beyond top_k=2"]
    assert result.passages[2].answer is None


def test_slots_of_a_repetition_can_go_to_other_sources():
    same = Passage("x A", "s1", "1")
    generator = RobustRAGGenerator(KeywordReader(lambda query, text: text.split()[-1]), top_k=3)
    clean = [same, same, Passage("y A", "s2", "2")]
    assert generator.certify("q", clean, PassageInjection(1)).radius == 0
    assert generator.run("q", [Passage("evil B", "e", "9"), same, same]).answer == "B"


def test_passages_given_are_left_as_they_are():
    passages = [Passage("a", "s0", "x"), "b"]
    before = list(passages)
    run(passages)
    assert passages == before


@pytest.mark.parametrize(
    "meta, key, source",
    [
        ({"source_id": "cnn"}, "source_id", "cnn"),
        ({"source_id": 7}, "source_id", "7"),
        ({"source_id": 0}, "source_id", "0"),
        ({}, "source_id", "doc"),
        ({"source_id": None}, "source_id", "doc"),
        ({"source_id": ""}, "source_id", "doc"),
        ({"url": "https://A.example.com:8080/x?y"}, "host:url", "a.example.com"),
        ({"url": "https://user@a.example.com/x"}, "host:url", "a.example.com"),
        ({"url": "a.example.com/x"}, "host:url", "a.example.com"),
        ({"url": "https://a.example.com./x"}, "host:url", "a.example.com"),
        ({"url": "http://[bad"}, "host:url", "host that cannot be read"),
        ({"url": "https://a.example.com/x"}, "url", "https://a.example.com/x"),
    ],
)
def test_source_of_a_document(meta, key, source):
    assert (source_of(meta, key) or "doc") == source


def test_pages_of_one_host_have_one_vote():
    urls = ["https://spam.example/1", "HTTP://SPAM.example/2", "spam.example/3", "//spam.example"]
    assert len({source_of({"url": url}, "host:url") for url in urls}) == 1


def test_pages_of_a_host_that_cannot_be_read_off_are_no_separate_parties():
    """A hostile host that publishes malformed links would have as many votes as it likes."""
    urls = [f"http://[spam.example/{page}" for page in range(3)]
    assert len({source_of({"url": url}, "host:url") for url in urls}) == 1
