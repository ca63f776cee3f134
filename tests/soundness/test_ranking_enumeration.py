"""SmoothedRanker with fixed masks attacked by enumeration, against scores computed apart.

Documents are tuples of words. A scorer is a table from visible text to twentieths. Every edited
form of every document within the budget is listed; since each document is edited on its own, a
list can reach every combination of scores that the documents can reach one by one. What must hold
is written here from its meaning: a tie or a score within the numerical margin counts for the
attacker. `test_whole_lists_through_the_public_api` ties this reasoning to `rank` itself.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from fractions import Fraction

import pytest

from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker
from robust_components.smoothing import BalancedMask, HashBuckets, TermCoverage
from robust_components.threats import WordEdits

WORDS = ("a", "y", "z")
"""In adversarial tables ``y`` spells ruin and ``z`` glory; documents are written with ``a``."""
SCOPES = ("promotion", "demotion", "any")

MECHANISMS = {
    "one partition": (BalancedMask(3, seed=1), "substitute"),
    "two blocks": (BalancedMask(2, seed=4), "substitute"),
    "masked": (BalancedMask(3, mask_token="[M]", seed=2), "substitute"),
    "spans": (BalancedMask(2, span=2, seed=3), "substitute"),
    "pieces": (BalancedMask(3, span=None), "substitute"),
    "shifted pieces": (BalancedMask(2, 2, span=None), "substitute"),
    "two partitions": (BalancedMask(3, 2, seed=5), "substitute"),
    "buckets": (HashBuckets(3, seed=1), "any"),
    "buckets, substitutions": (HashBuckets(3, seed=2), "substitute"),
    "two sets of buckets": (HashBuckets(2, 2, seed=3), "any"),
}


# ------------------------------------------------------------------------------- the attacker


def substituted(words, budget):
    """Every text that differs from ``words`` in at most ``budget`` places."""
    found = set()
    for places in itertools.combinations(range(len(words)), min(budget, len(words))):
        for new in itertools.product(WORDS, repeat=len(places)):
            text = list(words)
            for place, word in zip(places, new, strict=True):
                text[place] = word
            found.add(tuple(text))
    return found


def one_edit(words):
    """Every text one insertion, deletion or move away."""
    for place in range(len(words) + 1):
        for word in WORDS:
            yield (*words[:place], word, *words[place:])
    for place in range(len(words)):
        rest = words[:place] + words[place + 1 :]
        yield rest
        for other in range(len(words)):
            yield (*rest[:other], words[place], *rest[other:])


def edited(words, budget, operations):
    """Every form an attacker can give the document, its own included."""
    if operations == "substitute":
        return substituted(words, budget)
    found = {words}
    for _ in range(budget):
        found |= {text for one in found for text in one_edit(one)}
    return found


# --------------------------------------------------------------------------------- the scorers


def draw(seed, text):
    """A twentieth in 0..20, at random but fixed."""
    return hashlib.blake2b(f"{seed} {text}".encode(), digest_size=2).digest()[0] % 21


def random_table(seed, documents, mechanism):
    return lambda text: draw(seed, text)


def adversarial_table(seed, documents, mechanism):
    """Clean copies score at random; what is new is worth 0 with a ``y`` in it and else 1."""
    clean = {copy.text for words in documents for copy in mechanism.copies(words)}

    def table(text):
        if text in clean:
            return draw(seed, text)
        return 0 if "y" in text.split() else 20

    return table


def steep_table(seed, documents, mechanism):
    """Clean copies score 0 or 1: the worst case for means over few blocks."""
    clean = {copy.text for words in documents for copy in mechanism.copies(words)}
    return lambda text: 20 * (draw(seed, text) % 2) if text in clean else draw(seed, text)


TABLES = (random_table, adversarial_table, steep_table)


# ------------------------------------------------------------------------- what must be true


COVERAGE = TermCoverage("0.4", language=None, weights={"y": 1, "z": 3})


def covered(words):
    """The score's other part, for the query ``y z`` and :data:`COVERAGE`."""
    return Fraction("0.4") * (Fraction("y" in words, 4) + Fraction(3 * ("z" in words), 4))


