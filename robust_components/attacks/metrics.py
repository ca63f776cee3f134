"""What attacks on a ranked list did: success, places gained, reciprocal ranks, displacement."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from robust_components.attacks.attack import attacker_rank


def attack_success_rate(ranks: Sequence[tuple[int, int]]) -> float:
    """ASR: share of targets that gained a place, from their ranks before and after.

    Raises:
        ValueError: there is no target.
    """
    _some(ranks)
    return sum(after < before for before, after in ranks) / len(ranks)


def boost(ranks: Sequence[tuple[int, int]]) -> float:
    """Places gained, mean over targets; negative where targets fell.

    Raises:
        ValueError: there is no target.
    """
    _some(ranks)
    return sum(before - after for before, after in ranks) / len(ranks)


def reciprocal_rank(scores: Sequence[float], relevant: Collection[int], depth: int = 10) -> float:
    """1 / rank of the first relevant document, ties counting against it; 0 below ``depth``.

    The mean over lists is MRR: CMRR on clean lists, RMRR on attacked ones.
    """
    if not relevant:
        return 0.0
    best = max(scores[i] for i in relevant)
    rank = 1 + sum(score >= best for i, score in enumerate(scores) if i not in relevant)
    return 1.0 / rank if rank <= depth else 0.0


def squared_displacement(
    before: Sequence[float], after: Sequence[float], target: int
) -> tuple[float, float]:
    """LSD of one list: mean squared change of rank, raw and over its greatest value.

    Ties count for the target and keep the order of the list otherwise. The greatest value belongs
    to the reversed list of n documents: (n^2 - 1) / 3.

    Args:
        before, after: scores of the list before and after the attack.
        target: index of the attacked document.

    Raises:
        ValueError: the lists differ in length or are empty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(
            f"two lists of the same documents are needed, got {len(before)} and {len(after)} scores"
        )
    number = len(before)
    first, second = (_ranks(scores, target) for scores in (before, after))
    raw = sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / number
    return raw, raw / ((number**2 - 1) / 3) if number > 1 else 0.0


def _ranks(scores: Sequence[float], target: int) -> list[int]:
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i != target, i))
    ranks = [0] * len(scores)
    for rank, index in enumerate(order, start=1):
        ranks[index] = rank
    assert ranks[target] == attacker_rank(scores, target)
    return ranks


def _some(ranks: Sequence[tuple[int, int]]) -> None:
    if not ranks:
        raise ValueError("at least one target is needed, got none; attack some lists first")
