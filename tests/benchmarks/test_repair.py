"""The repair benchmark measures what it says, on tiny random rankers and made-up questions."""

from __future__ import annotations

import copy
import json
import random

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tqdm")

import torch

from benchmarks import repair, repair_attacks, repair_baselines, repair_methods
from benchmarks.repair_data import CHUNK, chunk_lists, targets_of
from robust_components.models.pair_models import load_pair_scorer
from robust_components.models.testing import TableScorer
from robust_components.repair.neurons import find_layers
from robust_components.repair.probes import Probe
from robust_components.repair.repaired import copied
from tests.conftest import WORDS
from tests.repair.toy import toy_probes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Questions about paragraphs of 70 words."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("train", "dev"):
        rng = random.Random(name)
        lines = []
        for number in range(16):
            words = rng.choices(WORDS, k=70)
            words[10] = f"answer{number}"
            row = {
                "id": f"{name}{number}",
                "title": "t",
                "context": " ".join(words),
                "question": " ".join(words[8:12]),
                "answers": [f"answer{number}"],
            }
            lines.append(json.dumps(row))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def test_lists_are_of_chunks_and_hold_the_answer(data):
    lists = chunk_lists(data / "dev.jsonl", 5, 6, 0)
    assert len(lists) == 6
    for item in lists:
        assert len(item.documents) == len(set(item.ids)) == 5
        assert all(len(text.split()) <= CHUNK + CHUNK // 3 for text in item.documents)
        place = item.ids.index(next(iter(item.relevant.keys() & set(item.ids))))
        assert item.query.split()[2] in item.documents[place]
    assert [i.query for i in lists] == [i.query for i in chunk_lists(data / "dev.jsonl", 5, 6, 0)]
    assert [i.query for i in lists] != [i.query for i in chunk_lists(data / "dev.jsonl", 5, 6, 1)]


def test_targets_are_one_of_each_ten_ranks_and_not_relevant(data):
    (item,) = chunk_lists(data / "dev.jsonl", 30, 1, 0)
    order = list(reversed(range(30)))
    right = item.ids.index(next(iter(item.relevant.keys() & set(item.ids))))
    for seed in range(20):
        targets = targets_of(item, order, 3, seed)
        ranks = [order.index(target) + 1 for target in targets]
        assert [(rank - 4) // 9 for rank in ranks] == [0, 1, 2]
        assert right not in targets
    assert targets_of(item, order, 3, 5) == targets_of(item, order, 3, 5)


def test_figures_of_one_attacked_list_by_hand():
    scores = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0, "c!": 5.0, "d!": 1.5}
    scorer = TableScorer(lambda query, text: scores[text])
    probes = [
        Probe("q", ("a", "b", "c", "d"), 2, "c!", "substitution", (0,)),
        Probe("q", ("a", "b", "c", "d"), 3, "d!", "query_stuffing", (0,)),
        Probe("q", ("a", "b", "c", "d"), 3, "d!", "query_words", (0,)),
    ]
    found = repair_attacks.measured(scorer, probes)
    assert found["cmrr"] == 1.0
    assert found["substitution"] == {
        **{"targets": 1, "asr": 1.0, "boost": 2.0, "rmrr": 0.5, "gain": 3.0},
        **{"lsd": 6 / 4, "lsd_normalised": 6 / 4 / 5},
    }
    other = found["query_words"]
    assert (other["asr"], other["rmrr"], other["gain"]) == (0, 1.0, 0.5)
    assert (found["seen"]["asr"], found["seen"]["gain"]) == (0.5, 1.75)
    assert found["unseen"]["asr"] == 0


@pytest.mark.parametrize("method", repair_methods.METHODS)
def test_every_method_changes_what_it_says_and_no_more(method, tiny_ranker):
    plain = load_pair_scorer(tiny_ranker, logits=True)
    options = repair.parse(["--data", "x", "--steps", "2", "--training-steps", "2"])
    probes = toy_probes(plain, 8)
    before = {name: value.clone() for name, value in plain.network.state_dict().items()}
    methods = repair_methods.Methods(options, plain, probes, 0)
    scorer = copied(plain)
    touched = methods.apply(scorer, method, 12, 0.7)
    moved = sum(
        int((value != before[name]).sum()) for name, value in scorer.network.state_dict().items()
    )
    assert moved <= touched
    assert (moved == 0) == (method == "none")
    if method in ("repair", "repair_scores", "top_k", "random_k"):
        assert touched == 12 * 17
    assert all(torch.equal(v, before[n]) for n, v in plain.network.state_dict().items())


def test_training_lowers_its_loss(tiny_ranker):
    scorer = load_pair_scorer(tiny_ranker, logits=True)
    probes = toy_probes(scorer, 8)
    losses = (
        repair_baselines.adversarial_training,
        repair_baselines.perturbation_invariant,
        repair_baselines.stabilisation([0, 3, 5]),
    )
    for loss in losses:
        one = copied(scorer)
        before = float(loss(one, probes, random.Random(0)))
        repair_baselines.train(one, probes, loss, steps=40, seed=0)
        assert float(loss(one, probes, random.Random(0))) < before


def test_masked_neurons_are_never_read(tiny_ranker):
    scorer = load_pair_scorer(tiny_ranker, logits=True)
    layers = find_layers(scorer.network)
    repair_baselines.mask_out(scorer, [0, 33])
    first = scorer.score("who", ["the man"])
    with torch.no_grad():
        layers[0].rows[0].linear.bias[0] += 7.0
        layers[1].rows[0].linear.bias[1] += 7.0
    assert scorer.score("who", ["the man"]) == first


def test_weights_between_two_rankers(tiny_ranker):
    plain = load_pair_scorer(tiny_ranker, logits=True)
    other = copied(plain)
    methods = repair_methods.Methods(repair.parse(["--data", "x"]), plain, toy_probes(plain, 8), 0)
    methods.apply(other, "mask_out", 3, 0.7)
    pairs = ("who", ["the man", "a river"])
    assert repair.between(plain, other, 0.0).score(*pairs) == plain.score(*pairs)
    whole = repair.between(plain, other, 1.0).score(*pairs)
    assert whole == pytest.approx(other.score(*pairs))
    assert whole != pytest.approx(plain.score(*pairs))
    half = repair.between(plain, other, 0.5).network.state_dict()
    ends = plain.network.state_dict(), other.network.state_dict()
    assert all(torch.allclose(2 * half[name], ends[0][name] + ends[1][name]) for name in half)


@pytest.mark.slow
def test_a_small_run_writes_its_table_and_plots(data, tiny_ranker, tmp_path):
    arguments = ["--data", str(data), "--ranker", tiny_ranker, "--cache", str(tmp_path / "cache")]
    arguments += ["--probes", "10", "--probe-candidates", "4", "--lists", "4", "--candidates", "8"]
    arguments += ["--targets", "2", "--adaptive", "2", "--neurons", "8", "--steps", "2"]
    arguments += ["--training-steps", "2", "--sweep-neurons", "4", "16", "64"]
    figures = {}
    for seed, sweep in ((0, ["--sweep", "0"]), (1, [])):
        options = repair.parse([*arguments, "--seeds", str(seed), *sweep])
        written = []
        figures[seed] = repair.run(options, lambda f, w=written: w.append(copy.deepcopy(f)))
        assert len(written) == len(repair_methods.METHODS) + (5 if sweep else 0) + 1
        (tmp_path / f"{seed}.json").write_text(json.dumps({"figures": figures[seed]}))
    known = ["--known", *(str(tmp_path / f"{seed}.json") for seed in (0, 1))]
    both = repair.run(repair.parse([*arguments, "--seeds", "0", "1", *known]), lambda f: None)
    assert both["by_seed"] == {**figures[0]["by_seed"], **figures[1]["by_seed"]}
    row = both["table"]["repair"]
    assert row["seeds"] == 2
    assert row["seen_asr"]["spread"] is not None
    assert {"adaptive_asr", "unseen_asr", "seen_lsd", "seen_lsd_normalised"} <= row.keys()
    with pytest.raises(ValueError, match="was made with"):
        repair.run(repair.parse([*arguments, "--neurons", "9", *known]), lambda f: None)
    pytest.importorskip("matplotlib")
    from benchmarks.repair_plots import sweep as plotted

    own = {"K": 8, "lambda": 0.7, "strength": 0.75}
    plotted(both["table"], own, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 1000


def test_a_t5_shaped_ranker_is_trained_and_can_be_repaired(data, bert_tokenizer, tmp_path):
    from benchmarks import repair_t5

    arguments = ["--data", str(data), "--output", str(tmp_path), "--layers", "1", "--lr", "3e-3"]
    options = repair_t5.parse([*arguments, "--feed-forward", "24", "--steps", "40"])
    table = torch.randn(len(bert_tokenizer), 24, generator=torch.Generator().manual_seed(0))
    scorer = repair_t5.fresh_scorer(bert_tokenizer, table, options)
    losses = repair_t5.train(scorer, chunk_lists(data / "train.jsonl", 4, 8, 0), options)
    assert sum(losses[-5:]) < sum(losses[:5])
    scorer.network.save_pretrained(tmp_path)
    scorer.tokenizer.save_pretrained(tmp_path)
    loaded = load_pair_scorer(str(tmp_path), logits=True)
    assert loaded.writes
    assert [layer.single for layer in find_layers(loaded.network)] == [False, True]
    assert loaded.score("who", ["the man"]) == pytest.approx(scorer.score("who", ["the man"]))
