"""The two certificates of secure decoding: named regressions, evidence, budgets and failures."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest

from robust_components.models.testing import TableTokenModel
from robust_components.rag.certify_decoding import reachable_answers
from robust_components.rag.certify_decoding_path import RunningCertificate, certify_path
from robust_components.rag.decoding import IsolatedSources, decode, stream
from robust_components.rag.decoding_step import DecodingSettings
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.scenarios import PassageList
from robust_components.threats import PassageInjection, PassageModification

END = "</s>"
INJECTION, MODIFICATION = PassageInjection(1), PassageModification(1)
BOTH = pytest.mark.parametrize("threat", [INJECTION, MODIFICATION])


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
    settings = DecodingSettings(**{"gamma": "0.9", "numerical_margin": "0", **opts})
    return IsolatedSources(model.open("q", names), listed, settings)


def path(sources, threat=MODIFICATION):
    return certify_path(sources, decode(sources), threat=threat)


# -------------------------------------------- counterexamples against the published certificate


@BOTH
def test_first_token_mask_differs(threat):
    """The passages that abstain are left out of every token, the first one like the others.

    Published code applies another mask to the first token when decoding than when certifying.
    """
    good = {(): {"a": 1.0}, ("a",): {"b": 1.0}}
    other = {(): {"x": 1.0}, ("a",): {"x": 1.0}}
    sources = isolated([good] * 4 + [other] * 5, abstain=range(4, 9), top_k=9)
    assert decode(sources).text == "a b"
    found = reachable_answers(sources, threat=threat, exhaustive=True)
    assert found.certified and found.answers == ("a b",)
    most = 3 if threat is INJECTION else 1
    assert path(sources, threat).token_radii == (most, most, most + 1)  # ties end the answer too
    assert reachable_answers(sources, threat=threat, budget=most).certified
    assert not reachable_answers(sources, threat=threat, budget=most + 1).certified


@BOTH
def test_zero_shot_mask_only_in_certification(threat):
    """The no-retrieval token is the same token in decoding and in certification.

    Published code keeps the no-retrieval model from ending the answer only when it certifies.
    """
    split = {"a": 0.5, "b": 0.5}
    sources = isolated([split] * 5, no_retrieval={(): END}, eta="0.6")
    decoding = decode(sources)
    assert decoding.abstained and decoding.steps[0].fell_back
    found = reachable_answers(sources, threat=threat, exhaustive=True)
    assert found.certified and found.answers == ("I don't know",)
    assert path(sources, threat).radius >= 1


def test_all_abstain_branch():
    """When the only passages that respond go, the answer "I don't know" is within reach."""
    sources = isolated([{"a": 1.0}, {"x": 1.0}, {"x": 1.0}], abstain=[1, 2])
    found = reachable_answers(sources, threat=MODIFICATION)
    assert not found.certified
    assert found.answers == ("a", "I don't know")
    last = isolated([{"x": 1.0}, {"a": 1.0}], abstain=[0])
    assert "I don't know" in reachable_answers(last, threat=INJECTION).answers
    assert path(sources).radius == path(last, INJECTION).radius == 0
    nobody = isolated([{"x": 1.0}], abstain=[0])
    found = reachable_answers(nobody, threat=INJECTION, exhaustive=True)
    assert not found.certified and not found.complete
    assert found.answers == ("I don't know",)
    assert path(nobody).radius == 0 and "no source responds" in path(nobody).reason


@pytest.mark.parametrize("word", ["maybe", "Maybe", "I don't know"])
def test_an_answer_that_reads_like_the_abstention_is_another_one(word):
    """An abstention scores 0 whatever it is called, so it must not pass for the answer "maybe"."""
    rows = [{"maybe": 1.0}] * 4 + [{END: 1.0}] * 3
    sources = isolated(rows, abstention=word)
    found = reachable_answers(sources, threat=MODIFICATION, exhaustive=True, normalise=str.lower)
    assert found.complete and not found.certified
    assert found.normalised == ("maybe", None)
    table = {(f"p{i}", ()): row for i, row in enumerate(rows)}
    generator = RobustRAGGenerator(TableTokenModel(table), "decoding", abstention=word)
    passages = [f"p{i}" for i in range(len(rows))]
    certificate = generator.certify("q", passages, MODIFICATION, gold=["maybe"])
    assert certificate.evidence["tau"] == 0.0
    assert generator.reachable("q", passages, MODIFICATION).answers == ("maybe", None)


def test_eta_uses_k_not_J():  # noqa: N802 - J is the paper's name for the responding passages
    """k = 10, eta = .4, one passage responds with a gap of .5: the threshold is .4, not 4."""
    rows = [{"a": 0.75, "b": 0.25}] + [{"b": 1.0}] * 9
    no_retrieval = {(): "c"}
    sources = isolated(rows, abstain=range(1, 10), eta="0.4", no_retrieval=no_retrieval, top_k=11)
    assert decode(sources).text == "a"
    found = reachable_answers(sources, threat=INJECTION, exhaustive=True)
    assert not found.certified
    assert path(sources, INJECTION).radius == 0
    three = [{"a": 1.0}] * 3 + [{"b": 1.0}] * 7
    sources = isolated(three, abstain=range(3, 10), eta="0.4", no_retrieval=no_retrieval, top_k=11)
    found = reachable_answers(sources, threat=INJECTION, exhaustive=True)
    assert found.certified and found.answers == ("a",)  # 3 - 1 > .4 * 4, though not > .4 * 10


@BOTH
def test_new_token_with_zero_sum(threat):
    """An attacker who can outweigh the leader can bring in a token that nobody proposes."""
    sources = isolated([{"a": 0.5, "b": 0.25}, {END: 0.5, "b": 0.25}], top_k=2)
    found = reachable_answers(sources, threat=threat, exhaustive=True)
    assert not found.certified and not found.complete
    assert "every token is reachable" in found.reason


# --------------------------------------------------------------------------- certified budgets


def test_budget_of_a_token_is_that_of_its_lead():
    """Lead 5 - 0: injection needs lead > k', a rewritten source costs twice its vote."""
    row = {(): {"a": 1.0}, ("a",): {"b": 1.0}}
    fragile = {(): {"a": 1.0}, ("a",): {"c": 1.0}}
    no_retrieval = {("a", "b"): "c"}
    sources = isolated([row] * 4 + [fragile], top_k=10, no_retrieval=no_retrieval)
    assert path(sources, INJECTION).token_radii == (4, 2, 4)
    tight = isolated([row] * 4 + [fragile], top_k=5, no_retrieval=no_retrieval)
    assert path(tight).token_radii == (2, 1, 2)
    assert path(tight).radius == 1
    assert path(tight).reason == "token 2, 'b', is certified for no more than 1 hostile source"


