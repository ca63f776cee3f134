"""Options belong to one aggregation; results say why there is no answer."""

from __future__ import annotations

import inspect

import pytest

from robust_components import RobustRAGGenerator
from robust_components.answers import normalise_answer
from robust_components.models.protocols import ModelFailedError, Reading
from robust_components.models.testing import KeywordReader, TableTokenModel
from robust_components.rag.aggregators import OPTIONS
from robust_components.rag.passages import Passage
from robust_components.rag.surface import as_written
from robust_components.threats import PassageInjection

READER = KeywordReader(lambda query, text: None if text == "-" else text)
CHANGED = {
    "choices": ["yes", "no"],
    "alpha": 0.5,
    "beta": 4,
    "keyword_extractor": str.split,
    "long_form": True,
    "max_optional_keywords": 3,
    "max_final_calls": 9,
    "gamma": 0.5,
    "eta": 0.1,
    "max_tokens": 9,
    "numerical_margin": 0.01,
    "max_branches": 9,
}


def test_the_defaults_are_those_of_the_generator():
    parameters = inspect.signature(RobustRAGGenerator.__init__).parameters
    for defaults in OPTIONS.values():
        assert {name: parameters[name].default for name in defaults} == defaults
    assert set(CHANGED) == {name for defaults in OPTIONS.values() for name in defaults}


@pytest.mark.parametrize("aggregation", OPTIONS)
@pytest.mark.parametrize("name", CHANGED)
def test_options_of_another_aggregation_are_refused(aggregation, name):
    model = TableTokenModel({}) if aggregation == "decoding" else READER
    if name in OPTIONS[aggregation]:
        RobustRAGGenerator(model, aggregation, **{name: CHANGED[name]})
        return
    owner = next(owner for owner, defaults in OPTIONS.items() if name in defaults)
    with pytest.raises(ValueError, match=f"{name}=.* goes with aggregation='{owner}'"):
        RobustRAGGenerator(model, aggregation, **{name: CHANGED[name]})
    default = OPTIONS[owner][name]
    RobustRAGGenerator(model, aggregation, **{name: default})
    if isinstance(default, float):
        RobustRAGGenerator(model, aggregation, **{name: str(default)})


def test_a_function_extracts_keywords():
    generator = RobustRAGGenerator(READER, "keyword", keyword_extractor=lambda t: t.split("/"))
    result = generator.run("q", ["a b/c", "a b/d", "a b/e", "a b"])
    assert result.keywords == ("a b",)
    assert "test_options" in result.certificate.parameters["extractor"]
    with pytest.raises(TypeError, match="keyword_extractor must be a function"):
        RobustRAGGenerator(READER, "keyword", keyword_extractor="words")


def test_an_extractor_that_gives_text_fails():
    generator = RobustRAGGenerator(READER, "keyword", keyword_extractor=str.lower)
    result = generator.run("q", ["a", "a", "a"])
    assert all("collection of texts" in passage.failure for passage in result.passages)


# --------------------------------------------------------------------------- withheld answers


def test_a_withheld_answer_says_so():
    generator = RobustRAGGenerator(READER, on_uncertified="abstain", corruption_size=2)
    result = generator.run("q", ["a", "a", "a", "b"])
    assert result.abstained and result.withheld and result.answer == "I don't know"
    assert result.reason == result.certificate.reason
    assert result.reason.endswith("; the answer was withheld")
    assert result.certificate.verify()
    assert result.certificate.claim == "Nothing is guaranteed about the withheld answer 'a'."
    partly = generator.run("q", ["a", "a", "a", "a", "b"])
    assert partly.withheld and partly.certificate.verify()
    assert partly.certificate.claim.startswith("The withheld answer 'a' is what the clean")
    keyword = RobustRAGGenerator(READER, "keyword", 4, on_uncertified="abstain")
    kept = keyword.run("q", ["a"] * 6)
    assert kept.withheld and kept.certificate.verify()
    assert "the withheld answer" in kept.certificate.claim.lower()
    given = RobustRAGGenerator(READER, corruption_size=2).run("q", ["a", "a", "a", "b"])
    assert not given.withheld and "withheld" not in given.reason
    unknown = generator.run("q", ["-", "-"])
    assert unknown.abstained and not unknown.withheld and "withheld" not in unknown.reason
    assert unknown.certificate.claim == "Nothing is guaranteed about the abstention."
    certified = generator.run("q", ["a"] * 5)
    assert not certified.withheld and certified.reason is None


