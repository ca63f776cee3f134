"""What a voting result says, besides what is certified (see tests/soundness)."""

from __future__ import annotations

import asyncio
import json

import pytest

from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.threats import PassageInjection, PassageModification


def make(**options):
    reader = KeywordReader(lambda query, text: None if text == "-" else text)
    return RobustRAGGenerator(reader, **options)


def test_the_majority_wins_as_its_first_supporter_wrote_it():
    result = make().run("q", ["Lyon", "paris", "Paris!", "-"])
    assert result.answer == "paris"
    assert not result.abstained
    assert [passage.vote for passage in result.passages] == ["lyon", "paris", "paris", None]
    assert [passage.supports for passage in result.passages] == [False, True, True, None]


def test_ties_go_to_the_better_rank():
    assert make().run("q", ["b", "a"]).answer == "b"
    assert make().run("q", ["-", "a", "b", "b", "a"]).answer == "a"


def test_supporting_and_opposing_passages_and_sources():
    passages = [Passage("a", "s0"), Passage("b", "s1"), Passage("a", "s2"), Passage("a", "s2")]
    result = make().run("q", passages)
    assert [passage.source for passage in result.supporting()] == ["s0", "s2", "s2"]
    assert [passage.source for passage in result.opposing()] == ["s1"]
    assert result.sources() == ("s0", "s2")


def test_closed_choices_leave_other_answers_out():
    result = make(choices=["Yes", "No"]).run("q", ["maybe", "maybe", "yes."])
    assert result.answer == "yes."
    assert result.certificate.evidence["votes"] == {"yes": 1}
    assert result.passages[0].answer == "maybe"
    assert result.passages[0].supports is None


@pytest.mark.parametrize("agreeing, radius", [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (9, 4)])
def test_observed_radius_of_unanimous_sources(agreeing, radius):
    result = make(corruption_size=2).run("q", ["a"] * agreeing)
    assert result.certificate.radius == radius
    assert result.certificate.certified == (radius >= 2)
    assert result.certificate.statement == "observed"
    assert result.certificate.guarantee == "deterministic"


def test_abstaining_sources_cost_less_than_opposing_ones():
    assert make().run("q", ["a", "a", "a", "-"]).certificate.radius == 1
    assert make().run("q", ["a", "a", "a", "b"]).certificate.radius == 0


def test_honest_support():
    evidence = make().run("q", ["a"] * 5).certificate.evidence
    assert evidence["honest_support"] == 3
    assert make(corruption_size=9).run("q", ["a"] * 5).certificate.evidence["honest_support"] == 0


def test_the_reason_names_the_votes():
    reason = make().run("q", ["a", "a", "b"]).certificate.reason
    assert "2 sources say 'a'" in reason
    assert "1 says 'b'" in reason
    assert make().run("q", ["a"] * 3).certificate.reason is None


def test_statements_and_threats_are_named():
    live = make().run("q", ["a"] * 3).certificate
    assert live.threat == {"kind": "passage_modification", "budget": 1, "scope": "sources"}
    threat = PassageInjection(2, passages_per_source=3)
    injected = make(top_k=4).certify("q", ["a"] * 4, threat)
    assert injected.statement == "pre_attack"
    assert injected.threat == threat.to_dict()
    assert any("at most 3 passages" in sentence for sentence in injected.assumptions)
    assert any("cuts at 4" in sentence for sentence in injected.assumptions)
    assert any("are clean" in sentence for sentence in injected.assumptions)
    assert make().certify("q", ["a"] * 3).threat == PassageInjection(1).to_dict()


def test_the_radius_does_not_depend_on_the_budget_asked_for():
    for threat in (PassageInjection, PassageModification):
        radii = {make().certify("q", ["a"] * 5 + ["b"], threat(k)).radius for k in (1, 2, 3, 9)}
        assert len(radii) == 1


def test_asynchronous_runs_agree():
    passages = ["a", "a", "b", "-", "a"]
    one, other = make().run("q", passages), asyncio.run(make().run_async("q", passages))
    assert one.passages == other.passages
    assert one.certificate.evidence == other.certificate.evidence
    assert one.certificate.radius == other.certificate.radius


def test_results_are_plain_data():
    result = make().run("q", ["a", "a", "b"])
    data = json.loads(json.dumps(result.to_dict()))
    assert data["answer"] == "a"
    assert data["certificate"]["evidence"]["votes"] == {"a": 2, "b": 1}
    assert len(data["passages"]) == 3


def test_each_passage_is_read_once():
    reader = KeywordReader(lambda query, text: text)
    result = RobustRAGGenerator(reader).run("q", ["a", "b", "c"])
    assert reader.calls == 3
    assert result.certificate.cost["model_passes"] == 3
