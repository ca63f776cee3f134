"""Accuracy of a classifier on fixed masked copies, clean and certified, to steer training by.

A small second implementation for one purpose: it gives the radii that
:class:`~robust_components.classification.CluCertClassifier` certifies for up to two edits, and
lower bounds of them beyond. Figures to publish come from there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.smoothing import BalancedMask, MaskedCopy, split_words
from robust_components.training.classifier_data import LabelledText

RADII = (1, 2, 3)
PAIRS = 120
"""Most words of a text whose pairs are all tried."""

Floats = NDArray[np.float64]


def evaluate_texts(
    model: Any, rows: Sequence[LabelledText], mechanism: BalancedMask
) -> dict[str, float]:
    """Shares of texts that are labelled rightly: unmasked, by the mean, and under R edits.

    Args:
        model: has ``probabilities(texts)`` of shape (texts, labels).
        rows: at least one.
        mechanism: the one deployed.

    Returns:
        ``plain``; ``soft_0`` .. ``soft_3`` (mean probabilities) and ``hard_0`` .. ``hard_3``
        (votes): share labelled rightly and certified for so many substituted words.
    """
    made = [mechanism.copies(split_words(row.text)) for row in rows]
    texts = list(dict.fromkeys(copy.text for copies in made for copy in copies))
    place = {text: i for i, text in enumerate(texts)}
    scores = np.asarray(model.probabilities(texts))
    plain = np.asarray(model.probabilities([row.text for row in rows])).argmax(axis=1)
    found = {"plain": float(np.mean(plain == [row.label for row in rows]))}
    radii: dict[str, list[int]] = {"soft": [], "hard": []}
    for row, copies in zip(rows, made, strict=True):
        soft = scores[[place[copy.text] for copy in copies]]
        hard = np.eye(soft.shape[1])[soft.argmax(axis=1)]
        empty = [not copy.visible for copy in copies]
        soft[empty] = hard[empty] = 0.0
        hits = words_seen(copies, len(split_words(row.text)))
        for name, votes in (("soft", soft), ("hard", hard)):
            right = int(votes.sum(axis=0).argmax()) == row.label
            radii[name].append(radius(votes, hits, mechanism) if right else -1)
    for name, values in radii.items():
        for least in (0, *RADII):
            found[f"{name}_{least}"] = float(np.mean([value >= least for value in values]))
    return {name: round(value, 4) for name, value in found.items()}


def words_seen(copies: Sequence[MaskedCopy], words: int) -> NDArray[np.bool_]:
    """Which copies show each word, shape (words, copies)."""
    hits = np.zeros((words, len(copies)), dtype=bool)
    for at, copy in enumerate(copies):
        hits[list(copy.visible), at] = True
    return hits


def radius(votes: Floats, hits: NDArray[np.bool_], mechanism: BalancedMask) -> int:
    """Edits up to three that leave the winner in front, of votes (copies, labels)."""
    totals = votes.sum(axis=0)
    winner = int(totals.argmax())
    best = len(RADII)
    for rival in set(range(len(totals))) - {winner}:
        gains = 1 + votes[:, winner] - votes[:, rival]
        tie = 1e-9 if rival > winner else -1e-9  # equal votes go to the first label
        lead = float(totals[winner] - totals[rival]) + tie
        best = min(best, sum(largest(gains, hits, r, mechanism) < lead for r in RADII))
    return best


def largest(gains: Floats, hits: NDArray[np.bool_], edits: int, mechanism: BalancedMask) -> float:
    """Most that ``edits`` edited words can take from a lead; an upper bound from three on."""
    words = len(hits)
    if edits >= words:
        return float(gains[hits.any(axis=0)].sum())
    if edits == 1:
        return float((hits @ gains).max())
    if edits == 2 and words <= PAIRS:
        one, two = map(np.array, zip(*itertools.combinations(range(words), 2), strict=True))
        return float(((hits[one] | hits[two]) @ gains).max())
    alone = np.sort(hits @ gains)[-edits:].sum()
    blocks = np.where(hits.any(axis=0), gains, 0).reshape(mechanism.partitions, -1)
    return float(min(alone, np.sort(blocks, axis=1)[:, -edits:].sum()))
