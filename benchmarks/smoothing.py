"""What certified ranking costs beside plain scoring, and what adaptive sampling saves.

    python -m benchmarks.smoothing --json FILE [--quick]

Time: 100 documents of 55 to 65 words for one query, scored plainly and ranked with certificates by
``SmoothedRanker``, in turn and in one run, on one thread; medians of wall time. Ratios are those of
the embedded ranker without scores of the unmasked documents (``base_scores=False``);
``*_with_base_scores`` adds those, that is plain scoring itself. ``bert_*`` is a 6-layer BERT of
width 768 with random weights.

Samples: ``RandomMask`` at a mask rate of 0.9 on 20 documents of 60 words a list. The scorer is a
table (a word has a weight, a copy the sigmoid of its visible words' sum), because the 4 million
passes of the fixed runs would take a real model many hours; the gap between the first and the
second document is drawn anew for every list. ``adaptive_passes_vs_fixed`` compares model passes
with those of 1,000 samples for every document; decisions are compared list by list.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from tqdm import tqdm

from benchmarks.reporting import write_report
from robust_components.models import load_ranker
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask

CORPUS = Path(__file__).parent.parent / "examples" / "corpus.json"
FIXED = 1000
MECHANISMS = {"hash_buckets": HashBuckets(10), "balanced_mask": BalancedMask(10)}


def made_documents(count: int, seed: int) -> tuple[str, list[str]]:
    """A question of the example corpus, and its text cut into documents of 55 to 65 words."""
    corpus = json.loads(CORPUS.read_text(encoding="utf-8"))
    words = " ".join(passage["text"] for passage in corpus["passages"]).split()
    generator = random.Random(seed)
    documents, at = [], 0
    for _ in range(count):
        length = generator.randint(55, 65)
        documents.append(" ".join(words[at : at + length]))
        at += length
    return corpus["questions"][0]["question"], documents


def random_bert(embedded: TransformersPairScorer) -> TransformersPairScorer:
    """A 6-layer BERT of width 768 with random weights and the embedded ranker's tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(embedded.tokenizer), num_hidden_layers=6, num_labels=1)
    network = BertForSequenceClassification(config).eval()
    return TransformersPairScorer(network, embedded.tokenizer, name="random BERT, 6 layers of 768")


def ranker(scorer: Any, name: str, base_scores: bool) -> SmoothedRanker:
    return SmoothedRanker(scorer, MECHANISMS[name], base_scores=base_scores)


def measure(
    scorer: TransformersPairScorer, query: str, documents: Sequence[str], repeats: int
) -> dict[str, dict[str, float]]:
    """Median wall and processor seconds of every way, in turn."""
    actions: dict[str, partial[Any]] = {"plain": partial(scorer.score, query, documents)}
    for name in MECHANISMS:
        for suffix, base in (("", False), ("_with_base_scores", True)):
            actions[name + suffix] = partial(ranker(scorer, name, base).rank, query, documents)
    wall: dict[str, list[float]] = {name: [] for name in actions}
    used: dict[str, list[float]] = {name: [] for name in actions}
    for action in actions.values():
        action.func(query, documents[:3])  # warms up
    for _ in tqdm(range(repeats), desc=scorer.name):
        for name, action in actions.items():
            began, began_used = time.perf_counter(), time.process_time()
            action()
            wall[name].append(time.perf_counter() - began)
            used[name].append(time.process_time() - began_used)
    return {
        name: {
            "wall_seconds": round(statistics.median(wall[name]), 4),
            "processor_seconds": round(statistics.median(used[name]), 4),
        }
        for name in actions
    }


def table_list(number: int, seed: int) -> tuple[TableScorer, list[str]]:
    """A scorer and 20 documents of 60 words, of which the first is the most relevant by a margin
    drawn anew for every list."""
    generator = random.Random(f"{seed} {number}")
    margin = generator.uniform(0.0, 0.9)
    level = generator.uniform(0.02, 0.95 - margin)
    targets = [level + margin, *(level * generator.random() ** 0.5 for _ in range(19))]
    logits = {str(i): math.log(t / (1 - t)) for i, t in enumerate(targets)}

    def score(query: str, text: str) -> float:
        words = [word for word in text.split() if word != "[MASK]"]
        logit = logits.get(words[0].split("_")[0], 0.0)
        noise = sum(crc32(f"{number} {word}".encode()) / 2**32 - 0.5 for word in words)
        return 1 / (1 + math.exp(-logit - 1.5 * noise))

    documents = [" ".join(f"{i}_{at}" for at in range(60)) for i in range(20)]
    return TableScorer(score), documents


def sampling(lists: int, seed: int) -> dict[str, Any]:
    """Passes and decisions of adaptive and fixed sampling, for the top 1 and one edited word."""
    passes = {"adaptive": 0, "fixed": 0}
    certified = {"adaptive": 0, "fixed": 0}
    same = 0
    for number in tqdm(range(lists), desc="sampling"):
        scorer, documents = table_list(number, seed)
        decisions = {}
        for name in passes:
            mechanism = RandomMask(mask_rate=0.9, samples=FIXED, seed=seed + number)
            smoothed = SmoothedRanker(
                scorer,
                mechanism,
                top_k=1,
                statement="pre_attack",
                scope="promotion",
                adaptive=name == "adaptive",
                base_scores=False,
                certify="none",
            )
            ranking = smoothed.rank("a query", documents)
            passes[name] += ranking.passes
            decisions[name] = ranking.certificate.certified
            certified[name] += decisions[name]
        same += decisions["adaptive"] == decisions["fixed"]
    return {
        "lists": lists,
        "passes": passes,
        "certified_lists": certified,
        "lists_with_the_same_decision": same,
        "ratio": round(passes["adaptive"] / passes["fixed"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--quick", action="store_true", help="20 documents, 2 turns, 10 lists")
    parser.add_argument("--ranker", type=Path, help="folder of another ranker adapter")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    count, repeats, lists = (20, 2, 10) if arguments.quick else (100, 2, 200)
    query, documents = made_documents(count, arguments.seed)
    embedded = load_ranker(arguments.ranker)
    times: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    figures = {"documents": count, "repeats": repeats, "seed": arguments.seed, "times": times}
    for name, scorer in (("embedded", embedded), ("bert", random_bert(embedded))):
        times[name] = measure(scorer, query, documents, repeats)
        plain = times[name]["plain"]["wall_seconds"]
        prefix = "" if name == "embedded" else f"{name}_"
        for way, found in times[name].items():
            if way != "plain":
                ratios[f"{prefix}{way}_vs_plain"] = round(found["wall_seconds"] / plain, 3)
        write_report(arguments.json, "smoothing", ratios, figures)
    figures["sampling"] = sampling(lists, arguments.seed)
    ratios["adaptive_passes_vs_fixed"] = figures["sampling"].pop("ratio")
    write_report(arguments.json, "smoothing", ratios, figures)
    print(json.dumps({**ratios, **figures}, indent=2))


if __name__ == "__main__":
    main()
