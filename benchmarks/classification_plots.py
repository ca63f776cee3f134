"""Certified accuracy against the number of edited words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def curves(figures: dict[str, Any], title: str, path: Path) -> None:
    """One line a rule; rules that are no proof are dashed, and those on fewer texts say so.

    Args:
        figures: name of the rule: its summary.
        title: above the plot.
        path: the image.
    """
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    most = max(found["texts"] for found in figures.values())
    for name, found in figures.items():
        shares = {int(r): share for r, share in found["certified_accuracy"].items()}
        style, label = ("o-", name) if found["sound"] else ("x--", f"{name} (not sound)")
        if found["texts"] < most:
            label += f", {found['texts']} texts"
        axes.plot(list(shares), list(shares.values()), style, label=label, markersize=4)
    axes.set(xlabel="edited words", ylabel="certified accuracy", title=title, ylim=(0, 1))
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)
