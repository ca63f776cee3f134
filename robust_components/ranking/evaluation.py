"""What a ranker is worth on lists with one relevant document: clean, smoothed, certified."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robust_components.models.protocols import PairScorer
from robust_components.ranking.lists import TrainingRow, candidates
from robust_components.ranking.metrics import ndcg_one_relevant, rank_of_first, reciprocal_rank
from robust_components.smoothing import FixedMechanism, split_words


def evaluate_lists(
    scorer: PairScorer, rows: Sequence[TrainingRow], mechanism: FixedMechanism
) -> dict[str, float]:
    plain: list[int] = []
    smooth: list[int] = []
    held = {1: 0, 2: 0, 3: 0}
    blocks = mechanism.blocks
    for row in rows:
        texts = candidates(row)
        plain.append(rank_of_first(scorer.score(row.query, texts)))
        copies = [c.text for t in texts for c in mechanism.copies(split_words(t))]
        votes = np.asarray(scorer.score(row.query, copies), dtype=np.float64)
        votes = np.sort(votes.reshape(len(texts), -1, blocks).mean(1), axis=1)
        score = votes.mean(1)
        smooth.append(rank_of_first(score.tolist()))
        top = int(score.argmax())
        for edits in held:
            bound = score + (1 - votes[:, :edits]).sum(1) / blocks
            bound[top] = -1
            held[edits] += bool(bound.max() < score[top])
    count = len(rows)
    return {
        "plain_mrr": round(sum(map(reciprocal_rank, plain)) / count, 4),
        "plain_ndcg": round(sum(map(ndcg_one_relevant, plain)) / count, 4),
        "smoothed_mrr": round(sum(map(reciprocal_rank, smooth)) / count, 4),
        "smoothed_ndcg": round(sum(map(ndcg_one_relevant, smooth)) / count, 4),
        **{f"certified_{edits}": round(number / count, 4) for edits, number in held.items()},
    }
