"""The classification benchmark on small made-up data, and that it fails when it must."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from benchmarks import classification
from benchmarks.classification_attacks import Campaign, MeanJudge, PlainJudge, Remembered
from benchmarks.classification_data import (
    Labelled,
    Pair,
    read_pairs,
    read_solutions,
    read_synonyms,
    read_texts,
)
from benchmarks.classification_figures import Said, summary
from benchmarks.classification_rules import RULES, cert_ed, ranmask, self_denoise
from robust_components.classification import CluCertClassifier
from robust_components.models.testing import TableProbabilities
from robust_components.smoothing import BalancedMask

WORDS = [
    "the",
    "film",
    "of",
    "a",
    "man",
    "in",
    "the",
    "city",
    "with",
    "some",
    "music",
    "at",
    "night",
]


def lean(text):
    good, bad = text.split().count("good"), text.split().count("bad")
    share = (good + 0.5) / (good + bad + 1)
    return {"positive": share, "negative": 1 - share}


class Topics(TableProbabilities):
    def __init__(self):
        super().__init__(self.judge, ("World", "Sports", "Business", "Sci/Tech"))

    @staticmethod
    def judge(text):
        sports = 0.7 if "goal" in text.split() else 0.1
        return {"World": 1 - sports - 0.1, "Sports": sports, "Business": 0.05, "Sci/Tech": 0.05}


class Flat:
    """Embeds every text alike but for its length."""

    name = "flat"

    def encode(self, texts):
        return np.array([[1.0, len(text) / 1000] for text in texts])


def load(name):
    if name == "topic":
        return Topics()
    return TableProbabilities(lean, ("negative", "positive"))


@pytest.fixture
def folder(tmp_path):
    for name in ("sst2", "agnews", "gsm8k", "adversarial_pairs", "counterfitted_neighbors"):
        (tmp_path / name).mkdir()
    sentences = []
    for i in range(6):
        word = "bad" if i % 2 else "good"
        sentences.append(f"{' '.join([word, *WORDS[i:], word])}\t{1 - i % 2}")
    (tmp_path / "sst2/dev.txt").write_text("\n".join(sentences) + "\n")
    news = ['2,Late goal,"A goal, and another goal"', '1,Summit,"Talks in the city"']
    (tmp_path / "agnews/test_1000.csv").write_text("\n".join(news) + "\n")
    rows = ["original,perturbed,True", "a good film,a bad film,1", "a good film,a b ad film,1"]
    (tmp_path / "adversarial_pairs/textbugger_textattack-roberta-base-SST-2_sst2.csv").write_text(
        "# comment\n# another\n" + "\n".join(rows) + "\n"
    )
    (tmp_path / "counterfitted_neighbors/counterfitted_neighbors.json").write_text(
        json.dumps({"good": ["bad", "well made", "fine"]})
    )
    solution = {
        "question": "How many?",
        "ground_truth": "A: 4",
        "small": {"solution": "2 + 2 = 4\nA: 4.0", "is_correct": True},
        "large": {"solution": "A: 5", "is_correct": False},
    }
    (tmp_path / "gsm8k/example_model_solutions.jsonl").write_text(json.dumps(solution) + "\n")
    return tmp_path


def test_readers(folder):
    texts = read_texts("sst2", folder, seed=1)
    assert len(texts) == 6
    assert {item.label for item in texts} == {"negative", "positive"}
    assert texts != read_texts("sst2", folder, seed=2)
    news = {item.label: item.text for item in read_texts("agnews", folder)}
    assert news["Sports"] == "Late goal A goal, and another goal"
    assert read_pairs("sst2", folder) != []
    assert {pair.perturbed for pair in read_pairs("sst2", folder)} == {"a bad film", "a b ad film"}
    assert read_pairs("agnews", folder) == []
    bare = "a goal, a summit,1,a gaol; a summit,2\n"
    bare = bare.replace("a goal, a summit", '"a goal, a summit"')
    (folder / "adversarial_pairs/deepwordbug_swap_agnews_wordcnn_2000.csv").write_text(bare)
    expected = Pair("deepwordbug", "a goal, a summit", "a gaol; a summit")
    assert read_pairs("agnews", folder) == [expected]
    assert read_synonyms(folder) == {"good": ["bad", "fine"]}
    assert len(read_solutions(folder)) == 1


def test_a_whole_run(folder, tmp_path, capsys):
    path = tmp_path / "out" / "report.json"
    arguments = classification.parse(
        ["--data", str(folder), "--json", str(path), "--quick", "--attacked", "2"]
    )
    assert classification.run(arguments, load, Flat) == []
    report = json.loads(path.read_text())
    assert set(report["ratios"]) == {"deterministic_vs_plain", "sampled_vs_fixed"}
    assert 0 < report["ratios"]["sampled_vs_fixed"] <= 1
    for name in ("sst2", "agnews"):
        found = report["figures"][name]
        assert found["rules"]["plain"]["accuracy"] == 1.0
        assert set(found["sampled_rules"]) == {*RULES, "sampled", "clucert_as_published"}
        assert not found["sampled_rules"]["ranmask"]["sound"]
        assert not found["sampled_rules"]["clucert_as_published"]["sound"]
        assert found["sampled_rules"]["cert_ed"]["sound"]
        assert set(found["ablation"]) == {
            *("all_stages", "without_refine", "without_clustering", "certify_alone")
        }
        assert found["attacks"]["certificates_beaten"] == 0
        assert found["attacks"]["texts"] == 2
        assert path.with_name(f"report_{name}.png").stat().st_size > 1000
    gsm8k = report["figures"]["gsm8k"]
    assert gsm8k["small"] == {"accuracy": 1.0, "same_verdict_as_recorded": 1.0}
    assert gsm8k["large"] == {"accuracy": 0.0, "same_verdict_as_recorded": 1.0}
    assert report["figures"]["sst2"]["replay"]["textbugger"]["other_length"] == 1


def test_figures_are_kept_when_asked(folder, tmp_path):
    path = tmp_path / "report.json"
    options = ["--data", str(folder), "--json", str(path), "--quick", "--stages", "rules"]
    for name in ("sst2", "agnews"):
        arguments = classification.parse([*options, "--sets", name, "--keep"])
        assert classification.run(arguments, load, Flat) == []
    figures = json.loads(path.read_text())["figures"]
    assert {"sst2", "agnews"} < set(figures)
    assert len(figures["earlier_commands"]) == 1
    with pytest.raises(ValueError, match="figures of agnews are of another model"):
        classification.run(arguments, lambda name: Fresh(load(name)), Flat)
    arguments = classification.parse([*options, "--sets", "sst2"])
    assert classification.run(arguments, load, Flat) == []
    assert "agnews" not in json.loads(path.read_text())["figures"]


class Fresh(Remembered):
    """The same classifier under another fingerprint."""

    def __init__(self, model):
        super().__init__(model)
        self.fingerprint = "fresh"


def test_a_beaten_certificate_is_reported():
    """The certificate says 3 words, and one turns the label: the campaign must say so."""
    from dataclasses import replace

    classifier = CluCertClassifier(Remembered(load("sentiment")), BalancedMask(3))
    honest = classifier.classify_many
    campaign = Campaign(classifier, lambda word: ["bad"], budget=1)
    campaign.run(Labelled("good film", "positive"))
    assert campaign.violations == []
    classifier.classify_many = lambda texts: [replace(one, radius=3) for one in honest(texts)]
    campaign.run(Labelled("good film", "positive"))
    assert any("1 words within radius 3" in one for one in campaign.violations)
    assert campaign.figures()["certificates_beaten"] == len(campaign.violations)
    beaten = len(campaign.violations)
    campaign.replay([Pair("made", "a good film", "a bad film")])
    assert len(campaign.violations) > beaten


def test_the_attackers_view_is_that_of_the_component():
    model = Remembered(load("sentiment"))
    mechanism = BalancedMask(5, partitions=2, span=2)
    classifier = CluCertClassifier(model, mechanism)
    texts = ["good " * 9 + "bad film", "", "a", "bad bad good of the film and so on with it"]
    for judged, found in zip(
        MeanJudge(model, mechanism).judge(texts), classifier.classify_many(texts), strict=True
    ):
        assert judged.label == found.label
        for label, share in judged.shares.items():
            assert share == pytest.approx(found.votes[label], abs=1e-8)
    (plain,) = PlainJudge(model).judge(["good"])
    assert plain.shares == pytest.approx({"positive": 0.75, "negative": 0.25})


def test_published_rules_certify_what_their_formulas_say():
    sure = TableProbabilities(lambda text: {"yes": 1.0}, ("yes", "no"))
    text = " ".join(map(str, range(40)))
    # p_low = .05 ** (1 / 1000) = .9970; Delta_d = 1 - C(40-d, 4) / C(40, 4)
    assert self_denoise(sure, text, 1000).radius == 6
    assert ranmask(sure, text, 1000).radius == 6
    assert cert_ed(sure, text, 1000).radius == 6
    half = TableProbabilities(
        lambda text: {"yes": float(hash_of(text) % 2), "no": 1.0 - hash_of(text) % 2},
        ("yes", "no"),
    )
    for rule, _ in RULES.values():
        assert rule(half, text, 300).radius <= 0


def hash_of(text):
    return sum(map(ord, text)) // 3


def test_summary_counts():
    rows = [
        Said(True, 2, 10, 0.1, "a"),
        Said(True, 0, 10, 0.1, "a"),
        Said(False, 4, 10, 0.3, "b"),
    ]
    found = summary([*rows, Said(False, -1, 2, 0.1, "b")])
    assert found["accuracy"] == 0.5
    assert [found["certified_accuracy"][r] for r in "0123"] == [0.5, 0.25, 0.25, 0.0]
    assert [found["by_label"][one]["0"] for one in "ab"] == [1.0, 0.0]
    assert found["by_label"]["a"]["1"] == 0.5
    assert found["mean_radius"] == 1.5
    assert found["radius_variation"] == pytest.approx((2.75**0.5) / 1.5, abs=1e-3)
    assert found["model_calls_a_text"] == 8.0
    assert summary([Said(True, 0, 1, 0.0)])["radius_variation"] is None