def test_injection_ejects_the_lowest_ranked():
    rows = [{"b": 1.0}, {"a": 1.0}, {"a": 1.0}, {"a": 1.0}]
    assert path(isolated(rows, top_k=5), INJECTION).radius == 1
    assert path(isolated(rows, top_k=4), INJECTION).radius == 0
    assert path(isolated(rows[::-1], top_k=4), INJECTION).radius == 1


def test_a_tie_certifies_nothing_unless_ejection_breaks_it():
    rows, options = [{"a": 1.0}, {"b": 1.0}], {"no_retrieval": {(): "a"}, "max_tokens": 1}
    assert decode(isolated(rows, **options)).text == "a"
    assert path(isolated(rows, **options)).radius == 0
    assert path(isolated(rows, top_k=9, **options), INJECTION).radius == 0
    cut = isolated(rows, **options)  # whoever comes in pushes out the second passage
    assert path(cut, INJECTION).radius == 1
    assert reachable_answers(cut, threat=INJECTION).certified


def test_a_lead_of_the_no_retrieval_token_may_be_tied():
    """Lead 2, two newcomers can only tie, and a tie gives the same token."""
    options = {"max_tokens": 1, "top_k": 9}
    same = isolated([{"a": 1.0}] * 2, no_retrieval={(): "a"}, **options)
    other = isolated([{"a": 1.0}] * 2, no_retrieval={(): "b"}, **options)
    assert path(same, INJECTION).radius == 2
    assert path(other, INJECTION).radius == 1
    assert path(same, INJECTION).evidence["steps"][0]["rule"] == "holds"


