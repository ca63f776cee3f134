"""Attacks keep to their budgets, count their queries, and gain what they say."""

from __future__ import annotations

import itertools
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_components.attacks import (
    Attack,
    InsertedSentence,
    PrependedTrigger,
    QueryStuffing,
    WordSubstitution,
    attacker_rank,
    edits_between,
    embedding_neighbours,
)
from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker, SmoothedScorer
from robust_components.smoothing import BalancedMask, HashBuckets, split_words
from robust_components.threats import WordEdits

ATTACKS: list[type[Attack]] = [WordSubstitution, QueryStuffing, PrependedTrigger, InsertedSentence]
QUERY = "largest lake in Africa"
DOCUMENTS = [
    "Lake Victoria is the largest lake in Africa. Many rivers feed it.",
    "The largest desert lies in Africa. It is dry.",
    "A recipe for onion soup with bread and cheese.",
    "The committee met on Tuesday and adjourned early.",
]


def overlap(query: str, text: str) -> float:
    """Share of the query's words in the text, a little less for each word too many."""
    wanted = set(query.lower().split())
    words = [word.strip(".").lower() for word in text.split()]
    return max(0.0, len(wanted & set(words)) / max(1, len(wanted)) - 0.002 * len(words))


class Counting(TableScorer):
    calls = 0
    texts = 0

    def score(self, query, documents):
        self.calls += 1
        self.texts += len(documents)
        return super().score(query, documents)


def made(kind: type[Attack], budget: int, operations: str) -> Attack:
    return kind(budget, "substitute" if kind is WordSubstitution else operations)


@pytest.mark.parametrize("operations", ["substitute", "any"])
@pytest.mark.parametrize("budget", [1, 2, 5])
@pytest.mark.parametrize("kind", ATTACKS)
def test_stays_within_its_budget_and_counts_its_queries(kind, budget, operations):
    scorer = Counting(overlap)
    attack = made(kind, budget, operations)
    for target in (1, 2, 3):
        scorer.calls = scorer.texts = 0
        result = attack.attack(QUERY, DOCUMENTS, target, scorer)
        assert (result.calls, result.queries) == (scorer.calls, scorer.texts)
        before, after = split_words(DOCUMENTS[target]), split_words(result.text)
        edited = edits_between(before, after, attack.operations)
        assert edited == result.words_edited <= budget
        assert result.score_after == overlap(QUERY, result.text) >= result.score_before
        scores = [overlap(QUERY, text) for text in DOCUMENTS]
        scores[target] = result.score_after
        assert result.rank_after == attacker_rank(scores, target)
        assert result.boost == result.rank_before - result.rank_after


@pytest.mark.parametrize("kind", ATTACKS)
def test_raises_the_score_of_a_ranker_that_counts_words(kind):
    result = made(kind, 4, "any").attack(QUERY, DOCUMENTS, 3, TableScorer(overlap))
    assert result.score_after > result.score_before
    assert result.rank_before == 3  # level with another, before which the attacker stands
    assert result.rank_after <= 2
    assert result.succeeded


def test_is_repeatable_from_the_seed():
    attack = PrependedTrigger(3, "any", seed=5)
    first, second = (attack.attack(QUERY, DOCUMENTS, 3, TableScorer(overlap)) for _ in range(2))
    assert first == second


def test_neighbours_alone_are_used_without_free_words():
    tried = []

    def score(query, text):
        tried.append(text)
        return 1.0 if "feast" in text else 0.5

    attack = WordSubstitution(
        1,
        neighbours=lambda word: {"soup": ["feast", "two words"]}.get(word, []),
        free_words=0,
        positions=20,
    )
    result = attack.attack(QUERY, DOCUMENTS, 2, TableScorer(score))
    assert result.text == DOCUMENTS[2].replace("soup", "feast")
    assert not any("two words" in text for text in tried)


def test_a_ranker_that_cannot_be_moved_is_left_alone():
    result = QueryStuffing(3, "any").attack(QUERY, DOCUMENTS, 2, TableScorer(lambda q, t: 0.5))
    assert result.text == DOCUMENTS[2]
    assert result.words_edited == 0
    assert result.rank_before == result.rank_after == 1  # ties count for the attacker
    assert not result.succeeded


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("text", ["", "one", "—", "  two   words\n"])
def test_short_documents(kind, text):
    documents = [*DOCUMENTS, text]
    for operations in ("substitute", "any"):
        result = made(kind, 5, operations).attack(QUERY, documents, 4, TableScorer(overlap))
        assert result.words_edited <= 5


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="budget must be >= 1, got 0"):
        QueryStuffing(0)
    with pytest.raises(ValueError, match="operations must be"):
        QueryStuffing(1, "delete")
    with pytest.raises(ValueError, match="leave it at 'substitute'"):
        WordSubstitution(1, "any")
    with pytest.raises(IndexError, match=r"target must be in 0\.\.3, got 4"):
        QueryStuffing(1).attack(QUERY, DOCUMENTS, 4, TableScorer(overlap))


