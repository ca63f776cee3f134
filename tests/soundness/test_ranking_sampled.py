"""Random masks: exact means over all C(T, s) masks, confidence over many seeds, counterexamples."""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from fractions import Fraction

import pytest
from scipy.stats import binom

from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker
from robust_components.ranking.fixed_bounds import UNIT
from robust_components.ranking.robustmask import increase
from robust_components.ranking.sampled_analysis import SampledAnalysis
from robust_components.smoothing import BalancedMask, RandomMask
from robust_components.threats import WordEdits

WORDS = ("a", "y", "z")
MASK = "[MASK]"
SCOPES = ("promotion", "demotion", "any")
RATES = (0.3, 0.5, 0.9)
RUNS = [80, pytest.param(800, marks=pytest.mark.slow)]


def draw(seed, text):
    """A twentieth in 0..20, at random but fixed."""
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=2).digest()[0] % 21


def masked(words, shown):
    """All texts in which ``shown`` words are visible, each equally likely."""
    for visible in itertools.combinations(range(len(words)), shown):
        yield " ".join(word if i in visible else MASK for i, word in enumerate(words))


def exact_mean(mechanism, table, words):
    scores = [table(text) for text in masked(words, mechanism.shown(len(words)))]
    return Fraction(sum(Fraction(score).limit_denominator(10**9) for score in scores), len(scores))


def substituted(words, budget):
    found = set()
    for places in itertools.combinations(range(len(words)), min(budget, len(words))):
        for new in itertools.product(WORDS, repeat=len(places)):
            text = list(words)
            for place, word in zip(places, new, strict=True):
                text[place] = word
            found.add(tuple(text))
    return found


