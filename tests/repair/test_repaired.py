"""NeuronRepairedRanker ranks with a patched copy and claims no more than was measured."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import robust_components
from robust_components import Certificate, NeuronRepairedRanker, SmoothedRanker
from robust_components.cli import main
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair import wording
from robust_components.repair.patch import Patch, weights_hash
from robust_components.repair.settings import check_source, repair_options
from robust_components.smoothing import BalancedMask
from robust_components.verification import problems
from tests.repair.toy import toy_patch

QUERY = "who is the man"
DOCUMENTS = ["the man a b", "a river c d e", "what city", "the man is true"]


@pytest.fixture(scope="module")
def made(tiny_ranker, tmp_path_factory):
    return toy_patch(tiny_ranker, tmp_path_factory.mktemp("patch"))


@pytest.fixture(scope="module")
def ranker(tiny_ranker, made):
    return NeuronRepairedRanker(load_pair_scorer(tiny_ranker), made[0], top_k=2)


def test_ranks_by_the_repaired_scores_and_leaves_the_model_alone(tiny_ranker, made):
    model = load_pair_scorer(tiny_ranker)
    before, plain = weights_hash(model.network), model.score(QUERY, DOCUMENTS)
    ranker = NeuronRepairedRanker(model, made[0], top_k=2)
    ranking = ranker.rank(QUERY, DOCUMENTS)
    scores = ranker.score(QUERY, DOCUMENTS)
    assert [item.score for item in ranking.items] == sorted(scores, reverse=True)
    assert [scores[item.index] for item in ranking.items] == [i.score for i in ranking.items]
    assert [item.rank for item in ranking.items] == [1, 2, 3, 4]
    assert len(ranking.top) == ranking.k == 2
    assert scores != plain
    assert model.score(QUERY, DOCUMENTS) == plain
    assert weights_hash(model.network) == before == ranker.patch.base
    assert len(ranker.rank(QUERY, DOCUMENTS, top_k=9).top) == 4
    assert ranker.rank(QUERY, []).items == ()


def test_equal_scores_keep_the_order_given(ranker):
    ranking = ranker.rank(QUERY, ["the man", "a river", "the man"])
    alike = [item.index for item in ranking.items if item.index != 1]
    assert alike == [0, 2]


def test_the_certificate_is_empirical_verifies_and_certifies_nothing(ranker):
    certificate = ranker.rank(QUERY, DOCUMENTS).certificate
    assert (certificate.guarantee, certificate.certified, certificate.radius) == (
        *("empirical", False),
        0,
    )
    assert certificate.verify()
    assert certificate.concerns(QUERY, DOCUMENTS)
    assert not certificate.concerns(QUERY, DOCUMENTS[:2])
    figures = ranker.patch.figures["held_out"]
    stated = certificate.evidence["attacks"]["held_out"]
    assert stated["succeeded_after"] == figures["after"]["succeeded"]
    assert f"raised {stated['succeeded_after']} of {stated['lists']} targets" in certificate.claim
    assert "not used to repair it were not measured" in certificate.claim
    assert "proved against none" in str(certificate)
    assert Certificate.from_dict(json.loads(certificate.to_json())).verify()


def reissued(certificate, **changes):
    """The certificate with other content and a digest that fits it."""
    data = {**certificate.to_dict(), **changes}
    data.pop("digest")
    data["assumptions"] = tuple(data["assumptions"])
    return Certificate(**data).to_dict()


def test_a_certificate_that_says_more_than_was_counted_is_refused(ranker):
    certificate = ranker.rank(QUERY, DOCUMENTS).certificate
    evidence = certificate.to_dict()["evidence"]
    counts = evidence["attacks"]["held_out"]
    more = {**evidence, "attacks": {**evidence["attacks"], "held_out": {**counts, "lists": 10**6}}}
    wrong = {
        "not the sentence": {"claim": certificate.claim.replace("raised", "never raised")},
        "not the sentence for": {"evidence": more},
        "certifies nothing": {"certified": True, "radius": 1, "reason": None},
        "prove nothing": {"reason": "Unlucky."},
        "not stated": {"assumptions": []},
        "statement must be 'observed'": {"statement": "pre_attack"},
        "operations are unknown": {"threat": {**certificate.threat, "operations": "all"}},
        "gives no deterministic": {"guarantee": "deterministic"},
        "whole number": {
            "evidence": {
                **evidence,
                "attacks": {
                    **evidence["attacks"],
                    "unseen": {"lists": 1, "succeeded_before": 2, "succeeded_after": 0},
                },
            }
        },
        "no SHA-256": {"evidence": {**evidence, "patch": "none"}},
        "outside its range": {
            "evidence": {**evidence, "clean": {"kendall_tau": "2", "largest_change": "0"}}
        },
        "no number": {
            "evidence": {**evidence, "clean": {"kendall_tau": "x", "largest_change": "0"}}
        },
    }
    for said, changes in wrong.items():
        found = problems(reissued(certificate, **changes))
        assert any(said in one for one in found), (said, found)
    assert problems(reissued(certificate)) == []


def test_sentences_of_component_and_verifier_are_the_same():
    from robust_components.verification import neuron_repair

    assert neuron_repair._KINDS == wording.KINDS
    assert neuron_repair._REASON == wording.REASON
    assert neuron_repair._ASSUMPTIONS == wording.ASSUMPTIONS


def test_the_command_line_verifies_it(ranker, tmp_path, capsys):
    path = tmp_path / "certificate.json"
    path.write_text(ranker.rank(QUERY, DOCUMENTS).certificate.to_json())
    assert main(["verify", str(path)]) == 0
    assert "neuron_repair, not certified, radius 0" in capsys.readouterr().out


def test_can_be_smoothed(ranker):
    ranking = SmoothedRanker(ranker, BalancedMask(3), top_k=1).rank(QUERY, DOCUMENTS)
    assert ranking.certificate.guarantee == "deterministic"
    assert ranking.certificate.verify()
    assert ranker.patch.digest in ranking.certificate.model["fingerprint"]


def test_bad_input_is_refused(tiny_ranker, made, ranker):
    with pytest.raises(ValueError, match="robust-components repair"):
        NeuronRepairedRanker(load_pair_scorer(tiny_ranker))
    with pytest.raises(TypeError, match="TransformersPairScorer"):
        NeuronRepairedRanker(object(), made[0])
    with pytest.raises(ValueError, match="query must not be empty"):
        ranker.rank(" ", DOCUMENTS)
    with pytest.raises(TypeError, match="documents"):
        ranker.rank(QUERY, [3])
    with pytest.raises(ValueError, match="top_k"):
        ranker.rank(QUERY, DOCUMENTS, top_k=0)
    with pytest.raises(ValueError, match="one of patch and probes"):
        check_source(None, None, None)
    with pytest.raises(ValueError, match=r"\['epochs'\] are unknown; known are neurons"):
        check_source(None, "probes.jsonl", {"epochs": 3})
    with pytest.raises(ValueError, match="no effect on a patch"):
        check_source("patch", None, {"neurons": 3})


def test_flat_settings_reach_the_repair(made):
    options = repair_options(made[2])
    assert options["neurons"] == 24
    assert options["perturbation"].objective == "scores"
    assert options["perturbation"].seed == options["seed"] == 1
    assert options["limits"].drift == 1e6


def test_patches_are_small(made):
    patch = Patch.load(made[0])
    assert patch.parameters == 24 * 17


def test_names_are_found_without_torch_and_unknown_ones_are_not():
    from robust_components import repair

    assert robust_components.NeuronRepairedRanker is repair.NeuronRepairedRanker
    for module in (robust_components, repair):
        with pytest.raises(AttributeError, match="nothing"):
            _ = module.nothing
