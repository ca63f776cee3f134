"""Training rows, and a few held out to watch progress."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from robust_components.ranking.lists import TrainingRow, read_rows


def training_rows(
    arguments: argparse.Namespace, dev: list[TrainingRow]
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Rows with negatives, and rows to watch: of whole articles, or of ``--dev`` without titles.

    Raises:
        ValueError: no row has a negative, or a line is not a row.
        OSError: the file cannot be read.
    """
    rows, held = hold_out(arguments.rows, arguments.held_articles)
    usable = [row for row in rows if row.negatives]
    if not usable:
        raise ValueError(f"{arguments.rows} has no row with a negative; nothing can be learnt")
    watched = [row for row in held if row.negatives] or dev
    return usable, random.Random(2).sample(watched, min(len(watched), arguments.watch))


def hold_out(path: Path, articles: int) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Training rows, and those of a few articles, where rows have titles."""
    rows = read_rows(path)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    titles = sorted({str(record.get("title", "")) for record in records})
    if len(titles) <= articles:
        return rows, []
    held = set(random.Random(1).sample(titles, articles))
    answered = [record for record in records if record.get("answers", True)]
    inside = [str(record.get("title", "")) in held for record in answered]
    return (
        [row for row, kept in zip(rows, inside, strict=True) if not kept],
        [row for row, kept in zip(rows, inside, strict=True) if kept],
    )