def test_edits_between_refuses_other_edits():
    assert edits_between(["a", "b", "c"], ["a", "x", "c"], "substitute") == 1
    assert edits_between(["a", "b"], ["x", "a", "y", "b"], "any") == 2
    with pytest.raises(ValueError, match="substitutions keep them"):
        edits_between(["a"], ["a", "b"], "substitute")
    with pytest.raises(ValueError, match="removed"):
        edits_between(["a", "b"], ["b", "a"], "any")


WORDS = st.sampled_from(["lake", "Africa.", "largest", "soup", "in", "x", "—"])
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)


@pytest.mark.filterwarnings("ignore:.*can never certify")
@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(TEXTS, min_size=2, max_size=5),
    kind=st.sampled_from(ATTACKS),
    budget=st.integers(1, 4),
    operations=st.sampled_from(["substitute", "any"]),
    salt=st.integers(0, 5),
)
def test_no_attack_beats_the_certificate_of_the_smoothed_ranker(
    documents, kind, budget, operations, salt
):
    """The budget, and the bound for it, on rankers whose scores are arbitrary."""
    attack = made(kind, budget, operations)
    covers = attack.operations == "substitute"
    mechanism = BalancedMask(blocks=3) if covers else HashBuckets(buckets=3)
    model = TableScorer(lambda query, text: crc32(f"{salt} {text}".encode()) / 2**32)
    target = len(documents) - 1
    ranker = SmoothedRanker(
        model,
        mechanism,
        top_k=1,
        threat=WordEdits(budget, attack.operations),
        statement="pre_attack",
        scope="promotion",
    )
    before = ranker.rank(QUERY, documents)
    scorer = SmoothedScorer(model, mechanism)
    result = attack.attack(QUERY, documents, target, scorer)
    after = ranker.rank(QUERY, [*documents[:target], result.text])
    place = next(item for item in before.items if item.index == target)
    moved = next(item for item in after.items if item.index == target)
    assert moved.score == pytest.approx(result.score_after, abs=1e-12)
    assert result.rank_after >= place.best_rank
    if place.rank > 1 and place.pre_attack_radius >= max(1, result.words_edited):
        assert moved.rank > 1


def test_the_smoothed_scorer_gives_the_scores_the_ranker_ranks_by():
    model = TableScorer(overlap)
    for mechanism, share in itertools.product(
        (BalancedMask(blocks=4, partitions=2), HashBuckets(buckets=4)), (None, {"share": "0.3"})
    ):
        model.coverage = share
        ranking = SmoothedRanker(model, mechanism).rank(QUERY, DOCUMENTS)
        scores = SmoothedScorer(model, mechanism).score(QUERY, DOCUMENTS)
        assert [item.score for item in ranking.items] == [scores[i.index] for i in ranking.items]
    assert SmoothedScorer(model).score(QUERY, []) == []


def test_the_memo_scores_each_text_once_a_query():
    counting = Counting(overlap)
    memo = MemoScorer(counting)
    first = memo.score(QUERY, ["a", "b", "a"])
    assert memo.score(QUERY, ["b", "a"]) == [first[1], first[0]]
    assert counting.texts == memo.passes == 2
    memo.score("another", ["a"])
    assert counting.texts == 3


def test_neighbours_in_an_embedding_are_whole_words_by_cosine():
    torch = pytest.importorskip("torch")
    pieces = ["[PAD]", "soup", "broth", "##th", "engine", "stew"]
    vectors = [[1.0, 0.0], [1.0, 0.1], [2.0, 0.3], [1.0, 0.1], [-1.0, 0.2], [1.0, 0.9]]

    class Network:
        def get_input_embeddings(self):
            return torch.nn.Embedding.from_pretrained(torch.tensor(vectors))

    class Tokenizer:
        def convert_ids_to_tokens(self, ids):
            return [pieces[i] for i in ids]

    class Scorer:
        network = Network()
        tokenizer = Tokenizer()

    near = embedding_neighbours(Scorer(), count=2)
    assert near("Soup,") == ["broth", "stew"]
    assert near("unknown") == []
