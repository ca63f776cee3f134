"""What smoothing costs in relevance, what it certifies, and what attacks do to both rankers.

    python -m benchmarks.ranking --data PATH --json FILE [--quick]

PATH is a file of questions with paragraphs, a re-ranking table, or a BEIR or TREC folder
(benchmarks/ranking_data.py). Lists are taken in an order drawn with the seed. Figures:

* MRR@10 and NDCG@10 of the plain and the smoothed ranker, by ir-measures; ``plain`` is the model
  on unmasked documents. Where the smoothed score counts term coverage, ``.._model_alone`` is the
  mean over masked copies without it and ``terms_alone`` the coverage without any model;
* ``certified``: shares of lists for which CRQ(K, M, R) holds: with R words of every document
  edited nothing below rank M enters the top K. ``pre_attack``: documents outside the top K are
  edited; ``observed``: any may have been already. ``first-stage M`` counts first-stage ranks;
* histograms of certified radii, the frontier over numbers of blocks, both plotted beside FILE;
* attacks within word budgets: how often the target gains a place (``asr``; ties count for the
  attacker) or enters the top, and places gained.

Every attacked list is compared with the certificates. If one is beaten the run ends with status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.ranking_attacks import Campaign, Neighbours
from benchmarks.ranking_data import RankedList, read_lists
from benchmarks.ranking_figures import (
    Row,
    analyse,
    analysed_row,
    plain_row,
    ranker_for,
    relevance,
    summary,
    terms_row,
)
from benchmarks.reporting import write_report
from benchmarks.score_cache import CachedScorer
from robust_components.models.protocols import PairScorer
from robust_components.smoothing import BalancedMask, FixedMechanism, HashBuckets
from robust_components.smoothing.term_coverage import coverage_named

STAGES = ("masks", "buckets", "frontier", "attacks")
WRITE_EVERY = 50


class Evaluation:
    """All figures of one data set, written as they come.

    Args:
        lists: in random order; every stage takes the first so many.
        write: called with all figures so far.
    """

    def __init__(
        self,
        lists: Sequence[RankedList],
        scorer: PairScorer,
        *,
        blocks: int = 10,
        seed: int = 0,
        write: Callable[[dict[str, Any]], object] = lambda figures: None,
    ) -> None:
        self.lists = lists
        self.scorer = scorer
        self.blocks = blocks
        self.seed = seed
        self.write = write
        self.plain: dict[str, Row] = {}
        self.terms: dict[str, Row] = {}
        self.rows: dict[str, list[Row]] = {}
        self.figures: dict[str, Any] = {"seed": seed, "lists_in_all": len(lists)}
        self.violations: list[str] = []

    def smoothed(self, mechanism: FixedMechanism, lists: int) -> None:
        """Relevance and certificates of one mechanism on the first ``lists`` lists."""
        name = f"{mechanism.name}_{mechanism.blocks}"
        ranker = ranker_for(self.scorer, mechanism)
        rows = self.rows.setdefault(name, [])
        alone = self.rows.setdefault(f"{name}_model_alone", [])
        coverage = coverage_named(getattr(self.scorer, "coverage", None))
        for item in tqdm(self.lists[len(rows) : lists], desc=name, mininterval=10):
            if item.query_id not in self.plain:
                self.plain[item.query_id] = plain_row(item, self.scorer)
            analysis = analyse(ranker, item.query, item.documents)
            rows.append(analysed_row(item, analysis))
            if coverage is not None:
                alone.append(analysed_row(item, replace(analysis, coverage=None)))
                self.terms[item.query_id] = terms_row(item, coverage)
            if len(rows) % WRITE_EVERY == 0:
                self._note(name)
        self._note(name)

    def _note(self, name: str) -> None:
        plain = list(self.plain.values())
        self.figures["plain"] = {"lists": len(plain), **relevance(plain)}
        self.figures[name] = summary(self.rows[name], plain)
        if self.rows[f"{name}_model_alone"]:
            self.figures[f"{name}_model_alone"] = summary(self.rows[f"{name}_model_alone"], plain)
            terms = list(self.terms.values())
            self.figures["terms_alone"] = {"lists": len(terms), **relevance(terms)}
        self.write(self.figures)

    def frontier(self, numbers: Sequence[int], lists: int) -> None:
        """The same first ``lists`` lists for several numbers of blocks."""
        points = []
        for blocks in numbers:
            mechanism = BalancedMask(blocks=blocks, seed=self.seed)
            self.smoothed(mechanism, lists)
            found = summary(self.rows[f"balanced_mask_{blocks}"][:lists], [*self.plain.values()])
            certified = found["certified"]["K=1 M=1 pre_attack"]
            points.append(
                {
                    "blocks": blocks,
                    "lists": found["lists"],
                    "mrr_10": found["mrr_10"],
                    "plain_mrr_10": found["plain_on_the_same"]["mrr_10"],
                    **{f"top1_certified_{words}": certified[f"R={words}"] for words in (1, 2)},
                }
            )
            self.figures["frontier"] = points
            self.write(self.figures)

    def attack(self, lists: int, near: Neighbours | None = None) -> None:
        """Attacks on the first ``lists`` lists."""
        campaign = Campaign(self.scorer, blocks=self.blocks, seed=self.seed, near=near)
        for item in tqdm(self.lists[:lists], desc="attacks", mininterval=10):
            campaign.run(item)
            self.violations = campaign.violations
            self.figures["attacks"] = campaign.figures()
            self.write(self.figures)


def plots(figures: dict[str, Any], masks: str, path: Path) -> None:
    """Histogram and frontier beside the report, if their figures are there."""
    from benchmarks import ranking_plots

    path.parent.mkdir(parents=True, exist_ok=True)
    if masks in figures:
        ranking_plots.radius_histogram(
            figures[masks], f"{figures['data']}, {masks}", path.with_name(f"{path.stem}_radii.png")
        )
    if len(figures.get("frontier", [])) > 1:
        ranking_plots.frontier(
            figures["frontier"], figures["data"], path.with_name(f"{path.stem}_frontier.png")
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--quick", action="store_true", help="10 lists, 5 a side stage, 2 attacked")
    parser.add_argument("--limit", type=int, help="lists for balanced masks; all by default")
    parser.add_argument("--sample", type=int, default=300, help="lists for the other mechanisms")
    parser.add_argument("--attacked", type=int, default=30, help="lists that are attacked")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--blocks", type=int, default=10, help="of both mechanisms")
    parser.add_argument("--frontier", type=int, nargs="+", default=[3, 5, 10, 20])
    parser.add_argument("--ranker", type=Path, help="folder of another ranker adapter")
    parser.add_argument("--cache", type=Path, help="folder for scores, to go on after a stop")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace, scorer: PairScorer, near: Neighbours | None) -> list[str]:
    """All stages asked for; returns the certificates that were beaten."""
    lists = read_lists(arguments.data, seed=arguments.seed)
    limit = arguments.limit or len(lists)
    sample, attacked = arguments.sample, arguments.attacked
    if arguments.quick:
        limit, sample, attacked = min(10, limit), 5, 2
    name = arguments.data.name if arguments.data.is_dir() else arguments.data.parent.name
    evaluation = Evaluation(
        lists,
        CachedScorer(scorer, arguments.cache),
        blocks=arguments.blocks,
        seed=arguments.seed,
        write=lambda figures: write_report(arguments.json, "ranking", {}, figures),
    )
    evaluation.figures["data"] = name
    evaluation.figures["ranker"] = str(getattr(scorer, "fingerprint", "unknown"))
    masks = BalancedMask(blocks=arguments.blocks, seed=arguments.seed)
    if "masks" in arguments.stages:
        evaluation.smoothed(masks, limit)
    if "buckets" in arguments.stages:
        evaluation.smoothed(HashBuckets(buckets=arguments.blocks, seed=arguments.seed), sample)
    if "frontier" in arguments.stages:
        evaluation.frontier(arguments.frontier, min(sample, len(lists)))
    if "attacks" in arguments.stages:
        evaluation.attack(attacked, near)
    if arguments.json is not None:
        plots(evaluation.figures, f"{masks.name}_{masks.blocks}", arguments.json)
    print(json.dumps(evaluation.figures, indent=2, ensure_ascii=False))
    return evaluation.violations


def main() -> None:
    arguments = parse()
    import torch

    from robust_components.attacks import embedding_neighbours
    from robust_components.models import load_ranker

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    scorer = load_ranker(arguments.ranker)
    beaten = run(arguments, scorer, embedding_neighbours(scorer, count=4))
    if beaten:
        print("CERTIFICATES BEATEN:", *beaten, sep="\n", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
