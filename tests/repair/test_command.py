"""``robust-components repair`` writes a patch with its figures, or says why not."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from robust_components.cli import main
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair import NeuronRepairedRanker, Patch, read_probes, write_probes
from tests.repair.toy import toy_probes

LOOSE = ["--kendall-tau", "-1", "--mrr-loss", "1", "--drift", "1e6"]
STEPS = ["--step", "1e-3", "--rounds", "3", "--steps", "15", "--objective", "scores"]


@pytest.fixture
def probes(tiny_ranker, tmp_path):
    path = tmp_path / "probes.jsonl"
    write_probes(path, toy_probes(load_pair_scorer(tiny_ranker, logits=True)))
    return str(path)


def repaired(tiny_ranker, source, tmp_path, *more):
    arguments = ["repair", *source, "--output", str(tmp_path / "patch"), "--model", tiny_ranker]
    settings = ["--neurons", "24", "--seed", "1", *STEPS, *LOOSE]
    return main([*arguments, *settings, *more])


def test_a_patch_with_all_its_figures(tiny_ranker, probes, tmp_path, capsys):
    others = tmp_path / "others.jsonl"
    write_probes(others, toy_probes(load_pair_scorer(tiny_ranker, logits=True), seed=5))
    more = ["--unseen", str(others), "--adaptive", "--words", "1"]
    assert repaired(tiny_ranker, ["--probes", probes], tmp_path, *more) == 0
    said, bars = capsys.readouterr()
    patch = Patch.load(tmp_path / "patch")
    assert patch.settings["neurons"] == 24
    assert {"held_out", "unseen", "adaptive", "clean_drift"} == patch.figures.keys()
    assert patch.figures["unseen"]["before"]["lists"] == 12
    assert "no proof of anything" in said
    for label in ("held-out attacks", "unseen attacks", "attacks on the repaired ranker"):
        assert label in said
    assert "scan: 100%" in bars and "perturb" in bars
    ranker = NeuronRepairedRanker(load_pair_scorer(tiny_ranker), tmp_path / "patch")
    certificate = ranker.rank("who", ["the man", "a river"]).certificate
    assert certificate.verify()
    assert "not measured" not in certificate.claim


def test_lists_are_attacked_and_the_probes_kept(tiny_ranker, tmp_path, capsys):
    lists = tmp_path / "lists.jsonl"
    rows = [
        {"query": f"who {a}", "documents": ["the man a b", f"river {a} c", "what city d e"]}
        for a in "abcdefgh"
    ]
    rows += [{**row, "query": f"what {row['query'][-1]}", "relevant": [0]} for row in rows]
    lists.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = tmp_path / "kept.jsonl"
    status = repaired(tiny_ranker, ["--lists", str(lists)], tmp_path, "--save-probes", str(kept))
    assert status in (0, 1)  # a random model may have nothing to gain
    assert (tmp_path / "patch").exists() == (status == 0)
    found = read_probes(kept)
    assert len(found) >= 8
    assert all(probe.adversarial != probe.documents[probe.target] for probe in found)


def test_a_repair_that_is_rolled_back_writes_nothing(tiny_ranker, probes, tmp_path, capsys):
    strict = ["--drift", "1e-9"]
    assert repaired(tiny_ranker, ["--probes", probes], tmp_path, *strict) == 1
    assert "rolled back" in capsys.readouterr().out
    assert not (tmp_path / "patch").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"query": "q"}', "line 1"),
        ('{"query": "q", "document": "the man", "adversarial": "the man"}', "nothing to repair"),
        ('{"query": "q", "document": "the man", "adversarial": "river"}', "at least 8 probes"),
    ],
)
def test_bad_probes_are_named(line, said, tiny_ranker, tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text(line + "\n")
    assert repaired(tiny_ranker, ["--probes", str(path)], tmp_path) == 2
    assert said in capsys.readouterr().err


def test_missing_files_and_models_are_named(tiny_ranker, probes, tmp_path, capsys):
    assert repaired(tiny_ranker, ["--probes", str(tmp_path / "none")], tmp_path) == 2
    assert repaired(str(tmp_path / "no model"), ["--probes", probes], tmp_path) == 2
    assert "robust-components: " in capsys.readouterr().err


def test_lists_without_a_choice_are_refused(tiny_ranker, tmp_path, capsys):
    path = tmp_path / "lists.jsonl"
    path.write_text('{"query": "q", "documents": ["one"]}\n')
    assert repaired(tiny_ranker, ["--lists", str(path)], tmp_path) == 2
    assert "at least two documents" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--save-probes", "--unseen"])
def test_files_are_looked_at_before_anything_is_computed(
    option, tiny_ranker, probes, tmp_path, capsys, monkeypatch
):
    from robust_components.repair import command

    monkeypatch.setattr(command, "load_pair_scorer", lambda *_, **__: pytest.fail("too late"))
    for wrong in (tmp_path / "none" / "file", tmp_path):
        assert repaired(tiny_ranker, ["--probes", probes], tmp_path, option, str(wrong)) == 2
        assert str(wrong) in capsys.readouterr().err


def test_odd_settings_are_named(tiny_ranker, probes, tmp_path, capsys):
    for option, value in (("--threads", "-1"), ("--seed", "-1"), ("--held-out", "nan")):
        assert repaired(tiny_ranker, ["--probes", probes], tmp_path, option, value) == 2
        assert option.strip("-").replace("-", "_") in capsys.readouterr().err
