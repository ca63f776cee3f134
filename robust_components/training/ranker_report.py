"""MRR@10 and NDCG@10 on a held-out file: clean, smoothed, before and after fine-tuning."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from robust_components.models.protocols import PairScorer
from robust_components.ranking.evaluation import evaluate_lists
from robust_components.ranking.lists import TrainingRow, read_rows
from robust_components.ranking.training import Settings, random_mask
from robust_components.smoothing import (
    BalancedMask,
    FixedMechanism,
    HashBuckets,
    RandomMask,
    TermCoverage,
)

SAMPLES = 200
"""Most random masks a document in a report."""


def deployed(settings: Settings) -> FixedMechanism | RandomMask:
    """The mechanism trained for: the first number of blocks, the default seed."""
    if settings.mechanism == RandomMask.name:
        return random_mask(settings, SAMPLES)
    kind = BalancedMask if settings.mechanism == BalancedMask.name else HashBuckets
    return kind(settings.blocks[0])


def deployed_coverage(settings: Settings) -> TermCoverage | None:
    """The term coverage trained beside."""
    if settings.coverage == "0" or settings.mechanism == RandomMask.name:
        return None
    return TermCoverage(settings.coverage)


def dev_rows(arguments: argparse.Namespace) -> list[TrainingRow]:
    """The held-out rows that have negatives; none without ``--dev``."""
    if arguments.dev is None:
        return []
    rows = [row for row in read_rows(arguments.dev) if row.negatives]
    return rows[: arguments.dev_lists]


def figures(
    what: str,
    scorer: PairScorer,
    rows: list[TrainingRow],
    settings: Settings,
    arguments: argparse.Namespace,
) -> dict[str, float]:
    """Evaluate, with a progress bar."""
    progress = tqdm(rows, desc=f"evaluating, {what}", mininterval=5)
    return evaluate_lists(
        scorer,
        progress,
        deployed(settings),
        count=arguments.candidates,
        coverage=deployed_coverage(settings),
    )


def table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The report as text; a base without a ranking head of its own ranks at random before."""
    lines = [f"{'':34}{'MRR@10':>8}{'NDCG@10':>9}"]
    for name, found, kind in (
        ("clean, without fine-tuning", before, "plain"),
        ("smoothed, without fine-tuning", before, "smoothed"),
        ("clean, with fine-tuning", after, "plain"),
        ("smoothed, with fine-tuning", after, "smoothed"),
    ):
        lines.append(f"{name:34}{found[f'{kind}_mrr']:>8.4f}{found[f'{kind}_ndcg']:>9.4f}")
    shares = ", ".join(f"R={r}: {after[f'certified_{r}']:.1%}" for r in (1, 2, 3))
    lines.append(f"top 1 certified against R edited words of the others: {shares}")
    return "\n".join(lines)
