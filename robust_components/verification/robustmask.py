"""The arithmetic of the published RobustMask rule, which is not sound (arXiv 2512.23307, eq. 18).

Checked is that the rule was applied as published, so that a heuristic certificate says what it
says; not that the claim holds.

Evidence: ``inputs`` (digests), ``documents`` (``words``, ``estimate``), ``inside``, and ``rule``
for the document at rank K + 1 (``gap``, ``words``, ``shown``, ``betas`` for 1, 2, .. edits), or
null.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from fractions import Fraction
from typing import Any

from robust_components.verification.listed import check_order
from robust_components.verification.reading import UnverifiableError, listing, shown, whole
from robust_components.verification.sampled_ranking import Masks
from robust_components.verification.word_edits import (
    MAX_DOCUMENTS,
    MAX_WORDS,
    UNIT,
    exact_keys,
    input_hashes,
    read_setting,
    stated_problems,
)

LARGEST = 100
"""The rule is tried up to this budget, or that of the threat."""


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate by the published rule."""
    setting = read_setting(certificate)
    masks = Masks(setting)
    if setting.scope != "promotion" or setting.observed:
        raise UnverifiableError("The published rule is about documents below rank K, before edits.")
    entries = {"inputs", "documents", "inside", "rule"}
    evidence = exact_keys(certificate["evidence"], "evidence", entries)
    rows = listing(evidence["documents"], "evidence['documents']", MAX_DOCUMENTS)
    input_hashes(evidence, len(rows))
    for index, row in enumerate(rows):
        place = f"evidence['documents'][{index}]"
        exact_keys(row, place, {"words", "estimate"})
        whole(row["words"], f"{place}['words']", 0, MAX_WORDS)
        whole(row["estimate"], f"{place}['estimate']", 0, UNIT)
    order = check_order(setting, [row["estimate"] for row in rows], evidence["inside"])
    limit = max(setting.budget, LARGEST)
    radius = limit if setting.k else 0
    if (evidence["rule"] is None) != (setting.k == len(rows)):
        raise UnverifiableError(f"evidence['rule'] does not fit: {shown(evidence['rule'])}.")
    if evidence["rule"] is not None:
        last, first = (rows[i] for i in order[setting.k - 1 : setting.k + 1])
        radius = yield from _rule(evidence["rule"], masks, last, first, limit)
    yield from stated_problems(
        certificate, setting, radius=radius, unlimited=limit + 1, about="set", published=True
    )


def _rule(
    stated: Any, masks: Masks, last: Mapping[str, Any], first: Mapping[str, Any], limit: int
) -> Generator[str, None, int]:
    rule = exact_keys(stated, "evidence['rule']", {"gap", "words", "shown", "betas"})
    words, visible = first["words"], masks.shown(first["words"])
    due = {"gap": last["estimate"] - first["estimate"], "words": words, "shown": visible}
    for name, value in due.items():
        if isinstance(rule[name], bool) or rule[name] != value:
            yield f"evidence['rule'][{name!r}] is {shown(rule[name])}, but {value} follows."
    betas = listing(rule["betas"], "evidence['rule']['betas']", limit)
    alpha = Fraction(1, _capped_choices(words, visible))
    held = 0
    for beta in betas:
        share = masks.share(words, held + 1)
        if not due["gap"] > alpha * whole(beta, "a beta", 0, UNIT) * share:
            break
        held += 1
    if len(betas) != min(held + 1, limit):
        raise UnverifiableError("evidence['rule']['betas'] must end where the rule fails.")
    return held


def _capped_choices(words: int, visible: int) -> int:
    """C(words, visible), or one more than UNIT: beyond that the rule certifies any gap."""
    count = 1
    for i in range(min(visible, words - visible)):
        count = count * (words - i) // (i + 1)
        if count > UNIT:
            return UNIT + 1
    return count
