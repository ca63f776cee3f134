"""Keyword aggregation and the spaCy extractor (a blank pipeline; skipped without spaCy)."""

from __future__ import annotations

import pytest

from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.keywords import KeywordExtractor, SpacyKeywords
from robust_components.rag.passages import Passage


class SplitOnSpaces:
    def extract(self, text):
        return frozenset(text.split())


def make(function=lambda query, text: None if text == "-" else text, **options):
    options = {"keyword_extractor": SplitOnSpaces(), **options}
    reader = KeywordReader(function)
    return reader, RobustRAGGenerator(reader, "keyword", **options)


def blank(**options):
    pytest.importorskip("spacy")
    return SpacyKeywords("no_such_pipeline", **options)


def test_keywords_of_enough_sources_are_kept():
    _, generator = make(alpha=0.5)
    result = generator.run("q", ["x w", "y w", "w x", "z"])
    assert result.keywords == ("w", "x")
    assert result.answer == "w x", "as the best-ranked source writes it"
    assert [passage.supports for passage in result.passages] == [True, True, True, False]


def test_abstaining_sources_do_not_raise_the_threshold():
    _, generator = make(alpha=1)
    assert generator.run("q", ["w", "-", "w", "-"]).keywords == ("w",)


def test_no_keyword_of_enough_sources_abstains_without_asking():
    asked = []

    def respond(query, text):
        asked.append(text)
        return text

    result = make(respond, alpha=1)[1].run("q", ["x", "y", "z"])
    assert result.abstained
    assert result.keywords == ()
    assert "" not in asked


def test_a_source_counts_for_what_its_passages_share():
    _, generator = make(alpha=1)
    passages = [Passage("w x", "s0"), Passage("w y", "s0"), Passage("w", "s1")]
    assert generator.run("q", passages).keywords == ("w",)
    contradictory = [Passage("x", "s0"), Passage("y", "s0"), Passage("w", "s1")]
    assert generator.run("q", contradictory).keywords == ("w",)


def test_the_final_model_may_abstain():
    def function(query, text):
        return None if text == "w" else text.removesuffix("!")

    result = make(function)[1].run("q", ["w!"] * 10)
    assert result.abstained
    assert result.keywords == ("w",)
    assert result.certificate.radius == 2
    assert "abstention" in result.certificate.claim


def test_each_keyword_set_is_asked_once():
    reader, generator = make()
    generator.run("q", ["w"] * 10)
    assert reader.calls == 11


def test_budgets_of_words_and_calls_are_kept():
    passages = [f"w {word}" for word in "abcdefgh"] * 2
    certificate = make(beta=2, max_optional_keywords=3)[1].run("q", passages).certificate
    assert not certificate.certified
    assert "raise max_optional_keywords" in certificate.reason
    certificate = make(beta=2, max_final_calls=3)[1].run("q", passages).certificate
    assert not certificate.certified
    assert "raise max_final_calls" in certificate.reason
    assert certificate.cost["model_passes"] <= 16 + 3


def test_sets_that_give_another_answer_are_named():
    def respond(query, text):
        return text if " " in text and ", " not in text else str(len(text.split(", ")))

    result = make(respond, alpha=1, beta=2)[1].run("q", ["w x", "w x", "w y", "w z"])
    assert result.answer == "2"
    assert result.certificate.radius == 0
    assert "are reachable and give another answer" in result.certificate.reason
    assert result.certificate.reason.startswith("the keywords [w")


def test_thresholds_are_recorded_exactly():
    parameters = make(alpha=0.14, beta="2.5")[1].run("q", ["w"]).certificate.parameters
    assert (parameters["alpha"], parameters["beta"]) == ("7/50", "5/2")


# ------------------------------------------------------------------------------ spaCy


def test_content_words_and_phrases():
    assert blank().extract("It is the River Thames in London.") == {
        "river", "thames", "river thames", "london",
    }  # fmt: skip
    assert blank(phrases=False).extract("The River Thames") == {"river", "thames"}


def test_numbers_count_even_where_their_words_are_stop_words():
    assert "five" in blank().extract("five of them")
    assert "1990" in blank().extract("in 1990")


def test_a_response_of_stop_words_is_its_own_keyword():
    assert blank().extract("It is me!") == {"it is me"}
    assert blank().extract("No.") == {"no"}


def test_spelling_variants_meet():
    extractor = blank()
    assert extractor.extract("LONDON!") == extractor.extract("london")


def test_nothing_to_extract():
    assert blank().extract("") == frozenset()
    assert blank().extract(" \n ") == frozenset()


def test_long_responses_are_cut():
    assert blank(max_characters=10).extract("london " * 10_000) <= {
        "london", "lon", "london lon",
    }  # fmt: skip


def test_the_extractor_is_an_extractor():
    assert isinstance(blank(), KeywordExtractor)
    assert isinstance(SplitOnSpaces(), KeywordExtractor)


def test_the_extractor_is_named_on_the_certificate():
    generator = make(keyword_extractor=blank())[1]
    result = generator.run("q", ["It is London."] * 4)
    assert "london" in result.keywords
    assert "en" in result.certificate.parameters["extractor"]
