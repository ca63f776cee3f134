"""Sentences by a generator, misspellings, and the metrics of attacks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_components.attacks import (
    CharacterEdits,
    FewShotSentence,
    InsertedSentence,
    PrependedTrigger,
    WordSubstitution,
    edits_between,
)
from robust_components.attacks.few_shot import anchor
from robust_components.attacks.metrics import (
    attack_success_rate,
    boost,
    reciprocal_rank,
    squared_displacement,
)
from robust_components.models.protocols import Completion
from robust_components.models.testing import TableScorer

QUERY = "largest lake in Africa"
DOCUMENTS = [
    "Lake Victoria is the largest lake in Africa. Many rivers feed it.",
    "The largest desert lies in Africa. It is dry.",
    "A recipe for onion soup with bread and cheese.",
    "The committee met on Tuesday and adjourned early.",
]


def overlap(query, text):
    wanted = set(query.lower().split())
    return len(wanted & {word.strip(".").lower() for word in text.split()}) / len(wanted)


class Writer:
    """Gives what it is told, and keeps the prompts."""

    def __init__(self, *responses):
        self.responses = responses
        self.prompts = []

    def generate(self, prompts):
        self.prompts += prompts
        return [self.responses[i % len(self.responses)] for i in range(len(prompts))]


@pytest.mark.parametrize("operations", ["substitute", "any"])
@pytest.mark.parametrize("budget", [1, 4, 30])
def test_a_written_sentence_is_cut_to_the_budget(budget, operations):
    writer = Writer("Sentence: The largest lake in Africa is Victoria. And more.")
    attack = FewShotSentence(budget, operations, generator=writer)
    result = attack.attack(QUERY, DOCUMENTS, 2, TableScorer(overlap))
    before, after = DOCUMENTS[2].split(), result.text.split()
    assert edits_between(before, after, operations) == result.words_edited <= budget
    assert "more" not in result.text
    assert result.score_after > result.score_before or budget == 1
    assert len(writer.prompts) == 3
    for prompt in writer.prompts:
        assert prompt.endswith(f"Query: {QUERY}\nSentence:")
        assert f"at most {budget} words" in prompt
    assert DOCUMENTS[0] in writer.prompts[0]


def test_failed_calls_are_passed_over():
    writer = Writer(RuntimeError("no"), Completion(None, ValueError("no")), Completion("Africa."))
    result = FewShotSentence(5, "any", generator=writer).attack(
        QUERY, DOCUMENTS, 3, TableScorer(overlap)
    )
    assert "Africa." in result.text.split()


@pytest.mark.parametrize("generator", [None, Writer(RuntimeError("no")), Writer("  \n ")])
def test_without_a_sentence_the_anchor_is_used(generator):
    result = FewShotSentence(8, "any", generator=generator).attack(
        QUERY, DOCUMENTS, 3, TableScorer(overlap)
    )
    assert result.score_after == 1.0
    assert result.queries == len(DOCUMENTS) + 2  # front and end; there is no sentence between
    assert anchor("who is it?", []) == ("who", "is", "it")


def test_all_five_edits_are_made():
    attack = CharacterEdits(1, neighbours=lambda word: ["near"])
    made = attack.edits("largest", random.Random(0))
    assert len(made) == 5
    assert sum("-" in one for one in made) == 1
    assert sum(len(one) == 6 for one in made) == 1
    assert sum(sorted(one) == sorted("largest") and one != "largest" for one in made) <= 1
    assert "near" in made
    assert attack.edits("a", random.Random(0)) == ["@", "near"]


@pytest.mark.parametrize("budget", [1, 3])
def test_misspelling_raises_the_score_of_a_ranker_that_dislikes_words(budget):
    class Counting(TableScorer):
        texts = 0

        def score(self, query, documents):
            self.texts += len(documents)
            return super().score(query, documents)

    scorer = Counting(lambda query, text: 1.0 - sum(w in text for w in ("onion", "soup")) / 4)
    result = CharacterEdits(budget).attack(QUERY, DOCUMENTS, 2, scorer)
    assert edits_between(DOCUMENTS[2].split(), result.text.split(), "substitute") <= budget
    assert result.score_after > result.score_before
    assert result.queries == scorer.texts
    with pytest.raises(ValueError, match="'substitute'"):
        CharacterEdits(1, "any")


def test_rates_and_boosts_by_hand():
    ranks = [(5, 2), (4, 4), (3, 6), (9, 1)]
    assert attack_success_rate(ranks) == 0.5
    assert boost(ranks) == (3 + 0 - 3 + 8) / 4
    for figure in (attack_success_rate, boost):
        with pytest.raises(ValueError, match="at least one target"):
            figure([])


def test_reciprocal_ranks_count_ties_against_the_relevant_document():
    assert reciprocal_rank([3.0, 1.0, 2.0], [2]) == 0.5
    assert reciprocal_rank([2.0, 1.0, 2.0], [2]) == 0.5
    assert reciprocal_rank([2.0, 1.0, 2.0], [0, 2]) == 1.0
    assert reciprocal_rank([1.0], []) == 0.0
    assert reciprocal_rank([*range(20, 9, -1), 0.0], [11]) == 0.0


@given(st.integers(2, 12), st.integers(0, 10**6))
def test_displacement_is_zero_for_the_same_list_and_one_for_the_reversed(number, seed):
    scores = random.Random(seed).sample(range(100), number)
    assert squared_displacement(scores, scores, 0) == (0.0, 0.0)
    raw, share = squared_displacement(scores, [-one for one in scores], 0)
    assert raw == pytest.approx((number**2 - 1) / 3)
    assert share == pytest.approx(1.0)


def test_displacement_of_one_lift_by_hand():
    assert squared_displacement([4, 3, 2, 1], [4, 3, 2, 5], 3)[0] == (1 + 1 + 1 + 9) / 4
    assert squared_displacement([1], [2], 0) == (0.0, 0.0)
    assert squared_displacement([2, 1], [2, 2], 1)[0] == 1.0  # a tie counts for the target
    for before, after in (([1], []), ([], [])):
        with pytest.raises(ValueError, match="same documents"):
            squared_displacement(before, after, 0)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (WordSubstitution, "positions"),
        (WordSubstitution, "probes"),
        (PrependedTrigger, "pool"),
        (InsertedSentence, "tries"),
        (FewShotSentence, "sentences"),
    ],
)
def test_how_much_is_tried_must_be_a_whole_number_of_at_least_1(make, option):
    for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=f"{option} must be"):
            make(1, **{option: value})
    assert getattr(make(1, **{option: 1}), option) == 1


def test_free_words_may_be_none():
    assert WordSubstitution(1, free_words=0).free_words == 0
    with pytest.raises(ValueError, match="free_words must be >= 0"):
        WordSubstitution(1, free_words=-1)


@pytest.mark.parametrize("make", [WordSubstitution, CharacterEdits, PrependedTrigger])
def test_lone_surrogates_are_words_like_others_and_draws_stay(make):
    from robust_components.attacks.attack import seeded

    assert seeded(3, "q", "a b").random() == random.Random("3 q a b").random()
    documents = ["a \ud800 b", QUERY]
    result = make(2).attack(f"{QUERY} \udfff", documents, 0, TableScorer(lambda query, text: 0.5))
    assert result.text == documents[0]
