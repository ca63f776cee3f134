"""One step of secure decoding in exact arithmetic, with and without an attacker.

:func:`reach` is the only place where a lead is compared with a threshold. Decoding calls it
without newcomers, certification with them, so the two cannot disagree.

A probability enters as an integer number of units of 2**-40, rounded down, with each distribution
adding up to at most 2**40 units. Sums of integers do not depend on their order, and no float is
compared with a threshold.

Source: Xiang et al. 2024 (arXiv 2405.15556), Algorithms 2 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import exact_decimal, positive_integer

SCALE = 2**40
"""Units in a probability of 1."""

SUM_TOLERANCE = 1e-4
"""A distribution that exceeds 1 by at most this is scaled to 1; beyond it, the row failed."""

MAX_PASSAGES = 1000
MAX_TOKENS = 10_000
MAX_ETA_DENOMINATOR = 1000
"""With both limits, and at most MAX_PASSAGES newcomers, every total below fits into 63 bits."""

Integers = NDArray[np.int64]
Voter = tuple[int, ...]
"""Indices of a source's responding passages, which have one vote: their mean distribution."""


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """Parameters of Algorithm 2; decimals may be given as text, so that they stay exact.

    Args:
        gamma: a passage abstains when its Pr["I don't know"] is at least this, in (0, 1].
        eta: lead a token needs, as a share of the responding sources, in [0, 1); at most three
            decimals.
        max_tokens: tokens of an answer at most (T), end-of-sequence included; at least 1.
        numerical_margin: what floating point may change in a lead or in Pr["I don't know"], in
            [0, 0.1]. Certification takes anything closer to its threshold to fall on either side.
        tracked_tokens: leading tokens certification follows one by one at each step, at least 2;
            the others enter through a bound, which can only cost tightness.
        abstention: the answer when no source responds.

    Raises:
        ValueError: a value outside its range.
        TypeError: ``max_tokens`` or ``tracked_tokens`` is no integer.
    """

    gamma: str | float | Fraction = "0.99"
    eta: str | float | Fraction = "0"
    max_tokens: int = 64
    numerical_margin: str | float | Fraction = "0.000001"
    tracked_tokens: int = 256
    abstention: str = "I don't know"

    def __post_init__(self) -> None:
        ranges = {"gamma": "in (0, 1]", "eta": "in [0, 1)", "numerical_margin": "in [0, 0.1]"}
        gamma, eta, margin = (
            exact_decimal(name, getattr(self, name), allowed) for name, allowed in ranges.items()
        )
        inside = (0 < gamma <= 1, 0 <= eta < 1, 0 <= margin <= Fraction(1, 10))
        for (name, allowed), fits in zip(ranges.items(), inside, strict=True):
            value = getattr(self, name)
            if not fits:
                raise ValueError(f"{name} must be {allowed}, got {value!r}; choose one inside")
            object.__setattr__(self, name, _plain(value))
        if self.exact_eta.denominator > MAX_ETA_DENOMINATOR:
            raise ValueError(
                f"eta must have at most three decimals, got {self.eta}; round it, e.g. to 0.125"
            )
        for name, minimum in (("max_tokens", 1), ("tracked_tokens", 2)):
            object.__setattr__(self, name, positive_integer(name, getattr(self, name), minimum))
        if self.max_tokens > MAX_TOKENS:
            raise ValueError(f"max_tokens must be <= {MAX_TOKENS}, got {self.max_tokens}; lower it")

    @cached_property
    def exact_eta(self) -> Fraction:
        return Fraction(str(self.eta))

    @cached_property
    def margin(self) -> int:
        """``numerical_margin`` in units of 2**-40, rounded up."""
        exact = Fraction(str(self.numerical_margin)) * SCALE
        return -(-exact.numerator // exact.denominator)

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _plain(value: Any) -> str:
    """A number as it was given, or as a fraction where that has an exponent or a sign."""
    text = str(value).strip()
    return str(Fraction(text)) if set(text) & set("eE+-") else text


@dataclass(frozen=True)
class Reach:
    """What can come next in each of several scenarios (rows).

    Attributes:
        wins: bool (scenarios, tokens): the token can lead by more than the threshold.
        falls_back: bool (scenarios,): the lead can be too small, so that the no-retrieval token
            is emitted.
        unbounded: bool (scenarios,): a token outside the given ones can win.
    """

    wins: NDArray[np.bool_]
    falls_back: NDArray[np.bool_]
    unbounded: NDArray[np.bool_]


def reach(
    sums: Integers,
    rest: Integers,
    *,
    voters: Integers,
    newcomers: Integers,
    eta: Fraction,
    margin: int = 0,
    joins: bool = False,
) -> Reach:
    """The step of Algorithm 2 under attack; without newcomers, the step itself.

    With benign sums S over n sources, e hostile sources that respond, and N = n + e:

    * token t can win iff S(t) + e - max over u != t of S(u) > N*eta. The attackers add some
      Q >= 0 of total mass at most e, which moves S(t) - S(u) by at most e; Q = e on t attains it.
    * the fallback is reachable iff S(a) - S(b) - e <= N*eta for the leading a and the second b.
      While a leads, its lead is at least S(a) - S(b) - e; once another token leads, e was at
      least S(a) - S(b). Adding min(e, S(a) - S(b)) to b attains the larger of that and 0.
    * both conditions are monotone in e since eta < 1, so the largest e stands for all smaller.

    Args:
        sums: (scenarios, tokens), S in units of 2**-40, without the newcomers.
        rest: (scenarios,), at least S of any token not among ``tokens``; 0 when there is none.
        voters: (scenarios,), n.
        newcomers: (scenarios,), the largest e.
        eta: the threshold's share.
        joins: whether a newcomer may be one more passage of a source in S, whose mean it enters.
            That moves S(t) - S(u) by at most 1, too, but does not raise N.
        margin: how close to a threshold both outcomes count as possible, in units of 2**-40.
            With margin 0 and no newcomers exactly one outcome is possible: one token wins, or
            the lead is too small.
    """
    most = sums.max(axis=1)
    where = sums.argmax(axis=1)
    second = np.zeros_like(most)
    if sums.shape[1] > 1:
        second = np.partition(sums, sums.shape[1] - 2, axis=1)[:, -2]
    threshold = (voters + newcomers) * (eta.numerator * SCALE)
    fewest = voters * (eta.numerator * SCALE) if joins else threshold
    slack = margin * eta.denominator
    gain = newcomers * SCALE
    strongest_other = np.repeat(most[:, None], sums.shape[1], axis=1)
    strongest_other[np.arange(len(sums)), where] = second
    lead = (sums + gain[:, None] - strongest_other) * eta.denominator
    smallest_gap = (most - np.maximum(second, rest) - gain) * eta.denominator
    outside = (rest + gain - most) * eta.denominator
    return Reach(
        wins=lead > (fewest - slack)[:, None],
        falls_back=smallest_gap <= threshold + slack,
        unbounded=outside > fewest - slack,
    )


@dataclass(frozen=True)
class StepTable:
    """What every responding passage says after one prefix, in units of 2**-40.

    Attributes:
        prefix: tokens so far.
        emitted: the token Algorithm 2 emits.
        fell_back: whether it is the no-retrieval token for want of a lead.
        tokens: (tokens,), ids of the tracked tokens, ascending.
        mass: (passages, tokens), each passage's probability of each tracked token; rows of
            passages that do not respond are 0.
        rest: (passages,), each passage's largest probability of a token not tracked.
        rest_total: the largest sum over all passages of a token not tracked.
    """

    prefix: tuple[int, ...]
    emitted: int
    fell_back: bool
    tokens: Integers
    mass: Integers
    rest: Integers
    rest_total: int

    def votes(self, voters: Sequence[Voter]) -> tuple[Integers, Integers]:
        """``mass`` (voters, tokens) and ``rest`` (voters,) of sources: means, rounded down."""
        first = [voter[0] for voter in voters]
        mass, rest = self.mass[first], self.rest[first]
        for at, voter in enumerate(voters):
            if len(voter) > 1:
                mass[at] = self.mass[list(voter)].sum(axis=0) // len(voter)
                rest[at] = self.rest[list(voter)].sum() // len(voter)
        return mass, rest


def fixed_point(distributions: NDArray[np.float64]) -> tuple[Integers, NDArray[np.bool_]]:
    """Distributions (rows, vocabulary) in units of 2**-40, and which rows are sound.

    A sound row has no NaN, no infinity, no negative value and a sum of at most
    1 + ``SUM_TOLERANCE``; it is scaled to a sum of at most 1 and rounded down. Others become 0.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        total = distributions.sum(axis=1)
        sound = (distributions.min(axis=1) >= 0) & (total <= 1 + SUM_TOLERANCE)
        scaled = distributions * (SCALE / np.maximum(total, 1.0))[:, None]
    scaled[~sound] = 0.0
    units = scaled.astype(np.int64)
    excess = units.sum(axis=1) - SCALE
    for row in np.flatnonzero(excess > 0):
        units[row, units[row].argmax()] -= excess[row]
    return units, sound


def shorten(
    full: StepTable, sums: Integers, emitted: int, fell_back: bool, tracked: int
) -> StepTable:
    """Keep the tokens with the largest totals and the two leading ones; bound the others."""
    totals = full.mass.sum(axis=0)
    kept = np.ones(len(totals), dtype=bool)
    if len(totals) > tracked:
        kept[:] = False
        kept[np.argpartition(totals, -tracked)[-tracked:]] = True
        kept[np.argpartition(sums, -2)[-2:]] = True
    others = full.mass.copy()
    others[:, kept] = 0
    totals[kept] = 0
    return StepTable(
        prefix=full.prefix,
        emitted=emitted,
        fell_back=fell_back,
        tokens=np.flatnonzero(kept),
        mass=full.mass[:, kept],
        rest=others.max(axis=1, initial=0),
        rest_total=int(totals.max(initial=0)),
    )
