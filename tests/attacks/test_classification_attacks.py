"""Attacks on classifiers keep their budgets, and find what is there to be found."""

from __future__ import annotations

import random

import pytest

from robust_components.attacks import (
    PWWS,
    ClassificationAttack,
    DeepWordBug,
    Judgement,
    TextBugger,
    TextFooler,
    edits_between,
)
from robust_components.attacks.misspellings import deleted, lookalike, swapped
from robust_components.attacks.word_swaps import like

SYNONYMS = {"good": ["fine", "well made", "decent"], "great": ["large"], "film": ["movie"]}
TEXT = "a good and great film , really good ."


def synonyms(word):
    return SYNONYMS.get(word, [])


class WordCounts:
    """Positive by the share of praising words it knows; nothing without words."""

    def __init__(self, praise=("good", "great"), needed=1):
        self.praise = praise
        self.needed = needed

    def judge(self, texts):
        found = []
        for text in texts:
            hits = sum(word in self.praise for word in text.split())
            share = hits / (hits + self.needed - 0.5)
            label = "positive" if hits >= self.needed else "negative"
            if not text.split():
                label = None
            found.append(Judgement(label, {"positive": share, "negative": 1 - share}))
        return found


def attacks(budget):
    return [
        TextFooler(budget, synonyms=synonyms),
        PWWS(budget, synonyms=synonyms),
        TextBugger(budget, synonyms=synonyms),
        DeepWordBug(budget),
    ]


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("budget", [1, 2, 3, 5])
def test_the_label_falls_exactly_when_the_budget_allows(kind, budget):
    attack = attacks(budget)[kind]
    result = attack.attack(TEXT, WordCounts())
    assert result.label_before == "positive"
    assert result.succeeded == (budget >= 3)
    assert result.words_edited == edits_between(TEXT.split(), result.text.split(), "substitute")
    assert result.words_edited == min(budget, 3)
    (after,) = WordCounts().judge([result.text])
    assert after.label == result.label_after
    assert result.queries > 0


@pytest.mark.parametrize("kind", range(4))
def test_the_same_seed_gives_the_same_text(kind):
    one, two = (attacks(2)[kind].attack(TEXT, WordCounts()) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("text", ["", "   ", "a", "\U0001f600 \u6cb3\u5ddd", "x " * 300])
def test_odd_texts(kind, text):
    result = attacks(1)[kind].attack(text, WordCounts())
    assert result.words_edited <= 1
    assert len(result.text.split()) == len(text.split())
    assert not result.succeeded


def test_a_word_nobody_can_replace_is_left_alone():
    result = TextFooler(3, synonyms=synonyms).attack("good indeed", WordCounts(("indeed",)))
    assert result.words_edited == 0
    assert result.text == "good indeed"


def test_bad_budgets_are_refused():
    for budget in (0, -1):
        with pytest.raises(ValueError, match="budget must be >= 1"):
            DeepWordBug(budget)


def test_an_attack_that_breaks_its_budget_is_found_out():
    class Cheating(ClassificationAttack):
        name = "cheating"

        def _search(self, judge, words, first):
            return ("x",) * len(words), "negative"

        def _candidates(self, word, rng):
            return []

    with pytest.raises(RuntimeError, match="cheating edited 9 words, its budget is 1"):
        Cheating(1).attack(TEXT, WordCounts())


def test_edits_keep_first_and_last_letters_and_case():
    rng = random.Random(0)
    for _ in range(50):
        (shorter,) = deleted("wonderful", rng)
        (mixed,) = swapped("wonderful", rng)
        (seen,) = lookalike("wonderful", rng)
        assert len(shorter) == 8
        assert sorted(mixed) == sorted("wonderful")
        assert len(seen) == 9
        assert seen != "wonderful"
        for one in (shorter, mixed):
            assert one[0] + one[-1] == "wl"
    assert deleted("ab", rng) == swapped("abc", rng) == lookalike("mmm", rng) == []
    assert like("(Good),", synonyms) == ["(Fine),", "(Decent),"]
    assert like("...", synonyms) == []