class Truth:
    """All scores each document can reach, for one budget; ``terms`` adds :func:`covered`."""

    def __init__(self, documents, mechanism, table, budget, operations, *, terms=False):
        def score(words):
            mean = self._mean(mechanism, table, words)
            return Fraction("0.6") * mean + covered(words) if terms else mean

        self.clean = [score(words) for words in documents]
        self.reach = [
            {score(form) for form in edited(words, budget, operations)} for words in documents
        ]

    @staticmethod
    def _mean(mechanism, table, words):
        scores = [table(copy.text) for copy in mechanism.copies(words)]
        return Fraction(sum(scores), 20 * len(scores))

    def span(self, document, inside, scope):
        """Least and greatest score of a document that the scope may or may not edit."""
        if scope == "any" or (document in inside) == (scope == "demotion"):
            return min(self.reach[document]), max(self.reach[document])
        return self.clean[document], self.clean[document]

    def set_is_fixed(self, inside, scope):
        outside = set(range(len(self.clean))) - set(inside)
        return all(
            self.span(i, inside, scope)[0] > self.span(j, inside, scope)[1]
            for i in inside
            for j in outside
        )

    def stays(self, document, inside, scope):
        spans = [self.span(i, inside, scope) for i in range(len(self.clean))]
        others = [span for i, span in enumerate(spans) if i != document]
        low, high = spans[document]
        if document in inside:
            return sum(other[1] >= low for other in others) < len(inside)
        return sum(other[0] > high for other in others) >= len(inside)

    def best_rank(self, document):
        most = max(self.reach[document])
        return 1 + sum(s > most for i, s in enumerate(self.clean) if i != document)

    def none_enters(self, order, k, below, scope):
        inside = order[:k]
        for rival in order[below:]:
            most = self.span(rival, inside, scope)[1]
            if any(self.span(i, inside, scope)[0] <= most for i in inside):
                return False
        return True