@pytest.mark.parametrize(
    ("passages", "reason"),
    [
        (["a"], "1 source says 'a', none says anything else: 1 hostile source could"),
        (["a", "a", "b"], "2 sources say 'a', 1 says 'b': 1 hostile source could"),
        (["a"] * 5 + ["b"] * 2, "5 sources say 'a', 2 say 'b': 2 hostile sources could"),
        (["a", "a", "!"], "2 sources say 'a', none says anything else and 1 failed: 2 hostile"),
        (["a", "a", "!", "!"], "else and 2 failed: 2 hostile sources could change the answer"),
    ],
)
def test_votings_reason(passages, reason):
    def say(query, text):
        if text == "!":
            raise ConnectionError
        return text

    generator = RobustRAGGenerator(KeywordReader(say), corruption_size=4)
    assert reason in generator.run("q", passages).reason


# -------------------------------------------------------------------------- a model that is dead


class Dead:
    name = fingerprint = "dead"

    def read(self, query, passages):
        return [Reading(None, failure="AuthenticationError: no such key")] * len(passages)

    def combine(self, query, keywords):
        raise AssertionError("nothing to combine")

    def open(self, query, passages):
        raise MemoryError("no room")


@pytest.mark.parametrize("aggregation", OPTIONS)
def test_a_model_that_fails_on_everything_raises(aggregation):
    generator = RobustRAGGenerator(Dead(), aggregation)
    said = "MemoryError: no room" if aggregation == "decoding" else "AuthenticationError"
    for call in (
        lambda: generator.run("q", ["a", "", "b"]),
        lambda: generator.certify("q", ["a", "b"], PassageInjection(1)),
    ):
        with pytest.raises(ModelFailedError, match=f"any of 2 passages.*{said}"):
            call()
    with pytest.raises(RuntimeError):
        generator.run("q", ["a"])
    if aggregation != "decoding":
        assert generator.run("q", []).abstained
        assert generator.run("q", ["", " "]).abstained, "blank passages are not shown to a model"


# ---------------------------------------------------------------------- keywords as written


@pytest.mark.parametrize(
    ("answer", "responses", "written"),
    [
        ("lake victoria", ["Lake Victoria"], "Lake Victoria"),
        ("lake victoria", ["It is Lake Victoria, in Africa.", "LAKE VICTORIA"], "Lake Victoria"),
        ("lake victoria", ["LAKE VICTORIA", "lake Victoria", "lake Victoria!"], "lake Victoria"),
        ("nasa", ["N.A.S.A.", "NASA"], "NASA"),
        ("1,5", ["about 1,5 metres"], "1,5"),
        ("-3", ["It was (-3)."], "-3"),
        ("lake tana", ["Lake Victoria"], "lake tana"),
        ("Lake victoria", ["Lake Victoria"], "Lake victoria"),
        ("city", [], "city"),
    ],
)
def test_an_answer_is_written_as_its_supporters_write_it(answer, responses, written):
    found = as_written(answer, responses)
    assert found == written
    assert normalise_answer(found) == normalise_answer(answer)


def test_a_long_response_is_searched_in_bounded_time():
    assert as_written("a" * 50, ["a " * 50_000, "b" * 100_000]) == "a" * 50


def test_keyword_answers_keep_the_case_of_the_sources():
    generator = RobustRAGGenerator(
        READER, "keyword", keyword_extractor=lambda text: [text.lower()], on_uncertified="abstain"
    )
    passages = [Passage("Lake Victoria", source=str(i)) for i in range(7)]
    result = generator.run("q", [*passages, Passage("LAKE VICTORIA", source="x")])
    assert result.answer == "Lake Victoria" and result.keywords == ("lake victoria",)
    assert result.certificate.evidence["answer"] == "lake victoria"
    assert result.certificate.certified and result.certificate.verify()