def test_failed_passages_use_up_the_budget():
    rows = [{"a": 1.0}] * 6
    assert path(isolated(rows)).radius == 2
    one_failed = isolated(rows, failed=[True] + [False] * 5)
    assert decode(one_failed).text == "a"
    assert path(one_failed).radius == 2  # 5 - 1 > 0: the failed one, and one more of the others
    assert not reachable_answers(one_failed, threat=MODIFICATION, budget=3).certified
    two_failed = isolated(rows, failed=[True, True] + [False] * 4)
    assert "2 sources failed" in reachable_answers(two_failed, threat=MODIFICATION, budget=1).reason
    assert path(two_failed).radius == 2


def test_sources_are_the_budget_and_slots_are_freed():
    """Two of six slots belong to one source: without it, two unknown sources may vote."""
    rows = [{"a": 1.0}] * 6
    names = ["x", "x", "c", "d", "e", "f"]
    assert path(isolated(rows, sources=names)).radius == 1
    assert path(isolated(rows[:5], sources=names[:5])).radius == 1
    assert path(isolated(rows[:4], sources=names[:4])).radius == 0


def test_a_lead_within_the_margin_is_not_certified():
    """Four sources lead by 1 and 2**-20 after the worst removal; a margin above that refuses."""
    rows = [{"a": 1.0}] * 2 + [{"a": 2.0**-20}]
    for margin, radius in (("0", 1), ("0.0000005", 1), ("0.000001", 0)):
        sources = isolated(rows, top_k=9, numerical_margin=margin, max_tokens=1)
        assert path(sources, PassageInjection(2)).radius == 1 + radius
        found = reachable_answers(sources, threat=PassageInjection(2), exhaustive=True)
        assert found.certified == (radius == 1)


def test_an_abstention_within_the_margin_of_gamma_is_hostile():
    model = TableTokenModel({(f"p{i}", ()): {"a": 1.0} for i in range(3)}, abstain={"p0": 0.9})
    listed = PassageList(("p0", "p1", "p2"), (False,) * 3, 3)
    session = model.open("q", ["p0", "p1", "p2"])
    strict = IsolatedSources(session, listed, DecodingSettings(gamma="0.9"))
    assert strict.passages.failed == (True, False, False)
    exact = DecodingSettings(gamma="0.9", numerical_margin="0")
    assert IsolatedSources(session, listed, exact).passages.failed == (False, False, False)


# ------------------------------------------------------------------------------- model calls


def test_the_path_certificate_asks_the_model_nothing():
    row = {(): {"a": 1.0}, ("a",): {"b": 1.0}}
    sources = isolated([row] * 5)
    decoding = decode(sources)
    asked = sources.model_rows
    assert asked == 15
    assert certify_path(sources, decoding, threat=MODIFICATION).radius == 2
    assert sources.model_rows == asked
    found = reachable_answers(sources, threat=MODIFICATION)
    assert found.certified and found.model_rows == 0


def test_tokens_are_certified_while_they_are_streamed():
    row = {(): {"a": 1.0}, ("a",): {"b": 1.0}}
    sources = isolated([row] * 5)
    running = RunningCertificate(sources, MODIFICATION)
    streamed = [running.add(step) for step in stream(sources)]
    assert [(step.token, step.radius) for step in streamed] == [("a", 2), ("b", 2), (END, 2)]
    assert running.path(("a", " b", "")) == path(sources)


