"""What a SmoothedRanker is given: settings, queries, documents, models that are no scorers."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker
from robust_components.ranking.scoring import (
    MOST,
    ListwiseScorerError,
    Scoring,
    check_pointwise,
    sigmoid,
)
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask, TermCoverage
from robust_components.threats import PassageInjection, WordEdits

pytestmark = pytest.mark.filterwarnings("ignore:.* certify")
HALF = TableScorer(lambda query, text: 0.5)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"mechanism": "balanced"}, ValueError, "mechanism must be one of"),
        ({"mechanism": 10}, TypeError, "got 10"),
        ({"top_k": 0}, ValueError, "top_k must be >= 1, got 0"),
        ({"top_k": 2.5}, TypeError, "top_k must be an integer"),
        ({"threat": PassageInjection(1)}, TypeError, "threat must be WordEdits, got PassageInj"),
        ({"threat": 3}, TypeError, "threat must be WordEdits, got int"),
        ({"threat": WordEdits(1, "any")}, ValueError, "BalancedMask covers substitutions"),
        ({"statement": "later"}, ValueError, "statement must be one of ['observed', 'pre_attack']"),
        ({"scope": "promotion"}, ValueError, "needs statement='pre_attack'"),
        ({"scope": "all"}, ValueError, "scope must be one of ['promotion', 'demotion', 'any']"),
        ({"coverage": 0.3}, TypeError, "TermCoverage, 'model' or None, got float"),
        ({"coverage": {"part": 0.3}}, ValueError, "coverage has no setting part"),
        (
            {"coverage": TermCoverage(), "aggregation": "quantile"},
            ValueError,
            "coverage needs BalancedMask or HashBuckets and aggregation='mean'",
        ),
        (
            {"coverage": TermCoverage(), "mechanism": RandomMask()},
            ValueError,
            "coverage needs BalancedMask or HashBuckets and aggregation='mean'",
        ),
        ({"aggregation": "max"}, ValueError, "aggregation must be one of ['mean', 'quantile']"),
        ({"quantile": 1}, ValueError, "quantile must be in (0, 1), got 1"),
        ({"quantile": 0}, ValueError, "quantile must be in (0, 1), got 0"),
        ({"score_map": "min_max"}, ValueError, "depends on the other candidates, so a hostile"),
        ({"score_map": "softmax"}, ValueError, "moves everybody's score"),
        ({"score_map": "tanh"}, ValueError, "score_map must be one of ['identity', 'sigmoid'"),
        (
            {"numerical_margin": -1e-9},
            ValueError,
            "numerical_margin must be in (0, 0.5), got -1e-09",
        ),
        ({"numerical_margin": 0.5}, ValueError, "numerical_margin must be in (0, 0.5), got 0.5"),
        ({"numerical_margin": math.nan}, ValueError, "got nan; try 1e-5, or 0"),
        ({"numerical_margin": "0.1"}, ValueError, "got '0.1'"),
        ({"alpha": 0}, ValueError, "alpha must be in (0, 1), got 0; 0.05 gives confidence 95 %"),
        ({"alpha": True}, ValueError, "alpha must be in (0, 1), got True"),
        ({"alpha": math.nan}, ValueError, "alpha must be in (0, 1), got nan"),
        ({"alpha": 1e-17}, ValueError, "alpha must be at least 1e-15, got 1e-17"),
        ({"certify": "some"}, ValueError, "certify must be one of ['all', 'boundary', 'none']"),
        ({"method": "guess"}, ValueError, "method must be one of ['smoothing', 'robustmask']"),
        ({"method": "robustmask"}, ValueError, "is the published rule for RandomMask; pass one"),
        ({"bound": "hoeffding"}, ValueError, "bound must be one of ['betting', 'clopper_pearson']"),
        ({"bound": "clopper_pearson"}, ValueError, "is for RandomMask; other mechanisms are exact"),
        ({"model": 10}, TypeError, "model must have a method score(query, documents)"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(options, error, words):
    options = {"model": HALF} | options
    with pytest.raises(error) as caught:
        SmoothedRanker(options.pop("model"), options.pop("mechanism", None), **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"aggregation": "quantile"}, ValueError, "needs BalancedMask or HashBuckets, not Random"),
        ({"threat": WordEdits(1, "any")}, ValueError, "RandomMask covers substitutions"),
        ({"method": "robustmask"}, ValueError, "pass statement='pre_attack' and scope='promotion'"),
        (
            {"method": "robustmask", "statement": "pre_attack", "scope": "any"},
            ValueError,
            "scope='any'; pass statement='pre_attack' and scope='promotion'",
        ),
        (
            {"method": "robustmask", "statement": "pre_attack", "pass_budget": 9},
            ValueError,
            "pass_budget=9 does not go with method='robustmask', whose number of samples is fixed",
        ),
        (
            {"bound": "clopper_pearson", "time_budget": 1},
            ValueError,
            "time_budget=1 does not go with bound='clopper_pearson'",
        ),
        ({"pass_budget": 0}, ValueError, "pass_budget must be >= 1"),
        ({"time_budget": 0}, ValueError, "time_budget must be more than 0, got 0; in seconds"),
        ({"time_budget": "1"}, ValueError, "time_budget must be more than 0, got '1'"),
        ({"time_budget": math.inf}, ValueError, "time_budget must be more than 0, got inf"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_random_masks_are_refused(options, error, words):
    with pytest.raises(error) as caught:
        SmoothedRanker(HALF, RandomMask(), **options)
    assert words in str(caught.value)


def test_numbers_of_other_types_become_plain():
    made = SmoothedRanker(
        HALF,
        top_k=np.int64(3),
        numerical_margin=np.float32(0.25),
        alpha=np.float64(0.1),
        quantile=np.float64(0.5),
        aggregation="quantile",
    )
    assert (made.top_k, made.numerical_margin, made.alpha) == (3, 0.25, 0.1)
    assert type(made.numerical_margin) is type(made.alpha) is float
    certificate = made.rank("q", ["a", "b"], top_k=np.int64(1)).certificate
    assert certificate.parameters["aggregation"] == {"name": "quantile", "quantile": "1/2"}
    assert certificate.verify()


# ----------------------------------------------------------------------- what can never certify


def caught_warnings(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    return caught


@pytest.mark.parametrize(
    "mechanism, options, words",
    [
        (
            BalancedMask(4),
            {"threat": WordEdits(2)},
            "4 copies a partition can never certify 2 edited words",
        ),
        (
            BalancedMask(4),
            {"threat": WordEdits(4), "statement": "pre_attack", "scope": "promotion"},
            "edits reach 4 of them; use more blocks or a smaller budget",
        ),
        (HashBuckets(4), {"threat": WordEdits(1, "substitute")}, "edits reach 2 of them"),
        (
            BalancedMask(4),
            {"threat": WordEdits(2), "aggregation": "quantile"},
            "can never certify 2 edited words (operations='substitute', scope='any')",
        ),
        (RandomMask(0.5, samples=1000), {}, "can hardly certify 1 edited word (scope='any')"),
        (RandomMask(0.9, samples=10), {}, "10 samples separate scores by"),
    ],
    ids=repr,
)
def test_hopeless_settings_warn_at_the_callers_line(mechanism, options, words):
    caught = caught_warnings(lambda: SmoothedRanker(HALF, mechanism, **options))
    assert len(caught) == 1
    assert words in str(caught[0].message)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "mechanism, options",
    [
        (None, {}),
        (BalancedMask(4), {"threat": WordEdits(3), "statement": "pre_attack", "scope": "demotion"}),
        (HashBuckets(5), {"threat": WordEdits(2, "any")}),
        (BalancedMask(4), {"threat": WordEdits(1), "aggregation": "quantile"}),
        (RandomMask(), {}),
        (RandomMask(0.5), {"method": "robustmask", "statement": "pre_attack"}),
    ],
    ids=repr,
)
def test_settings_that_can_certify_do_not_warn(mechanism, options):
    assert not caught_warnings(lambda: SmoothedRanker(HALF, mechanism, **options))


@pytest.mark.parametrize("scope", ["promotion", "demotion", "any"])
@pytest.mark.parametrize("blocks", [2, 3, 4])
@pytest.mark.parametrize("budget", [1, 2, 3, 4])
@pytest.mark.parametrize("quantile", [None, 0.1, 0.5, 0.8])
def test_what_warns_can_never_certify_and_the_rest_can(scope, blocks, budget, quantile):
    """The best list there is, perfect against worthless documents, is the test of both."""
    best = TableScorer(lambda query, text: float("good" in text))
    options = {"threat": WordEdits(budget), "statement": "pre_attack", "scope": scope, "top_k": 1}
    if quantile:
        options |= {"aggregation": "quantile", "quantile": quantile}
    made = []
    caught = caught_warnings(
        lambda: made.append(SmoothedRanker(best, BalancedMask(blocks), **options))
    )
    ranking = made[0].rank("q", ["good " * 9, "bad " * 9])
    assert ranking.certificate.certified == (not caught)


def test_term_coverage_can_certify_where_copies_never_do():
    """The warning speaks of copies alone: here all of them are lost, and the words decide."""
    best = TableScorer(lambda query, text: float("green" in text))
    options = {"threat": WordEdits(2), "statement": "pre_attack", "scope": "promotion", "top_k": 1}
    query, texts = "green apple pear plum", ["green apple pear plum " * 3, "bad " * 12]
    for coverage, certified in ((TermCoverage("0.6"), True), (None, False)):
        with pytest.warns(UserWarning, match="can never certify .* without term coverage: edits"):
            made = SmoothedRanker(best, BalancedMask(2), coverage=coverage, **options)
        certificate = made.rank(query, texts).certificate
        assert certificate.certified == certified
        assert certificate.verify()


# -------------------------------------------------------------------------- queries and documents


@pytest.mark.parametrize(
    "query, documents, error, words",
    [
        (None, ["a"], TypeError, "query must be text, got NoneType"),
        ("", ["a"], ValueError, "query is empty"),
        (" \n", ["a"], ValueError, "query is empty"),
        ("q", "a document", TypeError, "documents must be a list of texts, got one text"),
        ("q", {"a": 1}, TypeError, "documents must be a list of texts, got dict; make a list"),
        ("q", {"a"}, TypeError, "documents must be a list of texts, got set"),
        ("q", iter(["a"]), TypeError, "documents must be a list of texts, got list_iterator"),
        ("q", None, TypeError, "documents must be a list of texts, got NoneType"),
        ("q", ["a", None], TypeError, "documents[1] must be text, got NoneType; pass its content"),
        ("q", [b"a"], TypeError, "documents[0] must be text, got bytes"),
    ],
)
def test_queries_and_documents_that_are_no_texts_are_refused(query, documents, error, words):
    with pytest.raises(error) as caught:
        SmoothedRanker(HALF).rank(query, documents)
    assert words in str(caught.value)


@pytest.mark.parametrize("top_k, error", [(0, ValueError), (-1, ValueError), ("3", TypeError)])
def test_top_k_of_a_call_is_checked(top_k, error):
    with pytest.raises(error, match="top_k must be"):
        SmoothedRanker(HALF).rank("q", ["a"], top_k=top_k)


@pytest.mark.parametrize("margin", [0, 1e-5, 1e-100, 5e-324])
def test_certificates_verify_with_any_margin(margin):
    certificate = SmoothedRanker(HALF, numerical_margin=margin).rank("q", ["a"]).certificate
    assert certificate.verify(), certificate.problems()


def test_top_k_is_cut_to_the_number_of_documents():
    ranking = SmoothedRanker(HALF, top_k=50).rank("q", ["a", "b"])
    assert ranking.k == len(ranking.top) == 2
    assert ranking.certificate.parameters["top_k"] == 2
    assert "any number of words" in ranking.certificate.claim
    assert ranking.certificate.verify()


# ------------------------------------------------------------------------------- models' scores


@pytest.mark.parametrize(
    "score, words",
    [
        (math.nan, "with nan; a score must be a finite number: check the model"),
        (math.inf, "with inf; a score must be a finite number"),
        (None, "with None; a score must be a finite number"),
        (10**400, "; a score must be a finite number"),
        ("high", "with 'high'; a score must be a finite number"),
        (1.5, "with 1.5, outside [0, 1], where means can be bounded; pass score_map='sigmoid'"),
        (-0.1, "with -0.1, outside [0, 1]"),
    ],
)
def test_scores_that_are_none_name_text_and_map(score, words):
    class Broken:
        def score(self, query, documents):
            return [score if "bad" in text else 0.5 for text in documents]

    for mechanism in (BalancedMask(2), RandomMask(0.5, samples=100)):
        with pytest.raises(ValueError) as caught:
            SmoothedRanker(Broken(), mechanism).rank("q", ["fine", "bad " * 50])
        assert words in str(caught.value)
        assert "'bad bad" in str(caught.value) or "[MASK]" in str(caught.value)
        assert len(str(caught.value)) < 400


def test_no_scores_at_all_are_refused():
    class Silent:
        def score(self, query, documents):
            return None

    with pytest.raises(ValueError, match="the model returned None for 4 texts; it must return a"):
        SmoothedRanker(Silent()).rank("q", ["a"])


def test_a_wrong_number_of_scores_is_refused():
    class Short:
        def score(self, query, documents):
            return [0.5] * (len(documents) - (len(documents) > 4))

    with pytest.raises(ValueError, match=r"returned 19 scores for 20 texts; it must return one"):
        SmoothedRanker(Short(), base_scores=False).rank(
            "q", [" ".join("abcdefghij"), " ".join("klmnopqrst")]
        )


def test_scores_of_other_types_are_taken_as_floats():
    values = [np.float32(0.25), np.float64(0.5), np.int64(1), 0, np.array(0.75)]
    texts = [f"t{i}" for i in range(5)]

    class Mixed:
        def score(self, query, documents):
            return [values[int(t[1])] if t[:1] == "t" else 0.5 for t in documents]

    ranking = SmoothedRanker(Mixed(), BalancedMask(2)).rank("q", [f"{t} {t}" for t in texts])
    assert {item.index: item.score for item in ranking.items} == pytest.approx(
        {0: 0.25, 1: 0.5, 2: 1.0, 3: 0.0, 4: 0.75}
    )


def test_rounding_errors_beyond_the_range_are_cut():
    for near, expected in ((1 + 9e-7, 1.0), (-9e-7, 0.0)):
        scoring = Scoring(
            TableScorer(lambda query, text, near=near: near), "identity", bounded=True
        )
        assert scoring.score("q", ["a"]).tolist() == [expected]
    with pytest.raises(ValueError, match="outside"):
        Scoring(TableScorer(lambda query, text: 1.00001), "identity", bounded=True).score("q", "a")


def test_logits_are_mapped_or_ranked_by_quantile():
    logits = TableScorer(lambda query, text: 5.0 if "good" in text else -700.0)
    for score_map, value in (("sigmoid", sigmoid(5.0)), ("sigmoid/4", sigmoid(1.25))):
        ranking = SmoothedRanker(logits, score_map=score_map).rank("q", ["bad", "good " * 10])
        assert ranking.items[0].score == pytest.approx(value, abs=1e-9)
        assert ranking.items[0].base_score == pytest.approx(value)
    ranking = SmoothedRanker(logits, aggregation="quantile").rank("q", ["bad", "good " * 10])
    assert [item.score for item in ranking.items] == [5.0, -700.0]
    with pytest.raises(ValueError, match="pass score_map='sigmoid'"):
        SmoothedRanker(logits).rank("q", ["good"])


def test_logits_too_large_for_exact_integers_are_refused():
    huge = TableScorer(lambda query, text: 2 * MOST)
    with pytest.raises(ValueError, match=r"outside \[-1e9, 1e9\]; pass score_map='sigmoid'"):
        SmoothedRanker(huge, aggregation="quantile").rank("q", ["a"])


# ----------------------------------------------------------------------------- list-wise models


class MinMax:
    def score(self, query, documents):
        lengths = np.array([len(text) for text in documents], dtype=float)
        with np.errstate(invalid="ignore"):
            return list((lengths - lengths.min()) / (lengths.max() - lengths.min()))


class Softmax:
    def score(self, query, documents):
        weights = np.exp([len(text) / 10 for text in documents])
        return list(weights / weights.sum())


class ByRank:
    def score(self, query, documents):
        order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
        return [1 / (1 + order.index(i)) for i in range(len(documents))]


class Noisy:
    def __init__(self):
        self.generator = np.random.default_rng(0)

    def score(self, query, documents):
        return list(self.generator.random(len(documents)))


@pytest.mark.parametrize("kind", [MinMax, Softmax, ByRank, Noisy])
def test_list_wise_and_random_models_are_refused(kind):
    with pytest.raises(ListwiseScorerError, match="wrap"):
        SmoothedRanker(kind()).rank("q", ["a", "b c"])


def overlap(query, text):
    return sum(word in query.split() for word in text.split()) / (1 + len(text.split()))


class MinMaxOverlap:
    """Counts words of the query, so that texts without any score alike in every list."""

    def score(self, query, documents):
        scores = [overlap(query, text) for text in documents]
        return [(s - min(scores)) / ((max(scores) - min(scores)) or 1) for s in scores]


class MaxOverlap:
    def score(self, query, documents):
        scores = [overlap(query, text) for text in documents]
        return [s / (max(scores) or 1) for s in scores]


class RareWords:
    """Words count for more when fewer texts of the list hold them, as in BM25."""

    def score(self, query, documents):
        texts = [set(text.split()) for text in documents]
        worth = {w: 1 / (1 + sum(w in text for text in texts)) for w in query.split()}
        return [sum(worth[w] for w in worth if w in text) / len(worth) for text in texts]


@pytest.mark.parametrize("query", ["nile", "nile river", "which river runs through africa"])
@pytest.mark.parametrize("kind", [MinMaxOverlap, MaxOverlap, RareWords])
def test_models_that_count_words_and_compare_texts_are_refused(kind, query):
    with pytest.raises(ListwiseScorerError, match="with the other texts of the call"):
        SmoothedRanker(kind()).rank(query, ["a", "b c"])


def test_a_memo_does_not_hide_a_list_wise_model():
    with pytest.raises(ListwiseScorerError, match="wrap"):
        SmoothedRanker(MemoScorer(MinMax())).rank("q", ["a", "b c"])


def test_a_memo_keeps_queries_apart_in_threads():
    def score(query, documents):
        if query == "one":  # another thread asks something else meanwhile
            memo.score("two", documents)
        return [0.1 if query == "one" else 0.9] * len(documents)

    memo = MemoScorer(TableScorer(lambda query, text: 0.0))
    memo.scorer.score = score
    assert memo.score("one", ["a"]) == [0.1]
    assert memo.score("two", ["a"]) == [0.9]


def test_rounding_in_batches_is_no_list_wise_model():
    class Batched:
        def score(self, query, documents):
            return [0.5 + 1e-7 * len(documents)] * len(documents)

    check_pointwise(Batched(), "q", 1e-6)
    with pytest.raises(ListwiseScorerError, match=r"by 3e-07 .* raise numerical_margin if this"):
        check_pointwise(Batched(), "q", 1e-8)


def test_large_logits_are_compared_after_the_map():
    """Half precision moves logits of 20 by hundredths, which the sigmoid makes nothing of."""

    class Half:
        def score(self, query, documents):
            return [20.0 + 0.02 * len(documents)] * len(documents)

    check_pointwise(Half(), "q", 1e-5, "sigmoid")
    with pytest.raises(ListwiseScorerError):
        check_pointwise(Half(), "q", 1e-5)


def test_the_check_is_made_once_and_not_counted():
    calls = []
    scorer = TableScorer(lambda query, text: calls.append(text) or 0.5)
    made = SmoothedRanker(scorer, BalancedMask(2), base_scores=False)
    assert made.rank("q", ["a b"]).passes == 2
    assert len(calls) == 4 + 4 + 2
    made.rank("q", ["a b"])
    assert len(calls) == 4 + 4 + 2 + 2


def test_coverage_is_the_models_own_unless_said_otherwise():
    documents = ["lake water", "dry land", "lake lake"]

    def scores(coverage="model", **options):
        model = TableScorer(lambda query, text: 0.5)
        model.coverage = {"share": "0.5"}
        ranker = SmoothedRanker(model, coverage=coverage, top_k=1, **options)
        items = ranker.rank("lake", documents).items
        return [item.score for item in sorted(items, key=lambda item: item.index)]

    assert scores() == scores(TermCoverage("0.5")) == scores({"share": 0.5}) == [0.75, 0.25, 0.75]
    assert scores(TermCoverage("0.2")) == pytest.approx([0.6, 0.4, 0.6])
    assert scores(None) == [0.5, 0.5, 0.5]
    assert scores(aggregation="quantile") == [0.5, 0.5, 0.5]
    sampled = RandomMask(0.9, samples=50, seed=0)
    assert scores(mechanism=sampled) == pytest.approx([0.5, 0.5, 0.5])


def test_repeating_a_word_of_the_query_gains_nothing_by_coverage():
    ranker = SmoothedRanker(HALF, coverage=TermCoverage("0.5"), top_k=1)
    items = ranker.rank("old lake", ["lake " * 50, "old lake", "lake"]).items
    assert [item.index for item in items] == [1, 0, 2]
    assert items[1].score == items[2].score
