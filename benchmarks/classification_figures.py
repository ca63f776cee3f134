"""Accuracy by certified radius, from what a classifier said of labelled texts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RADII = range(9)


@dataclass(frozen=True)
class Said:
    """What was said of one text, and whether it is right.

    Attributes:
        right: whether the label is the true one.
        radius: certified radius; -1 without a label.
        copies: model calls.
        seconds: time.
        truth: the true label.
    """

    right: bool
    radius: int
    copies: int
    seconds: float
    truth: str = ""


def summary(rows: Sequence[Said], *, sound: bool = True) -> dict[str, Any]:
    """Shares and means over texts.

    ``accuracy``: rightly labelled; ``certified_accuracy``: rightly labelled and certified for so
    many edited words, from 0 on; ``mean_radius`` and ``radius_variation`` (standard deviation over
    mean) of the certified radii of all texts, no label counting as 0; ``by_label``: certified
    accuracy of the texts of each true label, for a model that leans to one label withstands edits
    there at no cost.
    """
    number = len(rows)
    truths = sorted({row.truth for row in rows})
    radii = [max(0, row.radius) for row in rows]
    mean = statistics.fmean(radii)
    return {
        "texts": number,
        "sound": sound,
        "accuracy": round(sum(row.right for row in rows) / number, 4),
        "certified_accuracy": _curve(rows),
        "by_label": {one: _curve([row for row in rows if row.truth == one]) for one in truths},
        "mean_radius": round(mean, 3),
        "radius_variation": round(statistics.pstdev(radii) / mean, 3) if mean else None,
        "model_calls_a_text": round(statistics.fmean(row.copies for row in rows), 1),
        "milliseconds_a_text": round(1000 * statistics.fmean(row.seconds for row in rows), 2),
    }


def _curve(rows: Sequence[Said]) -> dict[str, float]:
    return {
        str(r): round(sum(row.right and row.radius >= r for row in rows) / len(rows), 4)
        for r in RADII
    }
