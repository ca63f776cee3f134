"""Whether an answer is right, for evaluation with gold answers."""

from __future__ import annotations

from collections.abc import Sequence

from robust_components.rag.normalise import normalise_answer


def contains_gold(answer: str | None, gold: Sequence[str]) -> float:
    """1.0 if a gold answer occurs as whole words in the normalised answer, else 0.0."""
    if answer is None:
        return 0.0
    words = f" {normalise_answer(answer)} "
    return float(any(f" {normalise_answer(g)} " in words for g in gold if g.strip()))
