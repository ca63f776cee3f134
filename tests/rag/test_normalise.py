"""When two answers count as the same, when one abstains, when one is right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_components.answers import contains_gold, is_abstention, normalise_answer
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator


@pytest.mark.parametrize(
    "one, other",
    [
        ("Paris", "paris."),
        ("The Beatles", "beatles"),
        ("  an\tapple ", "Apple!"),
        ("Straße", "STRASSE"),
        ("ﬁnal", "final"),
        ("１２", "12"),
        ("O'Neill", "O’Neill"),
        ("1,234,567", "1234567"),
        ("\N{MINUS SIGN}3", "-3"),
        ("well-known", "well known"),
        ("Paris, France", "Paris France"),
        ("\N{GREEK CAPITAL LETTER IOTA WITH DIALYTIKA}\u0301", "\u03ca\u0301"),
        ("\u03b0", "\u03a5\u0308\u0301"),
    ],
)
def test_the_same_answer(one, other):
    assert normalise_answer(one) == normalise_answer(other)


@pytest.mark.parametrize(
    "one, other",
    [
        ("Paris", "Pariss"),
        ("1.5", "15"),
        ("-3", "3"),
        ("40%", "40"),
        ("1,5", "15"),
        ("1990-95", "199095"),
        ("10:30", "1030"),
        ("$5", "5"),
        ("C++", "C"),
        ("1/2", "12"),
        ("Theatre", "atre"),
        ("A", "The"),
        ("?", "!"),
    ],
)
def test_different_answers(one, other):
    assert normalise_answer(one) != normalise_answer(other)


@pytest.mark.parametrize(
    "one, other",
    [
        ("–5", "5"),  # an en dash for a minus
        ("- 5", "5"),
        ("40 %", "40"),
        ("5‰", "5"),
        ("10⁵", "105"),
        ("1½", "11⁄2"),
        ("C#", "C"),
        ("O-", "O"),  # blood groups, grades
        ("5′", "5″"),
    ],
)
def test_marks_that_change_the_answer(one, other):
    assert normalise_answer(one) != normalise_answer(other)


@pytest.mark.xfail(strict=True, reason="a straight quote is dropped as an apostrophe or a quote")
def test_feet_are_not_inches():
    assert normalise_answer("5'") != normalise_answer('5"')


def test_a_hostile_source_cannot_turn_the_sign_of_a_certified_answer():
    """Four sources say 5. The best-ranked one is then rewritten to say minus five."""
    generator = RobustRAGGenerator(KeywordReader(lambda query, text: text))
    result = generator.run("q", ["–5", "5", "5", "5"])
    assert result.answer != "–5" or not result.certificate.certified


@settings(deadline=None)
@given(st.text(max_size=30))
def test_never_empty_unless_blank(text):
    assert bool(normalise_answer(text)) == bool(text.split())


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="aA the.,-'19%\u00a0\N{MINUS SIGN}é", max_size=20))
def test_case_spaces_and_a_final_full_stop_do_not_matter(text):
    if not any(character.isalnum() for character in text):
        return
    assert normalise_answer(f"  {text.upper()} ") == normalise_answer(text)
    assert normalise_answer(text + ".") == normalise_answer(text)


def test_normalising_twice_changes_nothing():
    once = normalise_answer("The A-Team")
    assert normalise_answer(once) == once
    generator = RobustRAGGenerator(KeywordReader(lambda query, text: text))
    certificate = generator.certify("q", ["The A-Team"] * 5, gold=["The A-Team"])
    assert certificate.certified
    assert certificate.evidence["tau"] == 1.0


@pytest.mark.parametrize(
    "text",
    ["I don't know", "I don’t know.", "i do not know", "Unknown", '"I cannot answer this."',
     "No information is given.", "Insufficient context", "I can't tell from this."],
)  # fmt: skip
def test_abstentions(text):
    assert is_abstention(text)


@pytest.mark.parametrize(
    "text",
    ["Paris", "The Unknown Soldier", "unknown soldier", "nobody knows", "No", "know-how", "",
     "He said: I don't know", "Noah", "no informationist"],
)  # fmt: skip
def test_answers_that_are_no_abstentions(text):
    assert not is_abstention(text)


def test_gold_answers_occur_as_whole_words():
    assert contains_gold("The capital is Paris.", ["paris"]) == 1.0
    assert contains_gold("Parisian", ["Paris"]) == 0.0
    assert contains_gold("in 1,990 cases", ["1990"]) == 1.0
    assert contains_gold("nothing", ["Paris", "nothing"]) == 1.0
    assert contains_gold("nothing", []) == 0.0
    assert contains_gold("nothing", ["", " "]) == 0.0
    assert contains_gold(None, ["None"]) == 0.0
