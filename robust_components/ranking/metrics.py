"""Ranking metrics of lists with one relevant document."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rank_of_first(scores: Sequence[float]) -> int:
    """Rank of item 0 among all, from 1; ties count against it."""
    return 1 + sum(score >= scores[0] for score in scores[1:])


def reciprocal_rank(rank: int, cut: int = 10) -> float:
    return 1.0 / rank if rank <= cut else 0.0


def ndcg_one_relevant(rank: int, cut: int = 10) -> float:
    """NDCG of a list with a single relevant item at ``rank``."""
    return 1.0 / math.log2(rank + 1) if rank <= cut else 0.0
