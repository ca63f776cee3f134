from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from robust_components import bounds


@pytest.mark.parametrize("trials", [1, 5, 20])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_clopper_pearson_covers_every_probability(trials, alpha):
    """Exact: the total probability of all counts whose bound is wrong never exceeds alpha."""
    lower = [bounds.clopper_pearson_lower(s, trials, alpha) for s in range(trials + 1)]
    upper = [bounds.clopper_pearson_upper(s, trials, alpha) for s in range(trials + 1)]
    for p in np.linspace(0.001, 0.999, 200):
        mass = binom.pmf(np.arange(trials + 1), trials, p)
        assert mass[np.array(lower) > p].sum() <= alpha + 1e-12
        assert mass[np.array(upper) < p].sum() <= alpha + 1e-12


def test_clopper_pearson_inverts_the_binomial_tail():
    p = bounds.clopper_pearson_lower(17, 20, 0.05)
    assert binom.sf(16, 20, p) == pytest.approx(0.05)


@pytest.mark.parametrize("draw", ["bernoulli", "beta", "two_point"])
def test_betting_bound_coverage(draw):
    """Under continuous monitoring (the running maximum is what the bound uses) misses stay rare."""
    rng = np.random.default_rng(7)
    alpha, runs, misses = 0.1, 400, 0
    for _ in range(runs):
        if draw == "bernoulli":
            sample, mean = (rng.random(150) < 0.8).astype(float), 0.8
        elif draw == "beta":
            sample, mean = rng.beta(2, 6, 150), 0.25
        else:
            sample, mean = np.where(rng.random(150) < 0.05, 1.0, 0.4), 0.43
        misses += bounds.betting_lower(sample, alpha) > mean
    assert binomtest(misses, runs, alpha, alternative="greater").pvalue > 1e-4


def test_betting_bound_tightens_and_brackets():
    rng = np.random.default_rng(0)
    sample = rng.beta(5, 2, 2000)
    short = bounds.betting_lower(sample[:50], 0.05)
    long = bounds.betting_lower(sample, 0.05)
    assert 0 < short < long < sample.mean() < bounds.betting_upper(sample, 0.05) < 1
    assert sample.mean() - long < 0.02


def test_betting_bound_of_nothing_is_trivial():
    assert bounds.betting_lower([], 0.05) == 0.0
    assert bounds.betting_upper([], 0.05) == 1.0


@pytest.mark.parametrize(
    "words, shown, edits", [(5, 2, 1), (6, 3, 2), (4, 4, 1), (4, 0, 2), (3, 1, 3)]
)
def test_overlap_probability_counts_subsets(words, shown, edits):
    edited = set(range(edits))
    subsets = list(combinations(range(words), shown))
    hit = sum(bool(edited & set(subset)) for subset in subsets)
    assert bounds.overlap_probability(words, shown, edits) == Fraction(hit, len(subsets))


def test_more_edits_than_words_hit_every_nonempty_mask():
    assert bounds.overlap_probability(3, 1, 9) == 1
    assert bounds.overlap_probability(3, 0, 9) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: bounds.clopper_pearson_lower(3, 2, 0.05),
        lambda: bounds.clopper_pearson_upper(0, 0, 0.05),
        lambda: bounds.clopper_pearson_lower(1, 2, 0.0),
        lambda: bounds.betting_lower([0.5, 1.5], 0.05),
        lambda: bounds.betting_lower([float("nan")], 0.05),
        lambda: bounds.betting_lower([0.5], 1.0),
        lambda: bounds.overlap_probability(3, 4, 1),
    ],
)
def test_out_of_range_values_are_refused(call):
    with pytest.raises(ValueError, match=r"must|need"):
        call()
