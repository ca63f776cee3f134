"""What a ranker is worth on lists with one relevant document: clean, smoothed, certified."""

from __future__ import annotations

from collections.abc import Iterable

from robust_components.models.protocols import PairScorer
from robust_components.ranking.lists import TrainingRow, candidates
from robust_components.ranking.metrics import ndcg_one_relevant, rank_of_first, reciprocal_rank
from robust_components.ranking.ranker import SmoothedRanker
from robust_components.smoothing import FixedMechanism, RandomMask, TermCoverage

BUDGETS = (1, 2, 3)


def evaluate_lists(
    scorer: PairScorer,
    rows: Iterable[TrainingRow],
    mechanism: FixedMechanism | RandomMask,
    *,
    count: int = 20,
    coverage: TermCoverage | str | None = "model",
) -> dict[str, float]:
    """Means over all lists of a positive and the hardest ``count - 1`` negatives.

    Args:
        scorer: gives scores in [0, 1].
        rows: at least one.
        mechanism: the one deployed.
        count: documents of a list, at least 2.
        coverage: see :class:`SmoothedRanker`.

    Returns:
        ``plain_mrr``, ``plain_ndcg`` (unmasked documents), ``smoothed_mrr``, ``smoothed_ndcg``, all
        cut at rank 10, ties counted against the ranker; ``certified_R``: share of lists in which no
        R edited words of any other document lift it above the one ranked first (pre-attack).

    Raises:
        ValueError: there are no rows.
    """
    ranker = SmoothedRanker(
        scorer,
        mechanism,
        top_k=1,
        statement="pre_attack",
        scope="promotion",
        certify="none",
        coverage=coverage,
    )
    plain: list[int] = []
    smooth: list[int] = []
    radii: list[int] = []
    for row in rows:
        ranking = ranker.rank(row.query, candidates(row, count))
        items = sorted(ranking.items, key=lambda item: item.index)
        plain.append(rank_of_first([item.base_score or 0.0 for item in items]))
        smooth.append(rank_of_first([item.score for item in items]))
        radii.append(ranking.radius)
    lists = len(plain)
    if not lists:
        raise ValueError("there are no lists to evaluate; pass at least one row with a negative")
    return {
        "plain_mrr": round(sum(map(reciprocal_rank, plain)) / lists, 4),
        "plain_ndcg": round(sum(map(ndcg_one_relevant, plain)) / lists, 4),
        "smoothed_mrr": round(sum(map(reciprocal_rank, smooth)) / lists, 4),
        "smoothed_ndcg": round(sum(map(ndcg_one_relevant, smooth)) / lists, 4),
        **{
            f"certified_{budget}": round(sum(r >= budget for r in radii) / lists, 4)
            for budget in BUDGETS
        },
    }
