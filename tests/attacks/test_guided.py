"""Gradient-guided attacks: gradients are finite differences, budgets hold, queries count."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from robust_components.attacks import GradientSubstitution, MultiGranular, edits_between
from robust_components.attacks.gradients import Surrogate, _table
from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.models.testing import TableScorer

WORDS = [*"abcdefgh", "who", "what", "is", "the", "man", "city", "river"]
QUERY = "who is the man"
ATTACKS = [
    GradientSubstitution(3, free_words=6, tries=3),
    MultiGranular(3),
    MultiGranular(4, "any"),
]


class Counting:
    def __init__(self, scorer):
        self.scorer = scorer
        self.calls = self.texts = 0

    def score(self, query, documents):
        self.calls += 1
        self.texts += len(documents)
        return self.scorer.score(query, documents)


@pytest.fixture(params=["bert", "t5"])
def scorer(request, make_bert, make_t5, bert_tokenizer, t5_tokenizer):
    network = make_t5() if request.param == "t5" else make_bert(1)
    tokenizer = t5_tokenizer if request.param == "t5" else bert_tokenizer
    return TransformersPairScorer(network, tokenizer, output="logit", max_length=64)


def documents(seed, number=4):
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randrange(5, 12))) for _ in range(number)]


def test_word_gradients_are_finite_differences(scorer):
    words = ("the", "river", "city", "a")
    slopes = Surrogate(scorer).words(QUERY, words)
    assert slopes.gradient.shape == slopes.embedding.shape == (4, 16)
    table = _table(scorer.network)
    ids = scorer.encoder.ids_of("river")
    (row,), _ = scorer.encoder.encode([(QUERY, " ".join(words))])
    at = row["input_ids"].index(ids[-1])
    inputs = {k: torch.tensor(v) for k, v in scorer.encoder.pad([row]).items()}
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0))
    logits = []
    for sign in (1, -1):
        calls = []

        def shift(module, given, output, sign=sign, calls=calls):
            if not calls:
                output = output.clone()
                output[0, at] += sign * 1e-2 * direction
            calls.append(1)
            return output

        hook = table.register_forward_hook(shift)
        with torch.no_grad():
            logits.append(float(scorer.relevance(inputs)))
        hook.remove()
    expected = (logits[0] - logits[1]) / 2e-2
    assert float(slopes.gradient[1] @ direction) == pytest.approx(expected, rel=0.1, abs=1e-2)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: f"{a.name} {a.operations}")
def test_keeps_to_the_budget_counts_queries_and_raises_scores(attack, scorer):
    gained = 0
    for seed in range(4):
        texts = documents(seed)
        target = min(range(4), key=scorer.score(QUERY, texts).__getitem__)
        counting = Counting(scorer)
        result = attack.attack(QUERY, texts, target, counting)
        assert (result.calls, result.queries) == (counting.calls, counting.texts)
        before, after = texts[target].split(), result.text.split()
        assert edits_between(before, after, attack.operations) == result.words_edited
        assert result.words_edited <= attack.budget
        assert result.score_after == pytest.approx(scorer.score(QUERY, [result.text])[0], abs=1e-4)
        assert result.score_after >= result.score_before
        gained += result.score_after > result.score_before
    assert gained >= 3


def test_no_hook_stays_and_wrapped_victims_give_gradients(scorer):
    table = _table(scorer.network)
    GradientSubstitution(1).attack(QUERY, documents(0), 0, MemoScorer(scorer))
    assert not table._forward_hooks
    relevance = scorer.relevance
    scorer.relevance = None
    with pytest.raises(TypeError):
        Surrogate(scorer).words(QUERY, ("the",))
    assert not table._forward_hooks
    scorer.relevance = relevance


def test_a_victim_without_gradients_needs_a_surrogate(scorer):
    victim = TableScorer(lambda query, text: text.count("river") / 10)
    with pytest.raises(TypeError, match="surrogate="):
        GradientSubstitution(2).attack("river", documents(0), 0, victim)
    result = GradientSubstitution(2, surrogate=scorer).attack("river", documents(0), 0, victim)
    assert result.score_after >= result.score_before


def test_substitution_alone():
    with pytest.raises(ValueError, match="'substitute'"):
        GradientSubstitution(2, "any")
