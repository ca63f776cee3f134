"""Repairs on tiny models: what they change, and that nothing else ever changes."""

from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from robust_components.repair import perturb as perturbing
from robust_components.repair import repairing
from robust_components.repair.guard import Limits, Measuring, objections
from robust_components.repair.neurons import find_layers
from robust_components.repair.patch import Patch, weights_hash
from robust_components.repair.perturb import (
    Perturbation,
    capture,
    perturb,
    read_rows,
    write_rows,
)
from robust_components.repair.probes import Probe, read_probes, write_probes
from robust_components.repair.repairing import RepairRolledBackError, divide, repair
from robust_components.repair.scan import activations, scan
from tests.repair.conftest import KINDS
from tests.repair.test_neurons import hooks
from tests.repair.toy import toy_probes

LOOSE = Limits(kendall_tau=-1.0, mrr_loss=1.0, drift=1e6)
STEPS = Perturbation("activations", step=2e-3, rounds=3, steps=20)


def bits(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(network, before):
    now = network.state_dict()
    return all(torch.equal(now[name], value) for name, value in before.items())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_recomputed_are_the_activations_of_the_network(kind, make_scorer):
    scorer = make_scorer(kind)
    layers = find_layers(scorer.network)
    pairs = [("who is", "the man a b"), ("what", "a river c d e")]
    expected = activations(scorer, layers, pairs)
    chosen = [3, 20, 24, 40]
    inputs = capture(scorer, layers, pairs, "document")
    for place, (layer, read) in enumerate(zip(layers, inputs, strict=True)):
        own = [n % 24 for n in chosen if n // 24 == place]
        if own:
            rows = read_rows([layer], own)
            means = read.means(layer, [(one.weight, one.bias) for one in rows])
            at = [24 * place + n for n in own]
            assert torch.allclose(means, expected[:, at], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_bring_attacked_activations_back(kind, make_scorer):
    """The loss falls, only rows of chosen neurons move, none by more than its steps allow."""
    scorer = make_scorer(kind)
    layers = find_layers(scorer.network)
    probes = toy_probes(scorer, 8)
    clean, attacked = [p.clean_pair for p in probes], [p.adversarial_pair for p in probes]
    chosen = list(range(0, 24 * len(layers), 5))
    targets = activations(scorer, layers, clean)

    def loss():
        gap = activations(scorer, layers, attacked) - targets
        drift = activations(scorer, layers, clean) - targets
        return float((gap[:, chosen] ** 2 + drift[:, chosen] ** 2).sum())

    before, start = bits(scorer.network), loss()
    rows = list(perturb(scorer, layers, chosen, clean, attacked, targets, STEPS))
    assert len(rows) == STEPS.rounds
    assert loss() < start
    touched = {one.name: one.index for one in rows[-1]}
    most = STEPS.step * STEPS.steps * STEPS.rounds * 1.001
    for name, value in scorer.network.state_dict().items():
        moved = (value - before[name]).abs()
        module, _, part = name.rpartition(".")
        if module in touched and part in ("weight", "bias"):
            others = torch.ones(len(value), dtype=torch.bool)
            merged = torch.cat([one.index for one in rows[-1] if one.name == module])
            others[merged] = False
            assert 0 < float(moved[merged].max()) <= most
            assert float(moved[others].max()) == 0 if others.any() else True
        else:
            assert torch.equal(value, before[name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_repair_leaves_the_model_alone_and_its_patch_can_be_taken_out(
    kind, make_scorer, tmp_path
):
    scorer = make_scorer(kind)
    before = bits(scorer.network)
    probes = toy_probes(scorer)
    try:
        patch = repair(scorer, probes, neurons=8, perturbation=STEPS, limits=LOOSE)
    except RepairRolledBackError as error:  # a random model may have nothing to gain
        assert error.figures["held_out"]["before"]["lists"] > 0
        assert same(scorer.network, before)
        return
    assert same(scorer.network, before)
    figures = patch.figures["held_out"]
    assert figures["after"]["gain"] < figures["before"]["gain"]
    patch.save(tmp_path / "patch.safetensors")
    applied = Patch.load(tmp_path / "patch.safetensors").apply(scorer)
    assert not same(scorer.network, before)
    _, held = divide(probes, 0.2, 0)
    assert Measuring(scorer, held).measured().gain == pytest.approx(figures["after"]["gain"])
    applied.revert()
    assert same(scorer.network, before)


def patched(make_scorer, seed=1):
    scorer = make_scorer()
    return scorer, repair(
        scorer, toy_probes(scorer), neurons=24, perturbation=STEPS, limits=LOOSE, seed=seed
    )


def test_the_same_seed_gives_the_same_patch(make_scorer):
    one, two, other = (patched(make_scorer, seed)[1] for seed in (1, 1, 2))

    def weights(patch):
        return torch.cat([rows.weight.flatten() for rows in patch.rows])

    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))
    assert one.base == two.base == weights_hash(make_scorer().network)
    assert one.digest == two.digest != other.digest
    assert dataclasses.replace(one, seconds=one.seconds + 100).digest == one.digest


@pytest.mark.parametrize("place", ["perturb", "Measuring", "scan", "_descend"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_repair_leaves_the_model_as_it_was(place, error, make_scorer, monkeypatch):
    scorer = make_scorer()
    probes = toy_probes(scorer)
    before, held = bits(scorer.network), hooks(scorer.network)
    room = perturbing if place == "_descend" else repairing
    whole, calls = getattr(room, place), []

    def interrupted(*args, **kwargs):
        calls.append(place)
        if place == "perturb":
            for rows in whole(*args, **kwargs):
                yield rows
                raise error("stop")
        elif len(calls) > (1 if place == "Measuring" else 0):
            raise error("stop")

    def stopped(*args, **kwargs):
        calls.append(place)
        if len(calls) > (0 if place == "scan" else 1):
            raise error("stop")
        return whole(*args, **kwargs)

    monkeypatch.setattr(room, place, interrupted if place == "perturb" else stopped)
    with pytest.raises(error, match="stop"):
        repair(scorer, probes, neurons=40, perturbation=STEPS, limits=LOOSE)
    assert calls
    assert same(scorer.network, before)
    assert hooks(scorer.network) == held


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_steps_on_scores_leave_the_model_and_its_flags_alone(error, make_scorer, monkeypatch):
    scorer = make_scorer()
    probes = toy_probes(scorer, 40)
    before = bits(scorer.network)
    flags = [parameter.requires_grad for parameter in scorer.network.parameters()]
    steps = dataclasses.replace(STEPS, objective="scores", step=3e-3, batch=8)
    if error is None:
        patch = repair(scorer, probes, neurons=24, perturbation=steps, limits=LOOSE, seed=1)
        figures = patch.figures["held_out"]
        assert figures["after"]["gain"] < figures["before"]["gain"]
    else:
        whole, calls = repairing.Measuring, []

        def stopped(*args):
            calls.append(args)
            if len(calls) > 1:
                raise error
            return whole(*args)

        monkeypatch.setattr(repairing, "Measuring", stopped)
        with pytest.raises(error):
            repair(scorer, probes, neurons=24, perturbation=steps, limits=LOOSE)
    assert same(scorer.network, before)
    assert [p.requires_grad for p in scorer.network.parameters()] == flags
    assert all(parameter.grad is None for parameter in scorer.network.parameters())


def test_unseen_and_adaptive_figures_are_those_of_the_patched_model(make_scorer):
    from robust_components.attacks import QueryStuffing
    from robust_components.models.memo_scorer import MemoScorer

    scorer = make_scorer()
    probes, unseen = toy_probes(scorer), toy_probes(scorer, 4, seed=7)
    attack = QueryStuffing(1)
    patch = repair(
        scorer, probes, neurons=24, perturbation=STEPS, limits=LOOSE, seed=1, unseen=unseen,
        attacks=[attack],
    )  # fmt: skip
    before = Measuring(scorer, unseen).measured().to_dict()
    _, held = divide(probes, 0.2, 1)

    def succeeded():
        made = [attack.attack(p.query, p.documents, p.target, MemoScorer(scorer)) for p in held]
        return sum(one.succeeded for one in made)

    assert patch.figures["adaptive"]["before"]["succeeded"] == succeeded()
    patch.apply(scorer)
    assert patch.figures["unseen"] == {
        "before": before,
        "after": Measuring(scorer, unseen).measured().to_dict(),
    }
    assert patch.figures["adaptive"]["after"]["succeeded"] == succeeded()


def test_a_repair_that_costs_too_much_is_rolled_back_and_says_so(make_scorer):
    scorer = make_scorer()
    before = bits(scorer.network)
    strict = Limits(kendall_tau=1.0, drift=1e-9)
    with pytest.raises(RepairRolledBackError, match=r"rolled back.*standard deviations") as caught:
        repair(scorer, toy_probes(scorer), neurons=8, perturbation=STEPS, limits=strict)
    assert same(scorer.network, before)
    assert caught.value.figures["clean_drift"]["largest"] > 0


def test_bad_input_is_refused_with_the_value_and_the_next_step(make_scorer):
    scorer = make_scorer()
    probes = toy_probes(scorer)
    with pytest.raises(ValueError, match=r"at most 48.*got 49"):
        repair(scorer, probes, neurons=49)
    with pytest.raises(ValueError, match=r"at least 8 probes.*got 3"):
        repair(scorer, probes[:3], neurons=4)
    idle = [dataclasses.replace(p, adversarial=p.documents[p.target]) for p in probes]
    with pytest.raises(ValueError, match="nothing to repair"):
        repair(scorer, idle, neurons=4)
    with pytest.raises(ValueError, match=r"held_out must be in \(0, 1\), got 1"):
        repair(scorer, probes, neurons=4, held_out=1)
    one_query = [dataclasses.replace(p, query="who") for p in probes]
    with pytest.raises(ValueError, match="1 query cannot be divided"):
        repair(scorer, one_query, neurons=4)
    with pytest.raises(TypeError, match="load_ranker"):
        repair(object(), probes)
    for wrong in ({"step": 0}, {"step": 2}, {"rounds": 0}, {"anchor": -1}, {"pooling": "mean"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Perturbation(**wrong)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype, make_scorer):
    scorer = make_scorer()
    probes = toy_probes(scorer)
    scorer.network.to(dtype)
    with pytest.raises(ValueError, match=r"float16.*vanish.*network\.float\(\)"):
        repair(scorer, probes, neurons=4)


def test_a_patch_for_another_model_is_refused(make_scorer):
    scorer, patch = patched(make_scorer)
    with torch.no_grad():
        scorer.network.classifier.bias += 1e-3
    before = bits(scorer.network)
    with pytest.raises(ValueError, match=r"belongs to cross-encoder.*changed"):
        patch.apply(scorer)
    with pytest.raises(ValueError, match="another model"):
        patch.apply(make_scorer("Electra"))
    assert same(scorer.network, before)


def test_a_patch_is_refused_when_applied_twice(make_scorer):
    scorer, patch = patched(make_scorer)
    applied = patch.apply(scorer)
    with pytest.raises(ValueError, match="changed"):
        patch.apply(scorer)
    applied.revert()
    patch.apply(scorer).revert()


def test_damaged_patches_are_refused(make_scorer, tmp_path):
    _, patch = patched(make_scorer)
    path = tmp_path / "patch.safetensors"
    patch.save(path)
    whole = path.read_bytes()
    assert Patch.load(path).digest == patch.digest
    assert Patch.load(path).seconds == patch.seconds > 0
    for length in (0, 7, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="no patch or was cut short"):
            Patch.load(path)
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    path.write_bytes(bytes(flipped))
    with pytest.raises(ValueError, match="not as it was written"):
        Patch.load(path)
    path.write_bytes(whole.replace(b'\\"neurons\\": 24', b'\\"neurons\\": 25'))
    with pytest.raises(ValueError, match="not as it was written"):
        Patch.load(path)
    path.write_bytes(whole.replace(b"repair", b"repeir", 1))
    with pytest.raises(ValueError, match="no patch of version 2"):
        Patch.load(path)
    with pytest.raises(FileNotFoundError, match="robust-components repair"):
        Patch.load(tmp_path / "none")


def test_rows_are_written_bit_for_bit(make_scorer):
    network = make_scorer().network
    layers = find_layers(network)
    before = bits(network)
    rows = read_rows(layers, [0, 5, 30])
    for one in read_rows(layers, [0, 5, 30]):
        write_rows(network, [dataclasses.replace(one, weight=one.weight + 1)])
    assert not same(network, before)
    write_rows(network, rows)
    assert same(network, before)


def test_scan_is_the_mean_over_probes_one_by_one(make_scorer):
    scorer = make_scorer()
    probes = toy_probes(scorer, 8)
    told = []
    whole = scan(scorer, probes, progress=lambda done, of: told.append((done, of)))
    alone = [scan(scorer, [probe]) for probe in probes]
    for at, one in enumerate(alone):
        assert whole.behaviour[:, at] == pytest.approx(one.behaviour[:, 0], abs=1e-5)
    assert whole.vulnerability == pytest.approx(whole.behaviour.mean(axis=1), abs=1e-6)
    assert told == [(8, 8)]


def test_probes_survive_a_file_and_bad_lines_are_named(make_scorer, tmp_path):
    probes = toy_probes(make_scorer(), 8)
    path = tmp_path / "probes.jsonl"
    write_probes(path, probes)
    assert read_probes(path) == probes
    path.write_text('{"query": "q", "document": "d", "adversarial": "e"}\n\n')
    assert read_probes(path) == [Probe("q", ("d",), 0, "e")]
    for line in (
        "[1]",
        "{",
        '{"query": "q"}',
        '{"query": "q", "documents": ["d"], "target": 1, "adversarial": "e"}',
        '{"query": "q", "document": 3, "adversarial": "e"}',
    ):
        path.write_text('{"query": "q", "document": "d", "adversarial": "e"}\n' + line + "\n")
        with pytest.raises(ValueError, match="line 2"):
            read_probes(path)


def test_queries_are_not_divided(make_scorer):
    probes = toy_probes(make_scorer(), 8)
    fit, held = divide(probes + probes, 0.25, 0)
    assert len(fit) + len(held) == 16
    assert not {p.query for p in fit} & {p.query for p in held}


@pytest.mark.parametrize(
    "limits",
    [
        {"kendall_tau": float("nan")},
        {"kendall_tau": 1.5},
        {"mrr_loss": -0.1},
        {"drift": float("nan")},
        {"drift": "1"},
    ],
)
def test_limits_outside_their_ranges_are_refused(limits):
    with pytest.raises(ValueError, match=r"must be in \[.*got .*; see Limits"):
        Limits(**limits)


@pytest.mark.parametrize("score", [float("nan"), 0.5])
def test_a_ranker_that_ranks_no_more_is_objected_to(score):
    class Table:
        def __init__(self, value):
            self.value = value

        def score(self, query, documents):
            if self.value is not None:
                return [self.value] * len(documents)
            return [float(len(document)) for document in documents]

    probes = [Probe("q", ("a", "bb", "ccc"), 0, "aaaa", "longer", (2,))]
    first, now = Measuring(Table(None), probes), Measuring(Table(score), probes)
    assert objections(first.measured(), now.measured(), first.drift(now), Limits())