def ranker(table, mechanism, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        settings = {
            "statement": "pre_attack",
            "scope": "promotion",
            "numerical_margin": 0,
            "certify": "none",
            "base_scores": False,
        }
        return SmoothedRanker(
            TableScorer(lambda query, text: float(table(text))), mechanism, **settings | options
        )


def population(mechanism, table, documents, k):
    """The analysis after infinitely many samples: the bounds are the exact means."""
    means = [float(exact_mean(mechanism, table, words)) for words in documents]
    return SampledAnalysis(
        estimates=means,
        lowest=means,
        highest=means,
        words=[len(words) for words in documents],
        samples=[1] * len(documents),
        wins=None,
        level=Fraction(1, 40),
        bound="betting",
        mechanism=mechanism,
        threat=WordEdits(1),
        k=k,
        numerical_margin=0,
    )


# ------------------------------------------------------------------------- the exact population


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("count", range(7))
def test_no_substitution_moves_the_mean_by_more_than_delta(rate, count):
    """All masks, all substitutions, random tables; and a table that moves it by exactly Delta."""
    mechanism = RandomMask(rate)
    words = tuple(f"a{i}" for i in range(count))
    for budget in (1, 2, 3):
        delta = mechanism.delta(count, WordEdits(budget))
        forms = substituted(words, budget)
        for seed in range(3):
            table = lambda text, seed=seed: draw(seed, text) / 20  # noqa: E731
            clean = exact_mean(mechanism, table, words)
            assert all(abs(exact_mean(mechanism, table, f) - clean) <= delta for f in forms)
        for worth in (0, 1):  # what shows a new word is worth 1, or 0, against the clean copies

            def extreme(text, worth=worth):
                new = any(word in WORDS for word in text.split())
                return worth if new else 1 - worth

            clean = exact_mean(mechanism, extreme, words)
            assert max(abs(exact_mean(mechanism, extreme, f) - clean) for f in forms) == delta


@pytest.mark.parametrize("rate", RATES)
def test_exact_means_are_never_beaten(rate):
    """Radii, best ranks and CRQ from exact means against every edit of every document."""
    mechanism, claims = RandomMask(rate), 0
    for seed in range(40):
        generator = random.Random(f"{rate} {seed}")
        documents = [
            tuple(generator.choices(WORDS, [6, 1, 1], k=generator.randint(0, 6)))
            for _ in range(generator.randint(2, 5))
        ]
        clean_texts = {
            text for words in documents for text in masked(words, mechanism.shown(len(words)))
        }

        def table(text, seed=seed, clean_texts=clean_texts):
            if text in clean_texts:
                return 20 * (draw(seed, text) % 2) / 20
            return 0 if "y" in text.split() else 1

        k = generator.randint(1, len(documents))
        analysis = population(mechanism, table, documents, k)
        clean = [exact_mean(mechanism, table, words) for words in documents]
        for budget in (1, 2):
            reach = []
            for words in documents:
                scores = [exact_mean(mechanism, table, f) for f in substituted(words, budget)]
                reach.append((min(scores), max(scores)))
            for scope in SCOPES:
                claims += check(analysis, clean, reach, budget, scope)
    assert claims > 50


def check(analysis, clean, reach, budget, scope):
    inside, order, claims = analysis.inside, analysis.order, 0
    span = [
        reach[i] if scope == "any" or (i in inside) == (scope == "demotion") else (g, g)
        for i, g in enumerate(clean)
    ]
    outside = analysis.outside
    if analysis.set_radius(scope) >= budget:
        claims += bool(outside)
        assert all(span[i][0] > span[j][1] for i in inside for j in outside)
    for document, radius in enumerate(analysis.radii(scope)):
        others = [one for i, one in enumerate(span) if i != document]
        if radius >= budget and document in inside:
            claims += bool(outside)
            assert sum(high >= span[document][0] for _, high in others) < len(inside)
        elif radius >= budget:
            claims += 1
            assert sum(low > span[document][1] for low, _ in others) >= len(inside)
    for document, best in enumerate(analysis.best_ranks(budget, alone=True)):
        most = reach[document][1]
        assert best <= 1 + sum(g > most for i, g in enumerate(clean) if i != document)
    for top, below in itertools.combinations(range(1, len(order)), 2):
        if analysis.crq(top, below, budget, scope):
            mine, rivals = order[:top], order[below:]
            assert all(
                (reach[i][0] if scope != "promotion" else clean[i])
                > (reach[j][1] if scope != "demotion" else clean[j])
                for i in mine
                for j in rivals
            )
    return claims


# ---------------------------------------------------------------------------- over many seeds


def too_often(misses, runs, level):
    """Whether so many misses are less likely than one in 10,000 at this level."""
    return binom.sf(misses - 1, runs, level) < 1e-4


DOCUMENTS = [("g", "g", "g", "g"), ("b", "b", "b", "b"), ("c", "c"), ("d", "e", "d", "e", "d", "e")]


def graded(text):
    return {"g": 0.8, "b": 0.35, "c": 0.3, "d": 0.9, "e": 0.1}.get(
        next((w for w in text.split() if w != MASK), ""), 0.0
    ) * (0.5 + 0.5 * (len(text.split()) % 2)) + 0.15 * (draw(3, text) / 20)


def votes(text):
    return float(draw(5, text) % (5 if "g" in text else 2) > 0)


@pytest.mark.parametrize(
    "table, options",
    [
        (graded, {}),
        (graded, {"adaptive": False}),
        (graded, {"pass_budget": 60}),
        (votes, {}),
        (votes, {"bound": "clopper_pearson"}),
        (votes, {"bound": "clopper_pearson", "pass_budget": 60}),
    ],
    ids=["graded", "fixed", "pass budget", "votes", "counts", "counts, pass budget"],
)
@pytest.mark.parametrize("runs", RUNS)
def test_bounds_miss_the_mean_as_seldom_as_said(table, options, runs):
    """Each bound after an adaptive run misses at its level at most, side by side all together."""
    alpha = 0.5
    means = [exact_mean(RandomMask(0.5), table, words) * UNIT for words in DOCUMENTS]
    low_misses, high_misses, together = [0] * 4, [0] * 4, 0
    for seed in range(runs):
        made = ranker(table, RandomMask(0.5, samples=80, seed=seed), alpha=alpha, **options)
        analysis = made.rank("q", [" ".join(words) for words in DOCUMENTS], top_k=1).analysis
        whole, each = analysis.bounds(1), analysis.each.bounds(1)
        assert analysis.level == Fraction(1, 4)
        assert analysis.each.level == Fraction(1, 16)
        for i, mean in enumerate(means):
            low_misses[i] += whole.low[i] > mean
            high_misses[i] += whole.high[i] < mean
        together += any(each.low[i] > mean or each.high[i] < mean for i, mean in enumerate(means))
    assert not any(too_often(misses, runs, alpha / 2) for misses in (*low_misses, *high_misses))
    assert not too_often(together, runs, alpha)
    assert sum(low_misses) + sum(high_misses) > 0, "bounds that never miss test nothing"


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("runs", RUNS)
def test_false_claims_are_as_rare_as_said(adaptive, runs):
    """A list on the edge: one substitution is exactly enough, so every claim for it is false.

    The same decisions by sample means without bounds are wrong about half of the time.
    """
    documents = [("g",) * 4, ("b",) * 4]
    mechanism = RandomMask(0.5)
    delta = mechanism.delta(4, WordEdits(1))
    clean = set(masked(documents[1], 2))
    worth = dict(zip(sorted(clean), (1, 1, 0, 0, 0, 0), strict=True))

    def table(text):
        if "g" in text:
            return 5 / 6
        return worth.get(text, 1)

    good, bad = (exact_mean(mechanism, table, words) for words in documents)
    assert good == bad + delta
    assert any(exact_mean(mechanism, table, form) == good for form in substituted(documents[1], 1))
    alpha, false_claims, naive = 0.4, 0, 0
    for seed in range(runs):
        made = ranker(
            table,
            RandomMask(0.5, samples=150, seed=seed),
            alpha=alpha,
            adaptive=adaptive,
            top_k=1,
        )
        ranking = made.rank("q", [" ".join(words) for words in documents])
        if [item.index for item in ranking.items] == [0, 1]:
            false_claims += ranking.radius >= 1
            naive += ranking.analysis.score[0] > ranking.analysis.score[1] + delta * UNIT
    assert not too_often(false_claims, runs, alpha)
    assert too_often(naive, runs, 0.25)


def test_a_wide_gap_is_certified_and_never_beaten():
    """The sampled claim is not vacuous, and what it says is true of the exact means."""
    documents = [("g",) * 6, ("b",) * 6, ("c", "b") * 3]
    mechanism = RandomMask(0.9)

    def table(text):
        return 0.95 if "g" in text else 0.05 if "b" in text else 0.1 if "c" in text else 1.0

    for scope, radius in (("promotion", 4), ("any", 2)):
        made = ranker(
            table, RandomMask(0.9, samples=2000, seed=1), scope=scope, threat=WordEdits(radius)
        )
        ranking = made.rank("q", [" ".join(words) for words in documents], top_k=1)
        assert ranking.radius == radius
        assert ranking.certificate.certified
        for words in documents[1:]:
            most = max(exact_mean(mechanism, table, f) for f in substituted(words, radius))
            least = exact_mean(mechanism, table, documents[0])
            if scope == "any":
                least = min(exact_mean(mechanism, table, f) for f in substituted(("g",) * 6, 2))
            assert least > most


# ------------------------------------------------------------------------------ counterexamples


def two_words(text):
    """The inside document scores .8; of the other, one word is worth 1 and the other nothing."""
    if "g" in text:
        return 0.8
    return 0 if "c" in text else 1


def test_robustmask_counterexample_is_refused():
    """T = 2, one word visible, one edited: the score rises by .5 where the rule prints .25."""
    documents = [("g", "g"), ("b", "c")]
    mechanism = RandomMask(0.5, samples=400, seed=0)
    assert mechanism.shown(2) == 1
    assert increase(2, 1, 1, UNIT) == Fraction(UNIT, 4)
    clean = exact_mean(mechanism, two_words, documents[1])
    attacked = max(exact_mean(mechanism, two_words, f) for f in substituted(documents[1], 1))
    assert attacked - clean == Fraction(1, 2) == mechanism.delta(2, WordEdits(1))
    assert attacked > Fraction(4, 5) > clean
    texts = [" ".join(words) for words in documents]
    published = ranker(two_words, mechanism, scope=None, method="robustmask", top_k=1)
    certificate = published.rank("q", texts).certificate
    assert certificate.certified
    assert certificate.radius >= 1
    assert certificate.guarantee == "heuristic"
    assert "not sound" in certificate.claim
    for adaptive in (True, False):
        sound = ranker(two_words, mechanism, adaptive=adaptive, top_k=1).rank("q", texts)
        assert sound.radius == 0
    assert population(mechanism, two_words, documents, 1).set_radius("promotion") == 0
    fixed = ranker(two_words, BalancedMask(2, mask_token=MASK), top_k=1).rank("q", texts)
    assert fixed.radius == 0


def test_ranmask_counterexample_is_refused():
    """T = 10, 2 visible, R = 2: certified .539 by mean - beta * Delta, true worst case .489.

    39 of 45 masks score 1; the 6 that score 0 show two of the first four words. Two edited words
    among the others leave the 28 masks that avoid them, the 6 included: 22 of 45.
    """
    words = tuple(f"w{i}" for i in range(10))
    mechanism = RandomMask(0.8, samples=3000, seed=0)
    assert mechanism.shown(10) == 2

    def table(text):
        shown = [word for word in text.split() if word != MASK]
        if all(word == "r" for word in shown):
            return 0.51
        return float(all(w in words for w in shown) and not all(w in words[:4] for w in shown))

    clean = exact_mean(mechanism, table, words)
    delta = mechanism.delta(10, WordEdits(2))
    assert (clean, delta) == (Fraction(39, 45), Fraction(17, 45))
    ranmask = clean - clean * delta  # its beta is the mean of the copies that see an edit
    attacked = exact_mean(mechanism, table, (*words[:8], "z", "z"))
    assert round(float(ranmask), 3) == 0.539
    assert round(float(attacked), 3) == 0.489
    assert ranmask > Fraction(51, 100) > attacked
    documents = [words, ("r",) * 10]
    exact = population(mechanism, table, documents, 1)
    assert exact.bounds(2).lower[0] == math.floor(attacked * UNIT) - 1
    assert exact.set_radius("demotion") == 1
    ranking = ranker(table, mechanism, scope="demotion", top_k=1, threat=WordEdits(2)).rank(
        "q", [" ".join(one) for one in documents]
    )
    assert ranking.radius == 1
    assert not ranking.certificate.certified


def test_the_dangerous_document_may_be_at_rank_k_plus_2():
    """The document below the runner-up is shorter, so an edited word is seen by more masks."""
    documents = [("g",) * 20, ("h",) * 20, ("b", "c")]
    mechanism = RandomMask(0.9, samples=2000, seed=0)

    def table(text):
        if "g" in text:
            return 0.9
        if "h" in text:
            return 0.6
        return 0.1 if "c" in text else 1.0

    means = [exact_mean(mechanism, table, words) for words in documents]
    assert [float(mean) for mean in means] == [0.9, 0.6, 0.55]
    one = WordEdits(1)
    assert means[0] > means[1] + mechanism.delta(20, one)  # the runner-up is harmless
    assert exact_mean(mechanism, table, ("b", "z")) > means[0]  # the document below is not
    texts = [" ".join(words) for words in documents]
    published = ranker(table, mechanism, method="robustmask", top_k=1).rank("q", texts)
    assert [item.index for item in published.items] == [0, 1, 2]
    assert published.certificate.certified
    for scope in ("promotion", "any"):
        assert ranker(table, mechanism, scope=scope, top_k=1).rank("q", texts).radius == 0
    without = ranker(table, mechanism, top_k=1).rank("q", texts[:2])
    assert without.radius >= 1
    third = next(
        item for item in ranker(table, mechanism, top_k=1).rank("q", texts).items if item.index == 2
    )
    assert third.best_rank == 1
    assert third.radius == 0