def test_search_certifies_more_than_the_path():
    """Either token may come first, and both lead to one answer after a normaliser."""
    rows = [{(): {"The": 0.5, "the": 0.5}, ("The",): {"a": 1.0}, ("the",): {"a": 1.0}}] * 6
    sources = isolated(rows, no_retrieval={(): "the"})
    decoding = decode(sources)
    assert decoding.text == "the a"
    assert certify_path(sources, decoding, threat=MODIFICATION).radius == 0
    certified = [
        reachable_answers(
            sources, threat=MODIFICATION, budget=budget, normalise=str.lower, max_branches=8
        ).certified
        for budget in (1, 2, 3)
    ]
    assert certified == [True, True, False]
    found = reachable_answers(sources, threat=MODIFICATION, exhaustive=True)
    assert set(found.answers) == {"the a", "The a"} and found.complete and not found.certified
    assert json.loads(json.dumps(found.evidence)) == found.evidence


def test_exceeded_budgets_are_reasons():
    rows = [{(): {"a": 0.5, "b": 0.5}, ("a",): {"c": 1.0}, ("b",): {"c": 1.0}}] * 6
    sources = isolated(rows)
    found = reachable_answers(sources, threat=MODIFICATION, max_branches=1, exhaustive=True)
    assert not found.certified and "more than 1 branches; raise max_branches" in found.reason
    found = reachable_answers(sources, threat=MODIFICATION, max_scenarios=5)
    assert not found.certified and "raise max_scenarios" in found.reason
    with pytest.raises(ValueError, match="budget must be >= 1, got 0"):
        reachable_answers(sources, threat=MODIFICATION, budget=0)


def test_a_model_that_changes_its_mind_is_refused():
    sources = isolated([{"a": 1.0}] * 5)
    spellings = itertools.count()
    sources.session.text = lambda tokens: str(next(spellings))
    with pytest.raises(RuntimeError, match="not among the reachable ones"):
        reachable_answers(sources, threat=MODIFICATION, exhaustive=True)


def test_a_row_that_fails_on_a_branch_counts_as_hostile():
    rows = [{"a": 0.75, "b": 0.25}] * 5
    sources = isolated(rows, no_retrieval={(): "b"}, eta="0.4", max_tokens=2)
    session, healthy = sources.session, sources.session.next_probabilities

    def failing_after_b(prefix, rows):
        result = healthy(prefix, rows)
        if session.text(prefix) == "b":
            result[list(rows).index(4)] = np.nan
        return result

    session.next_probabilities = failing_after_b
    assert decode(sources).text == "a"
    found = reachable_answers(sources, threat=MODIFICATION, exhaustive=True)
    assert set(found.answers) == {"a", "b"} and found.complete
    assert sources.passages.failed == (False, False, False, False, True)
    assert found.scenarios == 1  # the failed source is the hostile one


# ------------------------------------------------------------------------------------ evidence


