"""Odd probes and settings: refused before anything is done, or taken for what they are."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from robust_components.attacks import QueryStuffing
from robust_components.repair import repairing
from robust_components.repair.guard import Limits, Measuring
from robust_components.repair.patch import Patch
from robust_components.repair.perturb import Perturbation
from robust_components.repair.probes import Probe, read_probes, write_probes
from robust_components.repair.repairing import divide, repair
from tests.repair.test_repair import LOOSE, STEPS, bits, same
from tests.repair.toy import toy_probes


@pytest.mark.parametrize("text", ["a\u2028b", "a\x85b", "a\rb", "a\x0bb", "a\ud800b", "\x00", ""])
def test_probes_of_any_text_survive_a_file(text, tmp_path):
    path = tmp_path / "probes.jsonl"
    probes = [Probe("q", (text, "b"), 0, f"{text} c"), Probe(text, ("b",), 0, "c")]
    write_probes(path, probes)
    assert read_probes(path) == probes


def test_signs_that_end_lines_elsewhere_end_none_here(tmp_path):
    path = tmp_path / "probes.jsonl"
    path.write_text(
        '{"query": "q", "document": "a\u2028b\x85", "adversarial": "e"}\r\n', encoding="utf-8"
    )
    assert read_probes(path) == [Probe("q", ("a\u2028b\x85",), 0, "e")]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (("q", "abc", 0, "x"), TypeError),
        (("q", {"d": 1}, 0, "x"), TypeError),
        (("q", [None], 0, "x"), TypeError),
        ((None, ["a"], 0, "x"), TypeError),
        (("q", ["a"], 0, None), TypeError),
        (("q", ["a"], 0, "x", ["attack"]), TypeError),
        (("q", ["a"], 0.0, "x"), TypeError),
        (("q", ["a"], "0", "x"), TypeError),
        (("q", ["a", "b"], True, "x"), TypeError),
        (("q", ["a"], 1, "x"), ValueError),
        (("q", ["a"], -1, "x"), ValueError),
        (("q", [], 0, "x"), ValueError),
        (("q", ["a"], 0, "x", "k", [0.5]), TypeError),
        (("q", ["a", "b"], 0, "x", "k", [True]), TypeError),
        (("q", ["a"], 0, "x", "k", [1]), ValueError),
        (("q", ["a"], 0, "x", "k", 0), TypeError),
    ],
)
def test_what_is_no_probe_is_refused(given, error):
    with pytest.raises(error):
        Probe(*given)


def test_numbers_of_numpy_become_plain_ones():
    probe = Probe("q", ["a", "b"], np.int64(1), "x", "k", np.array([0]))
    assert (type(probe.target), type(probe.relevant[0])) == (int, int)
    settings = Perturbation(
        step=np.float32(0.5), anchor=np.int64(2), sample=np.int64(3), seed=np.int64(4)
    )
    limits = Limits(kendall_tau=np.float32(0.5), drift=np.int64(2))
    assert json.loads(json.dumps(dataclasses.asdict(settings)))["anchor"] == 2
    assert json.loads(json.dumps(dataclasses.asdict(limits)))["drift"] == 2


@pytest.mark.parametrize("name", ["step", "anchor", "margin", "strength"])
@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), -1, [1], 10**400])
def test_no_number_is_no_setting(name, value):
    with pytest.raises(ValueError, match=rf"{name} must be .*got .*; "):
        Perturbation(**{name: value})


@pytest.mark.parametrize("value", [True, "1", float("nan"), None, [1]])
def test_limits_must_be_numbers(value):
    with pytest.raises(ValueError, match=r"drift must be in \[0, inf\].*see Limits"):
        Limits(drift=value)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"seed": None}, TypeError, "seed must be an integer"),
        ({"seed": "1"}, TypeError, "seed must be an integer"),
        ({"seed": -1}, ValueError, "seed must be >= 0"),
        ({"held_out": "0.2"}, ValueError, "held_out must be in"),
        ({"held_out": None}, ValueError, "held_out must be in"),
        ({"trade_off": "1"}, ValueError, "trade_off must be in"),
        ({"trade_off": True}, ValueError, "trade_off must be in"),
        ({"perturbation": {"step": 1e-3}}, TypeError, "of type Perturbation"),
        ({"limits": {"drift": 1}}, TypeError, "of type Limits"),
        ({"attacks": ["query stuffing"]}, TypeError, "of type Attack"),
        ({"unseen": [3]}, TypeError, "must hold Probes, got 3"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_done(
    options, error, said, make_scorer, monkeypatch
):
    probes = [Probe(f"q{i}", ("the man", "a river"), 0, "man") for i in range(9)]
    monkeypatch.setattr(repairing, "scan", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(error, match=said):
        repair(make_scorer(), probes, neurons=4, **options)


def test_only_probes_are_taken(make_scorer):
    with pytest.raises(TypeError, match=r"must hold Probes, got \{'query'"):
        repair(make_scorer(), [{"query": "q"}] * 9, neurons=4)


def test_numpy_settings_and_an_iterator_of_probes_make_a_patch_that_is_kept(make_scorer, tmp_path):
    scorer = make_scorer()
    probes = toy_probes(scorer)
    settings = dataclasses.replace(STEPS, seed=np.int64(1), anchor=np.float32(1))
    patch = repair(
        scorer, iter(probes), neurons=np.int64(24), perturbation=settings, limits=LOOSE,
        held_out=np.float32(0.25), trade_off=np.float32(0.75), seed=np.int64(1),
    )  # fmt: skip
    patch.save(tmp_path / "patch")
    assert Patch.load(tmp_path / "patch").digest == patch.digest


def test_attacks_that_only_lose_leave_nothing_to_repair(make_scorer):
    scorer = make_scorer()
    losing = []
    for probe in toy_probes(scorer):
        documents = list(probe.documents)
        documents[probe.target] = probe.adversarial
        losing.append(Probe(probe.query, documents, probe.target, probe.documents[probe.target]))
    before = bits(scorer.network)
    with pytest.raises(ValueError, match=r"none of 2 held-out attacks.*nothing to repair"):
        repair(scorer, losing, neurons=8, perturbation=STEPS, limits=LOOSE)
    assert same(scorer.network, before)


def test_probes_that_were_used_are_not_called_unseen(make_scorer):
    scorer = make_scorer()
    probes, others = toy_probes(scorer), toy_probes(scorer, 4, seed=7)
    with pytest.raises(ValueError, match=r"all 12 unseen attacks are among the probes"):
        repair(scorer, probes, neurons=24, unseen=probes)
    with pytest.warns(UserWarning, match=r"2 of 6 unseen attacks are among the probes"):
        patch = repair(
            scorer, probes, neurons=24, perturbation=STEPS, limits=LOOSE, seed=1,
            unseen=[*others, *probes[:2]],
        )  # fmt: skip
    assert patch.figures["unseen"]["before"] == Measuring(scorer, others).measured().to_dict()


def test_the_adaptive_attack_is_compared_with_itself_on_the_ranker_as_it_was(make_scorer):
    scorer = make_scorer()
    probes, attack = toy_probes(scorer), QueryStuffing(1)
    _, held = divide(probes, 0.2, 1)
    plain = [attack.attack(p.query, p.documents, p.target, scorer) for p in held]
    patch = repair(
        scorer, probes, neurons=24, perturbation=STEPS, limits=LOOSE, seed=1, attacks=[attack]
    )
    stated = patch.figures["adaptive"]["before"]
    assert stated["succeeded"] == sum(one.succeeded for one in plain)
    gains = [one.score_after - one.score_before for one in plain]
    assert stated["gain"] == pytest.approx(np.mean(gains), abs=1e-5)


def test_gradients_a_model_holds_outlast_a_repair(make_scorer):
    scorer = make_scorer()
    held = next(scorer.network.parameters())
    held.grad = torch.ones_like(held)
    steps = dataclasses.replace(STEPS, objective="scores", step=1e-3, rounds=1, steps=3)
    with contextlib.suppress(repairing.RepairRolledBackError):  # what matters is what stays
        repair(scorer, toy_probes(scorer), neurons=24, perturbation=steps, limits=LOOSE, seed=1)
    assert held.grad is not None
    assert bool((held.grad == 1).all())
