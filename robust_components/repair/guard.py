"""What a repair did on held-out probes, and whether it may stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from robust_components.attacks.attack import attacker_rank
from robust_components.attacks.metrics import boost, reciprocal_rank
from robust_components.checks import real
from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.protocols import PairScorer
from robust_components.repair.probes import Probe


@dataclass(frozen=True)
class Measured:
    """How a ranker does on attacked lists.

    Attributes:
        lists: lists with at least one document besides the target.
        succeeded: of them those in which the target gained a place, after sorting anew; ties count
            for the attacker.
        boost: places gained, mean over those lists.
        gain: what the attack adds to the target's score, mean over all probes.
        mrr, mrr_attacked: mean reciprocal rank of the first relevant document among the first 10,
            before and after the attack, over lists that name one; ``None`` if none does.
    """

    lists: int
    succeeded: int
    boost: float
    gain: float
    mrr: float | None
    mrr_attacked: float | None

    @property
    def success_rate(self) -> float:
        """Share of lists in which the attack succeeded; 0 without lists."""
        return self.succeeded / self.lists if self.lists else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Drift:
    """How far clean lists moved.

    Attributes:
        kendall_tau: mean rank correlation of a list's scores before and after, over lists of at
            least two documents; 1 without lists.
        largest: largest change of any clean document's score.
        spread: standard deviation of the clean scores before the repair.
    """

    kendall_tau: float
    largest: float
    spread: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Measuring:
    """Scores the same probes with a ranker before and after.

    Args:
        scorer: any point-wise scorer; logits, which do not saturate, say more than probabilities.
        probes: held out from the repair.
    """

    def __init__(self, scorer: PairScorer, probes: Sequence[Probe]) -> None:
        self.probes = list(probes)
        memo = MemoScorer(scorer)
        self.clean = [memo.score(p.query, p.documents) for p in self.probes]
        self.attacked = [memo.score(p.query, [p.adversarial])[0] for p in self.probes]

    def gains(self) -> list[float]:
        """What each attack adds to its target's score."""
        return [
            attacked - scores[probe.target]
            for probe, scores, attacked in zip(self.probes, self.clean, self.attacked, strict=True)
        ]

    def measured(self) -> Measured:
        """The figures."""
        ranks: list[tuple[int, int]] = []
        gains, before_attack, after_attack = self.gains(), [], []
        for probe, scores, attacked in zip(self.probes, self.clean, self.attacked, strict=True):
            after = list(scores)
            after[probe.target] = attacked
            if len(scores) > 1:
                ranks.append(
                    (attacker_rank(scores, probe.target), attacker_rank(after, probe.target))
                )
            if probe.relevant:
                before_attack.append(reciprocal_rank(scores, probe.relevant))
                after_attack.append(reciprocal_rank(after, probe.relevant))
        return Measured(
            lists=len(ranks),
            succeeded=sum(after < before for before, after in ranks),
            boost=boost(ranks) if ranks else 0.0,
            gain=float(np.mean(gains)) if gains else 0.0,
            mrr=float(np.mean(before_attack)) if before_attack else None,
            mrr_attacked=float(np.mean(after_attack)) if after_attack else None,
        )

    def drift(self, now: Measuring) -> Drift:
        """How far the clean scores of ``now`` are from these."""
        taus = []
        for before, after in zip(self.clean, now.clean, strict=True):
            if len(before) > 1:
                tau = float(kendalltau(before, after).statistic)
                if np.isnan(tau):  # one list has a single score; that is no ranking unless both do
                    tau = float(np.ptp(before) == np.ptp(after) == 0)
                taus.append(tau)
        first, last = np.concatenate(self.clean), np.concatenate(now.clean)
        return Drift(
            kendall_tau=float(np.mean(taus)) if taus else 1.0,
            largest=float(np.abs(first - last).max()),
            spread=float(first.std()),
        )


@dataclass(frozen=True)
class Limits:
    """What a repair may cost on clean lists.

    Args:
        kendall_tau: least mean rank correlation with the ranking before, in [-1, 1].
        mrr_loss: most that clean MRR@10 may fall, in [0, 1].
        drift: most that a clean score may move, in standard deviations of the clean scores.
    """

    kendall_tau: float = 0.85
    mrr_loss: float = 0.01
    drift: float = 2.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("kendall_tau", -1.0, 1.0),
            ("mrr_loss", 0.0, 1.0),
            ("drift", 0.0, math.inf),
        ):
            allowed = f"in [{least:g}, {most:g}]"
            value = real(name, getattr(self, name), _between(least, most), allowed, "see Limits")
            object.__setattr__(self, name, value)


def _between(least: float, most: float) -> Callable[[float], bool]:
    return lambda x: least <= x <= most


def objections(before: Measured, after: Measured, drift: Drift, limits: Limits) -> tuple[str, ...]:
    """Why the repair must be rolled back; empty if it may stay."""
    found = []
    if not all(map(math.isfinite, (after.gain, after.boost, drift.kendall_tau, drift.largest))):
        return ("the repaired ranker gives scores that are not finite",)
    if after.gain >= before.gain:
        found.append(
            f"held-out attacks gain {after.gain:.4g} in score, {before.gain:.4g} before the repair"
        )
    if after.succeeded > before.succeeded:
        found.append(
            f"{after.succeeded} of {after.lists} held-out attacks succeed, {before.succeeded} "
            "before the repair"
        )
    if drift.kendall_tau < limits.kendall_tau:
        found.append(
            f"clean rankings keep a Kendall tau of {drift.kendall_tau:.3f}, at least "
            f"{limits.kendall_tau} is asked for"
        )
    if (
        before.mrr is not None
        and after.mrr is not None
        and before.mrr - after.mrr > limits.mrr_loss
    ):
        found.append(
            f"clean MRR@10 falls from {before.mrr:.4f} to {after.mrr:.4f}, by more than "
            f"{limits.mrr_loss}"
        )
    if drift.largest > limits.drift * drift.spread:
        found.append(
            f"a clean score moves by {drift.largest:.3g}, more than {limits.drift} standard "
            f"deviations ({drift.spread:.3g} each)"
        )
    return tuple(found)
