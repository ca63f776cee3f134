"""What voting with a certificate costs beside the reader's bare forward passes.

    python -m benchmarks.voting --json results.json [--quick]

Ten passages of the example corpus for each of its questions. Both ways read the same passages in
the same run, in turn; figures are medians over questions and repetitions. ``voting_vs_forward`` is
run() with its certificate over forward passes on inputs encoded beforehand, one passage each;
``voting_vs_batched_forward`` is over the same passages in one padded batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.reporting import write_report
from robust_components.models.embedded import MANY_PASSAGES, load_reader
from robust_components.models.reader_encoding import collate, encode_pair
from robust_components.rag.generator import RobustRAGGenerator

CORPUS = Path(__file__).parent.parent / "examples" / "corpus.json"
K = 10


def lists() -> list[tuple[str, list[str]]]:
    """Each question with its supporting passages, filled up with others to ten."""
    corpus = json.loads(CORPUS.read_text(encoding="utf-8"))
    texts = {p["id"]: f"{p['title']}. {p['text']}" for p in corpus["passages"]}
    made = []
    for at, question in enumerate(corpus["questions"]):
        chosen = [texts[i] for i in question["supporting"]]
        others = [text for text in texts.values() if text not in chosen]
        made.append((question["question"], (chosen + others[at * 5 :])[:K]))
    return made


def forward_each(network: Any, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        network(**row)


def seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@torch.no_grad()
def measure(repeats: int) -> dict[str, list[float]]:
    reader = load_reader(threshold=MANY_PASSAGES)
    generator = RobustRAGGenerator(reader)
    times: dict[str, list[float]] = {"forward": [], "batched_forward": [], "voting": []}

    def encoded(pairs: list[Any]) -> dict[str, Any]:
        inputs = collate(pairs, reader.tokenizer)
        del inputs["gold"]
        return inputs

    for question, passages in tqdm(lists(), desc="voting"):
        pairs = [encode_pair(reader.tokenizer, question, passage, 384) for passage in passages]
        rows, batch = [encoded([pair]) for pair in pairs], encoded(pairs)
        generator.run(question, passages)
        actions: dict[str, Callable[[], Any]] = {
            "forward": partial(forward_each, reader.network, rows),
            "batched_forward": partial(reader.network, **batch),
            "voting": partial(generator.run, question, passages),
        }
        for _ in range(repeats):
            for name, action in actions.items():
                times[name].append(seconds(action))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    arguments = parser.parse_args()
    medians = {
        name: statistics.median(values)
        for name, values in measure(2 if arguments.quick else 10).items()
    }
    ratios = {
        "voting_vs_forward": round(medians["voting"] / medians["forward"], 3),
        "voting_vs_batched_forward": round(medians["voting"] / medians["batched_forward"], 3),
    }
    figures = {f"median_seconds_{name}": round(value, 4) for name, value in medians.items()}
    write_report(arguments.json, "voting", ratios, {"passages": K, **figures})
    print(json.dumps({**ratios, **figures}, indent=2))


if __name__ == "__main__":
    main()