def ranker(table, mechanism, operations, k, *, statement="pre_attack", scope="any", **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        return SmoothedRanker(
            TableScorer(lambda query, text: table(text) / 20),
            mechanism,
            top_k=k,
            threat=WordEdits(1, operations),
            statement=statement,
            scope=scope,
            numerical_margin=options.pop("numerical_margin", 0),
            certify="none",
            base_scores=False,
            **options,
        )


def toy_documents(generator, operations):
    longest = 6 if operations == "substitute" else 4
    count = generator.randint(2, 5)
    return [
        tuple(generator.choices(WORDS, [6, 1, 1], k=generator.randint(0, longest)))
        for _ in range(count)
    ]


def texts(documents):
    return [" ".join(words) for words in documents]


# ------------------------------------------------------------------------------- enumeration


@pytest.mark.parametrize("coverage", [None, COVERAGE], ids=["", "coverage"])
@pytest.mark.parametrize("name", MECHANISMS)
def test_no_edit_beats_any_claim(name, coverage):
    """Bounds, radii of sets and documents, best ranks and CRQ, for all scopes and budgets."""
    mechanism, operations = MECHANISMS[name]
    claims, terms = 0, coverage is not None
    for seed, shape in itertools.product(range(25), TABLES):
        generator = random.Random(f"{name} {seed}")
        documents = toy_documents(generator, operations)
        table = shape(seed, documents, mechanism)
        k = generator.randint(1, len(documents))
        rankings = {
            scope: ranker(table, mechanism, operations, k, scope=scope, coverage=coverage).rank(
                "y z", texts(documents)
            )
            for scope in SCOPES
        }
        for budget in (1, 2, 3) if operations == "substitute" else (1, 2):
            truth = Truth(documents, mechanism, table, budget, operations, terms=terms)
            for scope, ranking in rankings.items():
                claims += check_claims(ranking, truth, k, budget, scope)
    assert claims > 100, "the instances are too hard to tell anything"


def check_claims(ranking, truth, k, budget, scope):
    """Compare everything a ranking claims for ``budget`` with the truth; count what it claims."""
    analysis = ranking.analysis
    order = [item.index for item in ranking.items]
    assert order == sorted(range(len(order)), key=lambda i: (-truth.clean[i], i))
    bounds, scale = analysis.bounds(budget), analysis.scale
    for i, reach in enumerate(truth.reach):
        assert Fraction(int(bounds.low[i]), scale) == truth.clean[i]
        assert Fraction(int(bounds.lower[i]), scale) <= min(reach)
        assert max(reach) <= Fraction(int(bounds.upper[i]), scale)
    claims = 0
    if ranking.radius >= budget:
        claims += k < len(order)
        assert truth.set_is_fixed(order[:k], scope)
    for item in ranking.items:
        if item.radius >= budget:
            claims += k < len(order)
            assert truth.stays(item.index, order[:k], scope)
        if item.pre_attack_radius >= budget:
            assert truth.stays(item.index, order[:k], "promotion")
        assert ranking.best_rank(item.rank, budget) <= truth.best_rank(item.index)
    for top, below in itertools.combinations_with_replacement(range(1, len(order) + 1), 2):
        if ranking.crq(top, below, budget, scope):
            claims += below < len(order)
            assert truth.none_enters(order, top, below, scope)
    return claims


@pytest.mark.parametrize("name", ["one partition", "two blocks", "masked", "buckets"])
@pytest.mark.parametrize("seed", range(8))
def test_bounds_of_one_partition_are_attained(name, seed):
    """For one partition nothing better can be claimed: a model exists that reaches the bounds."""
    mechanism, operations = MECHANISMS[name]
    if name == "buckets":  # an inserted word of each kind for every bucket
        words = [f"{letter}{i}" for letter in "yz" for i in range(30)]
    generator = random.Random(seed)
    documents = [("a",) * generator.randint(1, 4) for _ in range(3)]
    clean = {copy.text for one in documents for copy in mechanism.copies(one)}

    def table(text):
        if text in clean:
            return draw(seed, text)
        return 0 if any(word.startswith("y") for word in text.split()) else 20

    ranking = ranker(table, mechanism, operations, 1).rank("q", texts(documents))
    for budget in (1, 2, 3):
        bounds = ranking.analysis.bounds(budget)
        for i, one in enumerate(documents):
            if operations == "substitute":
                forms = substituted(one, budget)
            else:
                forms = {one}
                for letter in "yz":
                    in_bucket = {mechanism.bucket(w): w for w in words if w[0] == letter}
                    for chosen in itertools.combinations(in_bucket.values(), budget):
                        forms.add(one + chosen)
            reach = {Truth._mean(mechanism, table, form) for form in forms}
            scale = ranking.analysis.scale
            assert max(reach) == Fraction(int(bounds.upper[i]), scale)
            assert min(reach) == Fraction(int(bounds.lower[i]), scale)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("seed", range(20))
def test_radii_of_one_partition_are_exact(scope, seed):
    """The certified radii are the true ones when the model is as bad as it can be."""
    mechanism = BalancedMask(3, seed=seed)
    generator = random.Random(seed)
    documents = [("a",) * generator.randint(0, 4) for _ in range(generator.randint(2, 5))]
    # Words tell the documents apart, so that each has copies of its own.
    documents = [tuple(f"a{i}" for _ in words) for i, words in enumerate(documents)]
    clean = {copy.text for one in documents for copy in mechanism.copies(one)}

    def table(text):
        if text in clean:
            return (draw(seed, text) + 20 * text.startswith(("a0", "a1"))) // 2
        return 0 if "y" in text.split() else 20

    k = generator.randint(1, len(documents) - 1)
    ranking = ranker(table, mechanism, "substitute", k, scope=scope).rank("q", texts(documents))
    order = [item.index for item in ranking.items]
    truths = {b: Truth(documents, mechanism, table, b, "substitute") for b in (1, 2, 3)}
    fixed = [b for b in truths if truths[b].set_is_fixed(order[:k], scope)]
    assert ranking.radius == max(fixed, default=0)
    for item in ranking.items:
        held = [b for b in truths if truths[b].stays(item.index, order[:k], scope)]
        assert item.radius == max(held, default=0)
        assert item.best_rank == truths[1].best_rank(item.index)


def test_upper_bounds_with_coverage_are_attained():
    """One word that is new to all copies and the rarest word of the query at once: ``z``."""
    mechanism = BalancedMask(3, seed=1)
    documents = [("a",) * 4, ("a", "y"), ("y",) * 5, ("y", "z"), ()]
    table = adversarial_table(3, documents, mechanism)
    clean = {copy.text for one in documents for copy in mechanism.copies(one)}
    hopeful = {text for text in clean if "z" not in text}

    def rising(text):
        return table(text) if text in hopeful else 20

    ranking = ranker(rising, mechanism, "substitute", 1, coverage=COVERAGE).rank(
        "y z", texts(documents)
    )
    truth = Truth(documents, mechanism, rising, 1, "substitute", terms=True)
    scale = ranking.analysis.scale
    upper = [Fraction(int(high), scale) for high in ranking.analysis.bounds(1).upper]
    assert upper[0] == max(truth.reach[0])
    assert upper[2] == max(truth.reach[2])
    assert upper[4] == max(truth.reach[4]) == truth.clean[4]
    assert all(high >= max(reach) for high, reach in zip(upper, truth.reach, strict=True))


# ---------------------------------------------------------------------------- observed lists


@pytest.mark.parametrize("coverage", [None, COVERAGE], ids=["", "coverage"])
@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("seed", range(4))
def test_observed_lists_have_the_clean_top(name, seed, coverage):
    """Every list the observed one may have been edited from has the same top K.

    The clean forms are found by undoing edits, which is done by edits of the same kind.
    """
    mechanism, operations = MECHANISMS[name]
    generator = random.Random(f"observed {name} {seed}")
    for shape in TABLES:
        clean = toy_documents(generator, operations)
        table = shape(seed, clean, mechanism)
        k = generator.randint(1, len(clean))
        options = {"statement": "observed", "coverage": coverage}
        rank = ranker(table, mechanism, operations, k, **options).rank
        truth_of_clean = Truth(clean, mechanism, table, 0, operations, terms=coverage is not None)
        top = sorted(range(len(clean)), key=lambda i: (-truth_of_clean.clean[i], i))[:k]
        for _ in range(12):
            budget = generator.choice((1, 2))
            seen = [generator.choice(sorted(edited(words, budget, operations))) for words in clean]
            ranking = rank("y z", texts(seen))
            if ranking.radius >= budget:
                assert {item.index for item in ranking.top} == set(top)
            for item in ranking.items:
                if item.radius >= budget:
                    assert (item.rank <= k) == (item.index in top)


def test_edits_are_undone_by_as_many_edits():
    """What the observed statement rests on."""
    for operations, longest in (("substitute", 3), ("any", 3)):
        for length in range(longest + 1):
            for words in itertools.product(WORDS[:2], repeat=length):
                for budget in (1, 2):
                    for form in edited(words, budget, operations):
                        assert words in edited(form, budget, operations)


# ------------------------------------------------------------------------------- whole lists


@pytest.mark.parametrize("name", ["one partition", "two partitions", "distinct buckets"])
@pytest.mark.parametrize(
    "statement, scope", [("observed", "any"), *(("pre_attack", scope) for scope in SCOPES)]
)
def test_whole_lists_through_the_public_api(name, statement, scope):
    """Combinations of edits of all documents at once, ranked by the component itself."""
    if name == "distinct buckets":
        mechanism, operations = next(
            (one, "any")
            for one in (HashBuckets(3, seed=seed) for seed in range(100))
            if len({one.bucket(word) for word in WORDS}) == 3
        )
        documents = [("a", "y", "z"), ("a", "a"), ("z", "z")]
    else:
        mechanism, operations = MECHANISMS[name]
        documents = [("a",) * 3, ("y",) * 3, ("z",) * 3]
    clean = {copy.text for one in documents for copy in mechanism.copies(one)}
    worth = {copy.text for copy in mechanism.copies(documents[0])}
    generator, held = random.Random(0), []
    for seed in range(2):

        def table(text, seed=seed):
            return 20 * (text in worth) if text in clean else draw(seed, text)

        ranked = ranker(table, mechanism, operations, 1, statement=statement, scope=scope)
        ranking = ranked.rank("q", texts(documents))
        assert ranking.top[0].index == 0
        forms = [
            sorted(edited(words, 1, operations))
            if scope == "any" or (i == 0) == (scope == "demotion")
            else [words]
            for i, words in enumerate(documents)
        ]
        lists = list(itertools.product(*forms))
        for other in generator.sample(lists, min(600, len(lists))):
            again = ranked.rank("q", texts(other))
            for item in ranking.items:
                now = next(one for one in again.items if one.index == item.index)
                if item.radius >= 1:
                    assert (now.rank <= 1) == (item.rank <= 1)
            if ranking.radius >= 1:
                assert again.top[0].index == 0
        held.append(ranking.radius >= 1)
    assert any(held)


def test_more_budget_than_words_changes_nothing_more():
    """A document of two words can have two words substituted, however large the budget."""
    mechanism = BalancedMask(3, seed=1)
    documents = [("a", "a", "a", "a"), ("a", "a")]
    table = adversarial_table(0, documents, mechanism)
    ranking = ranker(table, mechanism, "substitute", 1).rank("q", texts(documents))
    bounds = [ranking.analysis.bounds(budget) for budget in (2, 3, 50)]
    assert len({int(b.upper[1]) for b in bounds}) == 1
    truth = Truth(documents, mechanism, table, 2, "substitute")
    assert Fraction(int(bounds[0].upper[1]), ranking.analysis.scale) == max(truth.reach[1])
    assert Fraction(int(bounds[0].upper[1]), ranking.analysis.scale) < 1


def test_what_nothing_can_change_says_so():
    """Empty documents cannot be substituted in; a list of them is fixed for any budget."""
    table = {"": 0, "a": 20}
    options = {"statement": "observed"}
    fixed = ranker(lambda text: table.get(text, 7), BalancedMask(3), "substitute", 2, **options)
    ranking = fixed.rank("q", ["", ""])
    assert ranking.radius == 3
    assert ranking.certificate.certified
    assert "any number of words were substituted" in ranking.certificate.claim
    shared = fixed.rank("q", ["a", ""], top_k=1)  # one word changes a third of the score
    assert shared.radius == 0
    hashed = ranker(lambda text: table.get(text, 7), HashBuckets(3), "any", 1, **options)
    assert hashed.rank("q", ["a", ""]).radius == 0


def test_duplicates_never_hold_each_other_out():
    """Two equal documents around rank K: neither side is certain, whatever the budget."""
    for mechanism, operations in MECHANISMS.values():
        for scope in SCOPES:
            made = ranker(lambda text: 10, mechanism, operations, 1, scope=scope)
            ranking = made.rank("q", ["a a", "a a", "z"])
            assert [item.index for item in ranking.items] == [0, 1, 2]
            assert ranking.radius == 0
            assert not any(item.radius for item in ranking.items)
            assert {item.best_rank for item in ranking.items} == {1}


# ------------------------------------------------------------------------------ numerical error


@pytest.mark.parametrize("score, radius", [(0.419, 1), (0.4201, 0), (0.46, 0)])
def test_twice_the_margin_is_kept(score, radius):
    """.75 against (b + 1) / 2, with a margin of .02: b must be less than .42."""
    made = ranker(
        lambda text: 20 * {"a": 0.75, "b": score}.get(text, 1.0),
        BalancedMask(2),
        "substitute",
        1,
        scope="promotion",
        numerical_margin=0.02,
    )
    assert made.rank("q", ["a a", "b b"]).radius == radius


def test_every_pair_of_nudges_within_the_margin_is_covered():
    """Scores now and at the attack differ by at most the margin, each copy on its own."""
    mechanism, margin = BalancedMask(2, seed=0), 0.1
    claims = 0
    for a, b in itertools.product(range(0, 21), repeat=2):
        for now in itertools.product((0.0, margin), repeat=2):
            values = {"a": a / 20, "b": b / 20}

            def score(query, text, values=values, now=now):
                shift = {"a": now[0], "b": now[1]}.get(text, 0.0)
                return min(1.0, values.get(text, 1.0) + shift)

            made = SmoothedRanker(
                TableScorer(score),
                mechanism,
                top_k=1,
                statement="pre_attack",
                scope="promotion",
                numerical_margin=margin,
                certify="none",
                base_scores=False,
            )
            ranking = made.rank("q", ["a a", "b b"])
            if not ranking.radius:
                continue
            claims += 1
            winner = ranking.top[0].index
            for later in itertools.product((0.0, margin), repeat=2):
                shown = [min(1.0, values["ab"[i]] + later[i]) for i in range(2)]
                loser = 1 - winner
                assert shown[winner] > (shown[loser] + 1.0) / 2
    assert claims > 50


# ----------------------------------------------------------------------------------- quantiles


@pytest.mark.parametrize("quantile", [0.01, 0.25, 0.5, 0.8, 0.99])
@pytest.mark.parametrize(
    "name", ["one partition", "two partitions", "buckets", "spans", "shifted pieces"]
)
def test_no_edit_moves_a_quantile_past_its_bounds(name, quantile):
    """Logits without bounds: a changed copy may score anything, here -1000 or 1000."""
    mechanism, operations = MECHANISMS[name]
    for seed in range(6):
        generator = random.Random(f"{name} {quantile} {seed}")
        documents = toy_documents(generator, operations)
        clean = {copy.text for words in documents for copy in mechanism.copies(words)}

        def logit(text, clean=clean, seed=seed):
            if text in clean:
                return draw(seed, text) - 10
            return -1000 if "y" in text.split() else 1000

        def score(words, logit=logit):
            found = sorted(logit(copy.text) for copy in mechanism.copies(words))
            place = -(-Fraction(str(quantile)) * len(found) // 1)
            return found[max(0, int(place) - 1)]

        k = generator.randint(1, len(documents))
        for scope in SCOPES:
            ranking = ranker(
                lambda text, logit=logit: 20 * logit(text),
                mechanism,
                operations,
                k,
                scope=scope,
                aggregation="quantile",
                quantile=quantile,
            ).rank("q", texts(documents))
            order = [item.index for item in ranking.items]
            for budget in (1, 2):
                truth = Truth.__new__(Truth)
                truth.clean = [score(words) for words in documents]
                truth.reach = [
                    {score(form) for form in edited(words, budget, operations)}
                    for words in documents
                ]
                bounds = ranking.analysis.bounds(budget)
                for i in range(len(documents)):
                    assert int(bounds.low[i]) == truth.clean[i] * 10**9
                    assert int(bounds.lower[i]) <= min(truth.reach[i]) * 10**9
                    assert int(bounds.upper[i]) >= max(truth.reach[i]) * 10**9
                if ranking.radius >= budget:
                    assert truth.set_is_fixed(order[:k], scope)
                for item in ranking.items:
                    if item.radius >= budget:
                        assert truth.stays(item.index, order[:k], scope)


def test_the_median_of_one_partition_is_certified_exactly():
    """Three copies: one changed copy cannot move the median past the others, two can."""
    logits = {"a": 5, "b": -5}
    made = ranker(
        lambda text: 20 * logits.get(text, 10**6),
        BalancedMask(3),
        "substitute",
        1,
        scope="promotion",
        aggregation="quantile",
        quantile=0.5,
    )
    ranking = made.rank("q", ["a a a", "b b b"])
    assert ranking.radius == 1
    assert made.rank("q", ["a a a", "b b z"]).top[0].index == 0
    assert made.rank("q", ["a a a", "b z z"]).top[0].index == 1


# ------------------------------------------------------------------------------ larger instances


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_no_search_beats_a_claim_on_longer_lists(seed):
    """Greedy search for promotion and demotion in lists of documents of up to 30 words."""
    generator = random.Random(seed)
    mechanism, operations = generator.choice(
        [
            (
                BalancedMask(generator.choice((4, 6)), generator.choice((1, 2)), seed=seed),
                "substitute",
            ),
            (HashBuckets(generator.choice((4, 6)), generator.choice((1, 2)), seed=seed), "any"),
        ]
    )
    words = [f"w{i}" for i in range(12)]
    weight = {word: generator.random() for word in words}

    def table(text):
        found = text.split()
        mean = sum(weight.get(word, 0.5) for word in found) / len(found) if found else 0.3
        return 20 * min(1.0, 0.5 * mean + 0.025 * draw(seed, text))

    documents = [
        tuple(generator.choices(words, k=generator.randint(0, 30)))
        for _ in range(generator.randint(3, 12))
    ]
    k = generator.randint(1, len(documents) - 1)
    ranked = ranker(table, mechanism, operations, k)
    ranking = ranked.rank("q", texts(documents))
    order = [item.index for item in ranking.items]

    def mean(form):
        scores = [table(copy.text) / 20 for copy in mechanism.copies(form)]
        return sum(scores) / len(scores)

    def step(form):
        if operations == "substitute":
            if not form:
                return form
            place = generator.randrange(len(form))
            return (*form[:place], generator.choice(words), *form[place + 1 :])
        return generator.choice(list(itertools.islice(steps(form), 400)))

    def steps(form):
        for place in range(len(form) + 1):
            yield (*form[:place], generator.choice(words), *form[place:])
        for place in range(len(form)):
            rest = form[:place] + form[place + 1 :]
            yield rest
            other = generator.randint(0, len(rest))
            yield (*rest[:other], form[place], *rest[other:])

    for budget in (1, 2, 3):
        bounds, scale = ranking.analysis.bounds(budget), ranking.analysis.scale
        reached = []
        for i, form in enumerate(documents):
            ends = {}
            for sign in (1, -1):
                now = form
                for _ in range(budget):
                    now = max((step(now) for _ in range(60)), key=lambda f: sign * mean(f))
                ends[sign] = mean(now)
            assert int(bounds.lower[i]) / scale - 1e-8 <= ends[-1]
            assert ends[1] <= int(bounds.upper[i]) / scale + 1e-8
            reached.append((ends[-1], ends[1]))
        if ranking.radius >= budget:
            least = min(reached[i][0] for i in order[:k])
            assert least > max(reached[i][1] for i in order[k:])
