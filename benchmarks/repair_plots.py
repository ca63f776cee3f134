"""Plots of the repair benchmark: success and clean MRR over neurons, lambda and strength."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

AXES = {"K": "neurons repaired", "lambda": "lambda", "strength": "strength"}


def sweep(table: dict[str, Any], own_values: dict[str, float], path: Path) -> None:
    """Attack success and clean MRR@10 of repair_scores, with spread where there is one.

    Args:
        table: rows of the benchmark's ``table``.
        own_values: K, lambda and strength of the row ``repair_scores`` itself; those of which there
            are other rows are plotted.
    """
    varied = {
        name: own
        for name, own in own_values.items()
        if any(label.startswith(f"repair_scores, {name}=") for label in table)
    }
    figure, (axes,) = plt.subplots(
        1, len(varied), figsize=(1 + 4 * len(varied), 3), layout="constrained", squeeze=False
    )
    for axis, (name, own) in zip(axes, varied.items(), strict=True):
        rows = {own: table["repair_scores"]}
        if name == "strength" and "none" in table:
            rows[0.0] = table["none"]
        for label, row in table.items():
            if label.startswith(f"repair_scores, {name}="):
                rows[float(label.partition("=")[2])] = row
        places = sorted(rows)
        for column, label in (
            ("seen_asr", "success, seen"),
            ("unseen_asr", "success, unseen"),
            ("cmrr", "clean MRR@10"),
        ):
            values = [rows[at][column] for at in places]
            axis.errorbar(
                places,
                [value["mean"] for value in values],
                yerr=[value["spread"] or 0.0 for value in values],
                marker="o",
                label=label,
            )
        axis.set(xlabel=AXES[name], ylim=(0, 1.05))
    axes[0].legend()
    figure.savefig(path, dpi=80)
    plt.close(figure)