def recomputed(evidence, kind, each=1):
    """The radius of every step from the evidence alone: exact, by enumeration, sharing nothing."""
    scale, eta, margin = evidence["scale"], Fraction(evidence["eta"]), evidence["margin"]
    listed, failed = evidence["sources"], evidence["failed"]
    gone_already = {s for s, bad in zip(listed, failed, strict=True) if bad}
    at = {tuple(voter): i for i, voter in enumerate(evidence["voters"])}
    room = evidence["top_k"] - len(listed)
    joins = kind == "modification" and len(set(listed)) < len(listed)

    def worlds(budget):
        left = budget - len(gone_already)
        if kind == "injection":
            for hostile in range(left + 1):
                for placed in range(hostile, hostile * each + 1):
                    length = min(len(listed), max(0, evidence["top_k"] - placed))
                    still = len(gone_already & set(listed[:length]))
                    yield range(length), min(hostile, evidence["top_k"]) + still
            return
        healthy = sorted(set(listed) - gone_already)
        for count in range(min(left, len(healthy)) + 1):
            for removed in itertools.combinations(healthy, count):
                gone = gone_already | set(removed)
                freed = sum(source in gone for source in listed)
                kept = [i for i, source in enumerate(listed) if source not in gone]
                yield kept, freed + min(left - count, room)

    def voters(kept):
        groups = {}
        for i in kept:
            if evidence["responds"][i] and listed[i] not in gone_already:
                groups.setdefault(listed[i], []).append(i)
        return [at[tuple(group)] for group in groups.values()]

    def stays(step, budget):
        sign = {"wins": 1, "holds": -1}[step["rule"]]
        for kept, newcomers in worlds(budget):
            benign = voters(kept)
            for duel in step["duels"]:
                total = sum(duel[i] for i in benign) - sign * eta * scale * len(benign)
                total -= newcomers * (max(1, 1 + sign * eta) if joins else 1 + sign * eta) * scale
                if total < margin or (total == margin and sign == 1):
                    return False
        return True

    radii = []
    for step in evidence["steps"]:
        first = budget = max(1, len(gone_already))
        while stays(step, budget):
            budget += 1
        radii.append(budget - 1 if budget > first else 0)
    return radii


@pytest.mark.parametrize("kind", ["injection", "modification"])
def test_evidence_is_small_and_enough_to_recompute_every_radius(kind):
    rng = np.random.default_rng(4)
    positive = 0
    for _ in range(250):
        size, each = int(rng.integers(1, 7)), int(rng.integers(1, 3))
        rows = [
            {
                prefix: dict(zip("abc", map(float, rng.dirichlet([3, 0.2, 0.1])), strict=True))
                for prefix in ((), ("a",), ("b",))
            }
            for _ in range(size)
        ]
        sources = isolated(
            rows,
            abstain=[i for i in range(size) if rng.random() < 0.15],
            failed=[bool(rng.random() < 0.1) for _ in range(size)],
            sources=[f"s{rng.integers(size + 2)}" for _ in range(size)],
            no_retrieval={(): "a", ("a",): "b"},
            top_k=size + int(rng.integers(0, 3)),
            eta=str(rng.choice(["0", "0.1", "0.45"])),
            numerical_margin="0.000001",
            max_tokens=2,
        )
        threat = PassageInjection(1, each) if kind == "injection" else MODIFICATION
        certificate = path(sources, threat)
        evidence = json.loads(json.dumps(certificate.evidence))
        assert recomputed(evidence, kind, each) == list(certificate.token_radii)
        assert [step["radius"] for step in evidence["steps"]] == list(certificate.token_radii)
        positive += certificate.radius > 0
    assert positive > 40


def test_few_tracked_tokens_cost_tightness_and_nothing_else():
    rng = np.random.default_rng(9)
    words = [f"w{i}" for i in range(12)]
    weaker = certified = 0
    for lead in np.linspace(0.2, 0.6, 100):
        rows = [
            dict(zip(["a", *words], [lead, *map(float, (1 - lead) * tail)], strict=True))
            for tail in rng.dirichlet(np.full(12, 0.5), size=6)
        ]
        options = {"max_tokens": 1, "no_retrieval": {(): "w1"}}
        full, short = isolated(rows, **options), isolated(rows, tracked_tokens=2, **options)
        assert decode(full).tokens == decode(short).tokens
        assert path(short).radius <= path(full).radius
        weaker += path(short).radius < path(full).radius
        exact = reachable_answers(full, threat=MODIFICATION, exhaustive=True)
        bounded = reachable_answers(short, threat=MODIFICATION, exhaustive=True)
        assert exact.certified or not bounded.certified
        assert not bounded.complete or set(exact.answers) <= set(bounded.answers)
        certified += bounded.certified
    assert weaker > 0 and certified > 0
