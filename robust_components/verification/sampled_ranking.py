"""The arithmetic of random masks: confidence bounds, moved by the share of masks that see an edit.

R edited words of T are seen by at most the share 1 - C(T-R, s) / C(T, s) of the masks that show s
words, and a mean over masks moves by no more. What is checked of the bounds themselves: their
level, that the number of samples can support them at all, and for Clopper-Pearson bounds that they
follow from the counts. That betting bounds follow from the samples, which are not kept, rests on
who signed the certificate.

Evidence of ``sampled_ranking``: ``inputs`` (digests), ``documents`` (``words``, ``estimate``,
``samples``, ``low``, ``high`` and for Clopper-Pearson ``wins``) in the given order, ``inside``. Of
``sampled_document``: the same of one, with a digest of the list of ``candidates`` among the inputs,
``inside``, ``rivals``, ``documents``, and ``longest``, the words of the longest document.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from robust_components.verification.listed import (
    Reach,
    check_order,
    read_rivals,
    set_holds,
    stated_radius,
)
from robust_components.verification.reading import UnverifiableError, Work, listing, shown, whole
from robust_components.verification.word_edits import (
    MAX_DOCUMENTS,
    MAX_WORDS,
    UNIT,
    Setting,
    document_hashes,
    exact_keys,
    input_hashes,
    number,
    read_setting,
    stated_problems,
)

PLACES = 256
EXTRA = ("alpha", "bound", "bound_level")


class Masks:
    """Random masks: how many words they show, and how far edits move a mean over them."""

    def __init__(self, setting: Setting) -> None:
        if not setting.sampled or setting.quantile is not None or setting.terms is not None:
            raise UnverifiableError("Only means over random masks are sampled.")
        self.setting = setting
        self.rate = Fraction(str(setting.mechanism["mask_rate"]))
        self.most: int = setting.mechanism["samples"]
        self.margin = 2 * setting.margin
        self.work = Work()
        self._known: dict[tuple[int, int], int] = {}

    def shown(self, words: int) -> int:
        return min(words, max(1, words - round(self.rate * words)))

    def share(self, words: int, edits: int) -> Fraction:
        """Largest share of masks that see one of ``edits`` words."""
        visible = self.shown(words)
        edits = min(edits, words)
        if edits + visible > words:
            return Fraction(int(words > 0))
        fewer, more = sorted((edits, visible))
        self.work.spend(fewer * fewer // 100 + 1)
        missed = math.prod(range(words - more - fewer + 1, words - more + 1))
        return 1 - Fraction(missed, math.prod(range(words - fewer + 1, words + 1)))

    def shift(self, words: int, edits: int) -> int:
        """The share in units, rounded up."""
        if (words, edits) not in self._known:
            self._known[words, edits] = math.ceil(self.share(words, edits) * UNIT)
        return self._known[words, edits]

    def reach(self, document: Mapping[str, Any], budget: int, inside: bool) -> Reach:
        """The least and the greatest mean within ``budget`` edits, by the bounds."""
        low, high = document["low"], document["high"]
        if not self.setting.editable(inside):
            return low, high
        shift = self.shift(document["words"], budget)
        return max(0, low - shift), min(UNIT, high + shift)

    def check(self, document: Mapping[str, Any], place: str, level: Fraction) -> None:
        """Whether the bounds of one document can be right."""
        whole(document["words"], f"{place}['words']", 0, MAX_WORDS)
        for name in ("estimate", "low", "high"):
            whole(document[name], f"{place}[{name!r}]", 0, UNIT)
        count = whole(document["samples"], f"{place}['samples']", 0, self.most)
        low, high = document["low"], document["high"]
        if low > high:
            raise UnverifiableError(f"{place}['low'] is above its 'high'.")
        if "wins" in document:
            wins = whole(document["wins"], f"{place}['wins']", 0, count)
            self._check_counts(wins, count, low, level, f"{place}['low']")
            self._check_counts(count - wins, count, UNIT - high, level, f"{place}['high']")
            return
        self.work.spend(count // 10)
        for bound, name in ((low, "low"), (UNIT - high, "high")):
            # Even if all samples were 1 (or 0), no test at this level can refute more.
            if bound and bound**count * level.denominator > level.numerator * UNIT**count:
                raise UnverifiableError(
                    f"{count} samples cannot support {place}[{name!r}] at level {level}."
                )

    def _check_counts(self, wins: int, count: int, low: int, level: Fraction, name: str) -> None:
        """Clopper-Pearson: were the mean ``low``, so many wins would be too unlikely."""
        self.work.spend(count)
        if low and upper_tail(wins, count, low) > level:
            raise UnverifiableError(f"{wins} of {count} do not support {name} at level {level}.")


def upper_tail(wins: int, count: int, mean: int) -> Fraction:
    """Probability of at least ``wins`` successes of ``count`` with probability ``mean`` / UNIT.

    Rounded up: exact to many places for a ``mean`` below wins / count, where a lower bound must be.
    """
    if wins == 0 or mean == UNIT:
        return Fraction(1)
    failure = UNIT - mean
    first = math.comb(count, wins) * mean**wins * failure ** (count - wins)
    term = -(-(first << PLACES) // UNIT**count)
    total = term
    for successes in range(wins, count):
        term = -(-term * (count - successes) * mean // ((successes + 1) * failure))
        total += term
    return Fraction(total, 1 << PLACES)


def read_levels(certificate: Mapping[str, Any], bounds: int) -> tuple[Fraction, set[str]]:
    """The level of one of ``bounds`` bounds that share alpha, and the entries of a document."""
    parameters = certificate["parameters"]
    alpha = number(parameters["alpha"], "parameters['alpha']")
    level = number(parameters["bound_level"], "parameters['bound_level']")
    if not 0 < alpha < 1 or certificate["confidence"] != float(1 - alpha):
        raise UnverifiableError(
            f"The confidence {certificate['confidence']} is not 1 - {shown(parameters['alpha'])}."
        )
    if level * bounds != alpha:
        raise UnverifiableError(f"Each bound must have level alpha / {bounds}, got {level}.")
    if parameters["bound"] not in ("betting", "clopper_pearson"):
        raise UnverifiableError(f"The bound {shown(parameters['bound'])} is unknown.")
    entries = {"words", "estimate", "samples", "low", "high"}
    return level, entries | ({"wins"} if parameters["bound"] == "clopper_pearson" else set())


def ranking_problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate of a top-K set: one conjunctive claim, two bounds a pair."""
    setting = read_setting(certificate, *EXTRA)
    masks = Masks(setting)
    level, entries = read_levels(certificate, 2)
    evidence = exact_keys(certificate["evidence"], "evidence", {"inputs", "documents", "inside"})
    rows = listing(evidence["documents"], "evidence['documents']", MAX_DOCUMENTS)
    input_hashes(evidence, len(rows))
    for index, row in enumerate(rows):
        place = f"evidence['documents'][{index}]"
        masks.check(exact_keys(row, place, entries), place, level)
    order = check_order(setting, [row["estimate"] for row in rows], evidence["inside"])
    inside = set(order[: setting.k])
    saturation = max([1, *(row["words"] for row in rows)])
    cap = max(saturation, setting.budget)

    def holds(budget: int) -> bool:
        masks.work.spend(len(rows))
        reach = [masks.reach(row, budget, i in inside) for i, row in enumerate(rows)]
        return set_holds(reach, order, setting.k, masks.margin)

    radius = stated_radius(certificate["radius"], setting.k, saturation, cap, holds)
    yield from stated_problems(certificate, setting, radius=radius, unlimited=cap, about="set")


def document_problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate of one document, which stands beside those of the others."""
    setting = read_setting(certificate, *EXTRA)
    masks = Masks(setting)
    count = whole(certificate["evidence"].get("documents"), "evidence['documents']", 1)
    level, entries = read_levels(certificate, 2 * count)
    extra = {"inputs", "inside", "rivals", "documents", "longest"}
    evidence = exact_keys(certificate["evidence"], "evidence", entries | extra)
    document_hashes(evidence)
    masks.check(evidence, "evidence", level)
    least = max(1, evidence["words"])
    saturation = whole(evidence["longest"], "evidence['longest']", least, MAX_WORDS)
    cap = max(saturation, setting.budget)
    rivals = read_rivals(certificate, setting, cap)
    radius = stated_radius(
        certificate["radius"],
        setting.k,
        saturation,
        cap,
        lambda b: rivals.hold(b, masks.reach(evidence, b, rivals.inside), masks.margin),
    )
    yield from stated_problems(
        certificate,
        setting,
        radius=radius,
        unlimited=cap,
        about="inside" if rivals.inside else "outside",
    )
