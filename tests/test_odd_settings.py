"""Settings nobody should pass: each error names the setting and what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robust_components import CluCertClassifier
from robust_components.bounds import betting_lower, clopper_pearson_lower
from robust_components.models.testing import (
    KeywordReader,
    TableClassifier,
    TableScorer,
    TableTokenModel,
)
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.ranking import SmoothedRanker
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask, TermCoverage
from robust_components.threats import (
    PassageInjection,
    PassageModification,
    SynonymEdits,
    WordEdits,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*can hardly certify")
THREATS = (PassageInjection, PassageModification, WordEdits, SynonymEdits)
CLASSIFIER = TableClassifier(lambda text: "a")
SCORER = TableScorer(lambda query, text: 0.5)
READER = KeywordReader(lambda query, text: text)


def classifier(**settings):
    return CluCertClassifier(CLASSIFIER, **{"mechanism": RandomMask(0.9, 60), **settings})


def ranker(**settings):
    return SmoothedRanker(SCORER, **settings)


def generator(**settings):
    return RobustRAGGenerator(READER, **settings)


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("budget", [10**9 + 1, 10**12, 10**400])
def test_budgets_beyond_all_words_are_refused(threat, budget):
    with pytest.raises(ValueError, match=r"budget must be <= 1000000000, got .*; lower it"):
        threat(budget)


@pytest.mark.parametrize("threat", THREATS)
def test_budgets_are_kept_as_plain_integers(threat):
    made = threat(np.int64(3))
    assert type(made.budget) is int
    assert made == threat(3)
    assert threat(10**9).budget == 10**9


@pytest.mark.parametrize("make", [classifier, ranker])
@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (5e-324, "alpha must be at least 1e-15, got 5e-324; try 0.001"),
        (1e-320, "alpha must be at least 1e-15, got 1e-320; try 0.001"),
        (1e-16, "alpha must be at least 1e-15, got 1e-16; try 0.001"),
        (10**400, r"alpha must be in \(0, 1\), got about 2\^1329; 0.05 gives"),
    ],
)
def test_levels_a_float_cannot_tell_from_zero_or_infinity(make, alpha, message):
    with pytest.raises(ValueError, match=message):
        make(alpha=alpha)


def test_the_smallest_levels_work():
    text = " ".join(f"w{i}" for i in range(30))
    found = classifier(alpha=1e-15).classify(text)
    assert found.certificate.problems() == []
    for alpha in (1e-15, 2.3e-308):
        for bound in (betting_lower([1.0] * 50, alpha), clopper_pearson_lower(50, 50, alpha)):
            assert 0 <= bound < 0.6 and math.isfinite(bound)
    for alpha in (1e-320, 5e-324, 0.0, math.nan):
        with pytest.raises(ValueError, match="alpha must be in"):
            clopper_pearson_lower(3, 5, alpha)
        with pytest.raises(ValueError, match="alpha must be in"):
            betting_lower([1.0], alpha)


@pytest.mark.parametrize("kind", [BalancedMask, HashBuckets, RandomMask])
def test_a_mechanism_that_is_a_class(kind):
    for make in (classifier, ranker):
        with pytest.raises(TypeError, match=rf"mechanism must be an object.*pass {kind.__name__}"):
            make(mechanism=kind)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (CluCertClassifier, TableClassifier),
        (SmoothedRanker, TableScorer),
        (RobustRAGGenerator, KeywordReader),
        (lambda model: RobustRAGGenerator(model, "decoding"), TableTokenModel),
    ],
)
def test_a_model_that_is_a_class(make, kind):
    with pytest.raises(TypeError, match=rf"model must be an object, got the class {kind.__name__}"):
        make(kind)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BalancedMask(10**6), "blocks must be <= 100000, got 1000000; lower it"),
        (lambda: BalancedMask(10, 10**9), "partitions must be <= 100000, got 1000000000"),
        (lambda: BalancedMask(1000, 1000), "blocks times partitions must be <= 100000"),
        (lambda: HashBuckets(10**400), r"buckets must be <= 100000, got about 2\^1329"),
        (lambda: HashBuckets(1000, 1000), "buckets times partitions must be <= 100000"),
        (lambda: RandomMask(0.9, 10**12), "samples must be <= 1000000, got 1000000000000"),
        (lambda: classifier(selection_samples=10**9), "selection_samples must be <= 1000000"),
        (lambda: classifier(labels=3), "labels must be names, got 3"),
        (lambda: ranker(quantile=10**400), r"quantile must be in \(0, 1\), got about"),
        (lambda: ranker(time_budget=10**400), "time_budget must be more than 0, got about"),
        (lambda: ranker(numerical_margin=10**400), "numerical_margin must be in"),
        (lambda: ranker(score_map=[]), r"score_map must be one of .*, got \[\]"),
        (lambda: ranker(scope=[]), r"scope must be one of .*, got \[\]"),
        (lambda: ranker(statement=[]), r"statement must be one of .*, got \[\]"),
        (lambda: classifier(method={}), r"method must be one of .*, got \{\}"),
        (lambda: generator(aggregation=[]), "aggregation must be 'voting', 'keyword' or"),
        (lambda: generator(corruption_size=10**12), "corruption_size must be <= 1000000000, got"),
        (lambda: WordEdits(1, []), "operations must be 'substitute' or 'any'"),
        (lambda: TermCoverage("0.3", language=[]), r"language must be a name or None, got \[\]"),
        (lambda: TermCoverage("0.3", weights=0.5), "weights must be numbers by word, got float"),
    ],
)
def test_values_of_other_kinds_and_sizes(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
