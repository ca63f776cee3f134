"""Labelled texts, recorded attacks and recorded solutions for the classification benchmark."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

TOPICS = ("World", "Sports", "Business", "Sci/Tech")
SENTIMENTS = ("negative", "positive")
RECORDED = {
    "textfooler_textattack-roberta-base-SST-2_sst2.csv": "sst2",
    "textbugger_textattack-roberta-base-SST-2_sst2.csv": "sst2",
    "textfooler_textattack-roberta-base-ag-news_agnews.csv": "agnews",
    "deepwordbug_swap_agnews_wordcnn_2000.csv": "agnews",
}


@dataclass(frozen=True)
class Labelled:
    """A text and its true label."""

    text: str
    label: str


@dataclass(frozen=True)
class Pair:
    """A recorded attack on another model."""

    name: str
    original: str
    perturbed: str


def read_texts(name: str, folder: Path, seed: int = 0) -> list[Labelled]:
    """All texts of ``"sst2"`` (dev) or ``"agnews"`` (test sample) in an order drawn with ``seed``.

    Raises:
        OSError: the file cannot be read.
        ValueError: there is no such set.
    """
    if name == "sst2":
        lines = (folder / "sst2" / "dev.txt").read_text(encoding="utf-8").splitlines()
        pairs = [line.rsplit("\t", 1) for line in lines if line.strip()]
        found = [Labelled(text, SENTIMENTS[int(label)]) for text, label in pairs]
    elif name == "agnews":
        with (folder / "agnews" / "test_1000.csv").open(encoding="utf-8", newline="") as handle:
            rows = list(csv.reader(handle))
        found = [Labelled(f"{title} {text}", TOPICS[int(n) - 1]) for n, title, text in rows]
    else:
        raise ValueError(f"set must be 'sst2' or 'agnews', got {name!r}")
    random.Random(seed).shuffle(found)
    return found


def read_pairs(name: str, folder: Path, seed: int = 0) -> list[Pair]:
    """Recorded originals and their perturbed forms for one set, in an order drawn with ``seed``."""
    found = []
    for file, kind in RECORDED.items():
        path = folder / "adversarial_pairs" / file
        if kind != name or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not line.startswith("#")]
        rows = list(csv.reader(kept))
        header, attack = rows[0], path.stem.split("_")[0]
        places = (0, 2)  # without a header: original, label, perturbed, label
        if "original" in header:
            places = (header.index("original"), header.index("perturbed"))
            rows = rows[1:]
        found += [Pair(attack, row[places[0]], row[places[1]]) for row in rows]
    random.Random(seed).shuffle(found)
    return found


def read_solutions(folder: Path) -> list[dict[str, object]]:
    """Recorded answers to GSM8K questions: question, ground truth, and four models' solutions."""
    path = folder / "gsm8k" / "example_model_solutions.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_synonyms(folder: Path) -> dict[str, list[str]]:
    """Neighbours in counter-fitted vectors and WordNet synonyms, for the attacker."""
    table: dict[str, list[str]] = {}
    path = folder / "counterfitted_neighbors" / "counterfitted_neighbors.json"
    if path.is_file():
        for word, near in json.loads(path.read_text(encoding="utf-8")).items():
            table[word] = [str(one) for one in near]
    path = folder / "wordnet_subset" / "wordnet30_synonyms_2000.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            table.setdefault(row["word"], []).extend(row["synonyms"])
    return {
        word: [one for one in dict.fromkeys(near) if re.fullmatch(r"[\w'-]+", one)]
        for word, near in table.items()
    }
