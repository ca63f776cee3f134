"""Secure decoding (Algorithm 2): which token is emitted, who votes, and what counts as failed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from robust_components.models.testing import TableTokenModel
from robust_components.rag.decoding import IsolatedSources, decode, stream
from robust_components.rag.decoding_step import SCALE, DecodingSettings, fixed_point, reach
from robust_components.rag.scenarios import PassageList

END = "</s>"


def settings(**options):
    return DecodingSettings(**{"gamma": "0.9", "numerical_margin": "0", **options})


def isolated(rows, *, abstain=(), no_retrieval=None, sources=None, failed=None, top_k=None, **opts):
    """Passages p0, p1, .. given as {prefix: {token: probability}}, or {token: p} for prefix ()."""
    table = {}
    for i, row in enumerate(rows):
        row = row if all(isinstance(key, tuple) for key in row) else {(): row}
        table |= {(f"p{i}", prefix): entry for prefix, entry in row.items()}
    model = TableTokenModel(
        table, abstain={f"p{i}": 1.0 for i in abstain}, no_retrieval=no_retrieval
    )
    names = [f"p{i}" for i in range(len(rows))]
    listed = PassageList(
        tuple(sources or names), tuple(failed or [False] * len(rows)), top_k or len(rows)
    )
    return IsolatedSources(model.open("q", names), listed, settings(**opts))


def tokens_of(sources, decoding):
    return [sources.session.token_text(token) for token in decoding.tokens]


def test_the_leading_tokens_are_emitted_until_the_end():
    row = {(): {"New": 0.9, END: 0.1}, ("New",): {"York": 1.0}}
    sources = isolated([row, row, {"Paris": 1.0}])
    decoding = decode(sources)
    assert decoding.text == "New York"
    assert tokens_of(sources, decoding) == ["New", "York", END]
    assert [sources.session.token_text(step.emitted) for step in stream(sources)] == [
        "New",
        "York",
        END,
    ]


def test_the_answer_without_an_end_is_the_text_so_far():
    row = {("a",) * n: {"a": 1.0} for n in range(5)}
    sources = isolated([row], max_tokens=3)
    decoding = decode(sources)
    assert decoding.text == "a a a"
    assert len(decoding.steps) == 3


def test_an_answer_of_nothing_is_an_abstention():
    decoding = decode(isolated([{END: 0.75, "a": 0.25}]))
    assert decoding.text == "I don't know" and decoding.abstained
    assert decoding.pieces == ("",) and len(decoding.steps) == 1


def test_no_responding_passage_means_abstention():
    sources = isolated([{"a": 1.0}], abstain=[0])
    decoding = decode(sources)
    assert decoding.text == "I don't know"
    assert decoding.abstained and decoding.tokens == () and sources.model_rows == 0
    assert decode(isolated([])).abstained


def test_abstaining_passages_have_no_vote_and_do_not_raise_the_threshold():
    rows = [{"a": 0.75, "b": 0.25}, {"b": 1.0}, {"b": 1.0}]
    sources = isolated(rows, abstain=[1, 2], eta="0.4")
    assert decode(sources).text == "a"


def test_gamma_itself_abstains():
    table = {("p", ()): {"a": 1.0}}
    for probability, text in ((0.5, "I don't know"), (0.4999, "a")):
        session = TableTokenModel(table, abstain={"p": probability}).open("q", ["p"])
        listed = PassageList(("s",), (False,), 1)
        assert decode(IsolatedSources(session, listed, settings(gamma="0.5"))).text == text


def test_ties_and_exact_thresholds_give_the_no_retrieval_token():
    tie = isolated([{"a": 0.5, "b": 0.5}], no_retrieval={(): "c"}, max_tokens=1)
    assert decode(tie).text == "c"
    exact = isolated([{"a": 0.75, "b": 0.25}], no_retrieval={(): "c"}, max_tokens=1, eta="0.5")
    assert decode(exact).text == "c"
    above = isolated([{"a": 0.75, "b": 0.25}], no_retrieval={(): "c"}, max_tokens=1, eta="0.499")
    assert decode(above).text == "a"


def test_a_source_has_one_vote_however_many_passages_it_has():
    rows = [{"b": 1.0}, {"b": 1.0}, {"b": 1.0}, {"a": 1.0}, {"a": 1.0}]
    assert decode(isolated(rows)).text == "b"
    assert decode(isolated(rows, sources=["x", "x", "x", "y", "z"])).text == "a"


def test_a_source_votes_with_the_mean_of_its_responding_passages():
    rows = [{"a": 1.0}, {"b": 1.0}, {"b": 0.75, "a": 0.25}, {"b": 1.0}]
    sources = isolated(rows, sources=["x", "x", "x", "x"], abstain=[3])
    assert sources.voters == ((0, 1, 2),)
    mass, _ = sources.table(()).votes(sources.voters)
    assert sorted(mass[0]) == [0, 5 * SCALE // 12, 7 * SCALE // 12]
    assert decode(sources).text == "b"
    assert decode(isolated(rows, sources=["x"] * 4, abstain=[0, 1, 2, 3])).abstained


def test_rank_order_plays_no_part():
    rng = np.random.default_rng(0)
    rows = [dict(zip("abc", map(float, rng.dirichlet(np.ones(3))), strict=True)) for _ in range(7)]
    answers = {
        decode(isolated([rows[i] for i in rng.permutation(7)], max_tokens=1)).text
        for _ in range(20)
    }
    assert len(answers) == 1


def test_marked_and_failed_rows_lose_their_vote_and_count_as_hostile():
    rows = [{"a": 1.0}, {"b": 1.0}, {"b": 1.0}]
    sources = isolated(rows, sources=["x", "y", "y"], failed=[False, True, False])
    assert decode(sources).text == "a"
    assert sources.passages.failed == (False, True, False)
    assert sources.passages.failed_sources == {"y"}


class Session:
    """Distributions given by a function of the prefix; the last token ends the answer."""

    def __init__(self, function, abstention, failures=None):
        self.function = function
        self.abstention = np.array(abstention, dtype=np.float64)
        self.failures = failures or [None] * len(abstention)
        self.truncated = [False] * len(abstention)
        self.eos = 2

    def next_probabilities(self, prefix, rows):
        return np.array([self.function(prefix)[row] for row in rows], dtype=np.float64)

    def no_retrieval_token(self, prefix):
        return self.eos

    def token_text(self, token):
        return "ab."[token]

    def text(self, tokens):
        return "".join(self.token_text(token) for token in tokens)

    def close(self):
        """Nothing to release."""


A, B, STOP = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]


def from_session(session, **options):
    size = len(session.abstention)
    listed = PassageList(tuple(f"s{i}" for i in range(size)), (False,) * size, size)
    return IsolatedSources(session, listed, settings(max_tokens=3, **options))


@pytest.mark.parametrize("abstention", [np.nan, np.inf, -0.5, 1.5])
def test_an_impossible_abstention_probability_is_a_failure(abstention):
    sources = from_session(Session(lambda prefix: [B, A if not prefix else STOP], [abstention, 0]))
    assert decode(sources).text == "a"
    assert sources.passages.failed == (True, False)
    assert "Pr[abstention]" in sources.failures[0]


def test_a_failure_named_by_the_session_counts():
    session = Session(lambda prefix: [B, A if not prefix else STOP], [0, 0], ["timed out", None])
    sources = from_session(session)
    assert decode(sources).text == "a"
    assert sources.failures == ["timed out", None]


@pytest.mark.parametrize(
    "bad", [[np.nan, 0, 0], [np.inf, 0, 0], [-0.1, 1.1, 0], [0.9, 0.3, 0], [np.nan] * 3]
)
def test_an_impossible_distribution_is_a_failure_from_then_on(bad):
    """It adds nothing to the step, keeps its share of the threshold, and costs budget."""
    session = Session(lambda prefix: [A, A, B] if not prefix else [STOP, STOP, bad], [0, 0, 0])
    sources = from_session(session)
    assert sources.passages.failed == (False, False, False)
    assert decode(sources).text == "a"
    assert sources.passages.failed == (False, False, True)


def test_a_slightly_high_sum_is_scaled():
    units, sound = fixed_point(np.array([[0.5, 0.50001], [0.5, 0.6], [0.2, 0.3], [0.0, 0.0]]))
    assert sound.tolist() == [True, False, True, True]
    assert units.sum(axis=1).max() <= SCALE
    assert units[1].tolist() == [0, 0] and units[0, 1] > units[0, 0]


@hypothesis_settings(deadline=None)
@given(
    st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=30).filter(
        lambda values: sum(values) > 0
    )
)
def test_fixed_point_never_exceeds_one_and_rounds_down(values):
    distribution = np.array(values) / np.sum(values)
    units, sound = fixed_point(distribution[None])
    assert sound[0] and units.min() >= 0 and units.sum() <= SCALE
    error = distribution - units[0] / SCALE
    assert error.min() > -1e-15 and error.max() < 2 / SCALE + 1e-15


@hypothesis_settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, SCALE), min_size=2, max_size=4), min_size=1, max_size=1),
    st.integers(1, 5),
    st.sampled_from(["0", "0.125", "0.3", "0.999"]),
)
def test_without_newcomers_exactly_one_outcome_is_possible(rows, voters, eta):
    outcome = reach(
        np.array(rows),
        np.zeros(1, dtype=np.int64),
        voters=np.array([voters]),
        newcomers=np.array([0]),
        eta=Fraction(eta),
    )
    assert outcome.wins.sum() + outcome.falls_back.sum() == 1
    first, second = sorted(rows[0], reverse=True)[:2]
    assert outcome.falls_back[0] == (first - second <= voters * Fraction(eta) * SCALE)


def test_only_the_leading_tokens_are_kept():
    rng = np.random.default_rng(1)
    sources = from_session(
        Session(lambda prefix: rng.dirichlet(np.ones(50), size=3), [0, 0, 0]), tracked_tokens=5
    )
    table = sources.table(())
    assert 5 <= len(table.tokens) <= 7
    assert table.mass.shape == (3, len(table.tokens))
    assert table.rest.min() > 0 and table.rest_total >= table.rest.max()
    assert sources.table(()) is table and sources.model_rows in (3, 4)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("gamma", "0", r"gamma must be in \(0, 1\], got '0'"),
        ("gamma", 1.5, r"gamma must be in \(0, 1\], got 1.5"),
        ("eta", "1", r"eta must be in \[0, 1\), got '1'"),
        ("eta", -0.1, r"eta must be in \[0, 1\), got -0.1"),
        ("eta", "0.1234", "eta must have at most three decimals, got 0.1234"),
        ("eta", "much", r"eta must be a number in \[0, 1\), got 'much'"),
        ("eta", float("nan"), r"eta must be a number in \[0, 1\)"),
        ("numerical_margin", 0.2, r"numerical_margin must be in \[0, 0.1\], got 0.2"),
        ("max_tokens", 0, "max_tokens must be >= 1, got 0"),
        ("tracked_tokens", 1, "tracked_tokens must be >= 2, got 1"),
    ],
)
def test_settings_outside_their_range(option, value, said):
    with pytest.raises(ValueError, match=said):
        DecodingSettings(**{option: value})


def test_settings_are_exact_decimals():
    assert DecodingSettings(eta=0.1).exact_eta == Fraction(1, 10)
    assert DecodingSettings(eta=0.1).to_dict()["eta"] == "0.1"
    assert DecodingSettings(numerical_margin="0").margin == 0
    assert DecodingSettings(numerical_margin="0.000001").margin == 1_099_512
    with pytest.raises(TypeError, match="max_tokens must be an integer"):
        DecodingSettings(max_tokens=2.5)


def test_session_and_list_must_match():
    session = Session(lambda prefix: [A], [0.0])
    with pytest.raises(ValueError, match="one row a passage"):
        IsolatedSources(session, PassageList(("x", "y"), (False, False), 2), settings())
    with pytest.raises(ValueError, match="top_k must be at most 1000"):
        IsolatedSources(session, PassageList(("x",), (False,), 1001), settings())
    flat = Session(lambda prefix: A, [0.0])
    with pytest.raises(ValueError, match=r"must return shape \(1, vocabulary\)"):
        decode(from_session(flat))


def test_a_row_that_raises_counts_as_hostile_and_takes_no_other_along():
    from robust_components import RobustRAGGenerator
    from robust_components.models.testing import TableTokenModel, TableTokenSession

    class Fragile(TableTokenModel):
        def open(self, query, passages):
            return FragileSession(self, list(passages))

    class FragileSession(TableTokenSession):
        def next_probabilities(self, prefix, rows):
            if any(self._passages[row] == "bad" for row in rows):
                raise RuntimeError("boom")
            return super().next_probabilities(prefix, rows)

    model = Fragile({("p", ()): {"a": 1.0}})
    result = RobustRAGGenerator(model, "decoding").run("q", ["bad", "p", "p", "p", "p"])
    assert result.answer == "a"
    assert result.passages[0].failure == "RuntimeError: boom"
    assert result.certificate.radius == 2
    assert "counting the 1 that failed" in result.certificate.claim
    assert result.certificate.verify()


def test_blank_passages_abstain_and_lone_surrogates_are_replaced():
    from robust_components import RobustRAGGenerator
    from robust_components.models.testing import TableTokenModel

    model = TableTokenModel({("a ?", ()): {"a": 1.0}})
    result = RobustRAGGenerator(model, "decoding").run("q", ["", "  ", "a \ud800"])
    assert result.answer == "a"
    assert [passage.abstained for passage in result.passages] == [True, True, False]
