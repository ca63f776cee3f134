"""Plots of the ranking benchmark: certified radii, and quality against certified share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def radius_histogram(figures: dict[str, Any], title: str, path: Path) -> None:
    """Shares of lists (top 1 fixed) and of documents (kept from rank 1) by certified radius."""
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    kinds = {"set_radius_histogram": "top 1 is fixed", "document_radius_histogram": "kept below it"}
    for at, (name, label) in enumerate(kinds.items()):
        counts = {int(r): n for r, n in figures[name].items()}
        total = sum(counts.values()) or 1
        axes.bar(
            [r + 0.4 * at - 0.2 for r in counts],
            [n / total for n in counts.values()],
            width=0.38,
            label=label,
        )
    axes.set(xlabel="certified radius, substituted words a document", ylabel="share", title=title)
    axes.legend()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def frontier(points: list[dict[str, Any]], title: str, path: Path) -> None:
    """MRR@10 against the share of certified lists, one point for every number of blocks."""
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    for words in (1, 2):
        shares = [point[f"top1_certified_{words}"] for point in points]
        axes.plot(shares, [point["mrr_10"] for point in points], "o-", label=f"{words} words")
        for point, share in zip(points, shares, strict=True):
            axes.annotate(str(point["blocks"]), (share, point["mrr_10"]))
    axes.axhline(points[0]["plain_mrr_10"], color="grey", linestyle=":", label="plain")
    axes.set(xlabel="share of lists with a certified top 1", ylabel="MRR@10", title=title)
    axes.legend()
    figure.savefig(path, dpi=80)
    plt.close(figure)
