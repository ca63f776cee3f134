"""The arithmetic of votes over random masked copies.

d edited words change at most the share Delta of all masks, so a label keeps its lead over a rival
if p_c - p_j > 2 Delta. Betting bounds are checked by betting: were the mean of
x = (1 + f_c - f_j) / 2 at most 1/2 + Delta, the capital of a gambler who stakes against that would
exceed 1/alpha with probability alpha at most (Ville); so the recorded votes, in order, must make it
do so for every rival, at the stated radius and not at the next. Clopper-Pearson bounds follow from
the counts. The label must lead in the first sample, which no bound rests on.

Evidence: ``inputs`` (digests), ``refined``, ``label``, ``words``, ``labels``, ``selection`` (votes
of the first sample), ``votes`` (of the second, in order) and ``repeats``: how often equal copies
were asked again and how often they differed, or null.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from robust_components.verification.classification import (
    Rivals,
    elected,
    read_votes,
    rivals_of,
)
from robust_components.verification.classified_text import (
    MAX_LABELS,
    Terms,
    check_inputs,
    read_terms,
    stated_label,
    stated_problems,
)
from robust_components.verification.reading import (
    UnverifiableError,
    Work,
    distinct_texts,
    listing,
    shown,
    whole,
)
from robust_components.verification.sampled_ranking import upper_tail
from robust_components.verification.word_edits import MAX_WORDS, UNIT, exact_keys, number

MAX_SAMPLES = 100_000
ENOUGH_REPEATS = 20
TRUNCATION = 0.5
BELOW, ABOVE = 1e-6, 1e-5
"""How far a logarithm of capital may be off by rounding, at the radius and at the next one."""
UNITS_OFF = 4
"""How many units of 1e-9 a Clopper-Pearson bound may be off, rounded outwards."""

CACHED = (
    "Equal copies got equal responses in all of {asked} repetitions: the model looks cached or "
    "deterministic, so its samples are not independent draws; switch its cache off, or pass "
    "randomised=False if it is deterministic."
)


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate from random masks."""
    terms = read_terms(certificate, "alpha", "bound", "randomised", "trust_draws")
    sample = Sample(certificate, terms)
    label, radius, why = sample.outcome(certificate["radius"])
    yield from stated_problems(
        certificate,
        terms,
        label=label,
        radius=radius,
        failed=sample.failed,
        why=why,
        kind="sampled",
        randomised=sample.randomised,
    )


