"""The published CluCERT rule (arXiv 2512.08967), for comparison only: it is not sound.

All masked copies are clustered together, votes outside the largest cluster are dropped, and the
same votes choose the label c and bound its probability p by Clopper-Pearson at level alpha. The
rule certifies d edited words of n when

    p_low - gamma * Delta_d > 1/2,   Delta_d = 1 - C(n-d, k) / C(n, k),   gamma = p_low,

with k words visible. Dropping votes biases p (its interval covers the truth never, in simulation);
label and bound must not share samples; and an attacker gains up to Delta_d whatever p is: n=10,
k=3, p=.725 is "certified" for one word while the true worst case is .425.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from robust_components.bounds import clopper_pearson_lower, overlap_probability
from robust_components.classification import wording
from robust_components.classification.certificates import Outcome
from robust_components.classification.plan import Counting, Finding, Plan, Subject
from robust_components.classification.stages import Stages
from robust_components.classification.votes import UNIT
from robust_components.smoothing import RandomMask

PUBLISHED_MASK_RATE = 0.4


def published_plan(
    subject: Subject,
    mechanism: RandomMask,
    counting: Counting,
    alpha: float,
    stages: Stages,
) -> Plan:
    """Apply the rule to copies refined and substituted by ``stages``.

    Its clustering keeps the votes of the largest cluster of all copies; all votes without it.
    """
    words = subject.words
    number = mechanism.samples if words else 0
    masked = [copy.text for copy in mechanism.sample(words, number, mechanism.generator())]
    copies = [stages.variant(copy) for copy in masked]
    votes = yield [copy or None for copy in copies]
    kept: Sequence[int] = range(len(copies))
    if stages.cluster is not None and copies:
        kept = sorted(stages.cluster.largest(copies))
    ballots = counting.count([votes[i] for i in kept])
    winner = ballots.winner
    wins = 0 if winner is None else int(ballots.totals[winner])
    low, radius = 0, -1
    if winner is not None:
        # rounded to the units the verifier knows, not outwards: nothing rests on this rule
        low = round(clopper_pearson_lower(wins, len(ballots), alpha) * UNIT)
        radius = published_radius(len(words), mechanism.shown(len(words)), Fraction(low, UNIT))
    label = None if winner is None else ballots.labels[winner]
    why = wording.NO_VOTES if words else wording.NO_WORDS
    outcome = Outcome(
        method="clucert",
        label=label,
        radius=max(radius, -1 if label is None else 0),
        why=why if label is None else None,
        evidence={
            "words": len(words),
            "labels": list(ballots.labels),
            "votes": ballots.plain(),
            "drawn": len(copies),
            "low": low,
        },
        failed=int(ballots.failed.sum()),
        parameters={"alpha": str(alpha)},
    )
    return Finding(outcome, ballots)


def published_radius(words: int, shown: int, low: Fraction) -> int:
    """Largest number of edits the rule certifies; -1 when ``low`` is not above 1/2."""
    edits = -1
    while edits < words:
        share = overlap_probability(words, shown, edits + 1) if edits + 1 else Fraction(0)
        if not low - low * share > Fraction(1, 2):
            return edits
        edits += 1
    return edits