class Sample:
    """The two samples of a certificate.

    Attributes:
        failed: failed copies of the second sample.
        randomised: whether the model draws anew for every copy.
    """

    def __init__(self, certificate: Mapping[str, Any], terms: Terms) -> None:
        parameters, self.terms = certificate["parameters"], terms
        if terms.mechanism["name"] != "random_mask":
            raise UnverifiableError("Only random masks are sampled.")
        self.alpha = number(parameters["alpha"], "parameters['alpha']")
        if not 0 < self.alpha < 1 or certificate["confidence"] != float(1 - self.alpha):
            raise UnverifiableError(f"The confidence is not 1 - {shown(parameters['alpha'])}.")
        self.bound = parameters["bound"]
        if self.bound not in ("betting", "clopper_pearson"):
            raise UnverifiableError(f"The bound {shown(self.bound)} is unknown.")
        for name in ("randomised", "trust_draws"):
            if not isinstance(parameters[name], bool):
                raise UnverifiableError(f"parameters[{name!r}] must be true or false.")
        self.randomised = parameters["randomised"]
        evidence = exact_keys(
            certificate["evidence"],
            "evidence",
            {"inputs", "refined", "label", "words", "labels", "selection", "votes", "repeats"},
        )
        check_inputs(evidence, terms)
        words = whole(evidence["words"], "evidence['words']", 1, MAX_WORDS)
        self.slots, self.visible = terms.slots(words), terms.shown(words)
        self.work = Work()
        self._read(evidence)
        self.repeats = self._repeats(evidence["repeats"], parameters["trust_draws"])
        self.stated = stated_label(evidence)

    def _read(self, evidence: Mapping[str, Any]) -> None:
        terms, most = self.terms, self.terms.mechanism["samples"]
        self.labels = distinct_texts(evidence["labels"], "evidence['labels']", MAX_LABELS)
        first = listing(evidence["selection"], "evidence['selection']", MAX_SAMPLES)
        second = listing(evidence["votes"], "evidence['votes']", min(most, MAX_SAMPLES))
        self.work.spend((len(first) + len(second)) * len(self.labels) // 100)
        self.selection, _ = read_votes(first, self.labels, terms)
        self.votes, self.failures = read_votes(second, self.labels, terms)
        self.failed = int(self.failures.sum())
        known = np.concatenate([self.selection, self.votes])
        if terms.labels is None:
            fits = self.labels == sorted(self.labels) and bool(known.any(axis=0).all())
        else:
            fits = self.labels == terms.labels
        if not fits or not first:
            raise UnverifiableError("evidence['labels'] and the votes do not fit.")
        fixed_number = self.bound == "clopper_pearson"
        if fixed_number and (terms.soft or len(second) not in (0, most)):
            raise UnverifiableError("Clopper-Pearson needs labels, as many as were fixed before.")

    def _repeats(self, value: Any, trusted: bool) -> list[int] | None:
        if value is None:
            if self.randomised and not trusted and len(self.votes):
                raise UnverifiableError("evidence['repeats'] is missing.")
            return None
        pair = listing(value, "evidence['repeats']", 2)
        if len(pair) != 2 or not self.randomised or trusted:
            raise UnverifiableError(f"evidence['repeats'] does not fit: {shown(value)}.")
        asked = whole(pair[0], "evidence['repeats'][0]", ENOUGH_REPEATS)
        return [asked, whole(pair[1], "evidence['repeats'][1]", 0, asked)]

    def outcome(self, radius: int) -> tuple[str | None, int, str | None]:
        """The label, the stated radius if it follows and else another one, and why not more."""
        leader = elected(self.selection)
        if leader is None:
            return None, 0, "No masked copy voted for a label."
        label = self.labels[leader]
        if not len(self.votes):
            raise UnverifiableError("evidence['votes'] is empty.")
        if self.repeats is not None and not self.repeats[1]:
            return label, 0, CACHED.format(asked=self.repeats[0])
        self.rivals = rivals_of(leader, self.votes, self.failures, self.terms)
        if self.stated is None and self._follows(-1, radius):
            return None, 0, "No label leads all others by more than chance explains."
        return label, radius if self._follows(radius, radius) else radius + 1, None

    def _follows(self, edits: int, stated: int) -> bool:
        """Whether ``edits`` edits, and no more, are withstood."""
        held = edits < 0 or self._holds(edits, lenient=True)
        return held and not (edits < self.slots and self._holds(edits + 1, lenient=False))

    def _holds(self, edits: int, *, lenient: bool) -> bool:
        """Whether the lead is proved after ``edits`` edits.

        ``lenient`` decides what rounding leaves open: for the claim, or against a larger one.
        """
        share = self.share(edits)
        margin = Fraction(self.terms.margin, UNIT)
        if self.bound == "clopper_pearson":
            return self._counts_prove(share, UNITS_OFF if lenient else -UNITS_OFF)
        against = float(Fraction(1, 2) + share + margin)
        if against >= 1:
            return False
        goal = math.log(1 / self.alpha) + (-BELOW if lenient else ABOVE)
        return all(self._capital(row, against) >= goal for row in self._bets(self.rivals))

    def share(self, edits: int) -> Fraction:
        """Largest share of samples that ``edits`` edits change."""
        n, k, edits = self.slots, self.visible, min(edits, self.slots)
        if self.terms.variation is None:
            return self._seen(n, k, edits)
        agree = 1 - self.terms.variation
        if agree == 1:
            return Fraction(0)
        missed = Fraction(0)
        self.work.spend(n * k // 100)
        for seen in range(max(0, k - n + edits), min(edits, k) + 1):
            missed += math.comb(edits, seen) * math.comb(n - edits, k - seen) * agree**seen
        return 1 - missed / math.comb(n, k)

    def _seen(self, words: int, visible: int, edits: int) -> Fraction:
        """Share of masks that show one of ``edits`` words."""
        if edits + visible > words:
            return Fraction(1)
        fewer, more = sorted((edits, visible))
        self.work.spend(fewer * fewer // 100 + 1)
        missed = math.prod(range(words - more - fewer + 1, words - more + 1))
        return 1 - Fraction(missed, math.prod(range(words - fewer + 1, words + 1)))

    def _bets(self, rivals: Rivals) -> Iterator[list[float]]:
        """What is bet on against each rival: one row of x a rival, without "no label"."""
        for losses in rivals.losses[1:]:
            yield (losses / (2 * self.terms.scale)).tolist()

    def _capital(self, values: list[float], mean: float) -> float:
        """Largest logarithm of capital of one who bets against "the mean is ``mean``".

        Predictable plug-in bets (Waudby-Smith & Ramdas 2024, section 4): any stakes known before
        the value are valid, and these are the ones used.
        """
        self.work.spend(len(values))
        target = math.log(1 / self.alpha)
        total, squares, before = 0.5, 0.25, 0.25
        capital, best = 0.0, -math.inf
        for count, value in enumerate(values, 1):
            stake = math.sqrt(2 * target / (before * count * math.log1p(count)))
            capital += math.log1p(min(stake, TRUNCATION / mean) * (value - mean))
            best = max(best, capital)
            total += value
            squares += (value - total / (count + 1)) ** 2
            before = squares / (count + 1)
        return best

    def _counts_prove(self, share: Fraction, slack: int) -> bool:
        """Clopper-Pearson at alpha / 2 each: p_low of the label, p_up of the strongest rival."""
        leads = self.rivals.losses[0]
        wins, count = int(leads.sum()), len(self.votes)
        most = max(wins - int(lead) for lead in self.rivals.leads[1:])
        low = self._lower(wins, count)
        up = min(UNIT - low, UNIT - self._lower(count - most, count))
        return Fraction(low - up + slack, UNIT) > 2 * share

    def _lower(self, wins: int, count: int) -> int:
        """The largest mean, in units, that so many wins refute at level alpha / 2."""
        low, high = 0, UNIT * wins // count
        self.work.spend(count * 32)
        while low < high:
            middle = (low + high + 1) // 2
            if upper_tail(wins, count, middle) <= self.alpha / 2:
                low = middle
            else:
                high = middle - 1
        return low
