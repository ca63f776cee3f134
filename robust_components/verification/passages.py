"""What the certificates of answers from ranked passages have in common.

Written from the theory of isolate-then-aggregate (Xiang et al. 2024, arXiv 2405.15556), not from
the components: the ranked list in the evidence, how injection shortens it, the sentence of the
claim, and the score against gold answers.
"""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robust_components.verification.reading import (
    Unverifiable,
    distinct_texts,
    entry,
    listing,
    shown,
    whole,
)

MAX_PASSAGES = 1000
MAX_TEXT = 100_000
THREATS = frozenset({"passage_injection", "passage_modification"})
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")


@dataclass(frozen=True)
class RankedList:
    """The list in the evidence, best rank first.

    Attributes:
        owners: for each passage, the number of its source.
        responses: for each passage, what the model said, as the method reads it; ``None`` for an
            abstention.
        failed: sources with a failed passage; they are taken to be hostile.
        slots: for each source, how many passages it holds.
        room: how many passages the list may still take.
    """

    owners: tuple[int, ...]
    responses: tuple[Any, ...]
    failed: frozenset[int]
    slots: tuple[int, ...]
    room: int

    @property
    def healthy(self) -> list[int]:
        return [source for source in range(len(self.slots)) if source not in self.failed]


def ranked_list(
    certificate: Mapping[str, Any], read_response: Callable[[Any, str], Any]
) -> RankedList:
    """Read ``evidence["sources"]``, ``evidence["passages"]`` and ``parameters["top_k"]``."""
    evidence = certificate["evidence"]
    names = distinct_texts(entry(evidence, "sources", "evidence"), "evidence['sources']", MAX_PASSAGES)
    rows = listing(entry(evidence, "passages", "evidence"), "evidence['passages']", MAX_PASSAGES)
    owners, responses, failed, slots = [], [], set(), [0] * len(names)
    for rank, row in enumerate(rows):
        place = f"evidence['passages'][{rank}]"
        if len(listing(row, place, 3)) != 3:
            raise Unverifiable(f"{place} must be [source, response, failed], got {shown(row)}.")
        owner = whole(row[0], f"the source of {place}", 0, len(names) - 1)
        owners.append(owner)
        slots[owner] += 1
        responses.append(None if row[1] is None else read_response(row[1], f"{place}[1]"))
        if whole(row[2], f"the failure mark of {place}", 0, 1):
            failed.add(owner)
    if not all(slots):
        raise Unverifiable("evidence['sources'] names a source without a passage.")
    top_k = whole(entry(certificate["parameters"], "top_k", "parameters"), "parameters['top_k']")
    if top_k < len(rows):
        raise Unverifiable(f"top_k is {top_k}, but the list holds {len(rows)} passages.")
    return RankedList(
        tuple(owners), tuple(responses), frozenset(failed), tuple(slots), top_k - len(rows)
    )


def injections(
    listed: RankedList, budget: int, passages_per_source: int
) -> Iterator[tuple[int, int]]:
    """What injection can lead to: (passages that survive, most sources that respond arbitrarily).

    Goes through the number of ejected passages: nothing is ejected while the list has room, and
    then each injected passage ejects one more from the end. Failed sources use up the budget and
    respond arbitrarily while one of their passages is in the list.
    """
    length, hostile = len(listed.owners), budget - len(listed.failed)
    most = hostile * passages_per_source
    for ejected in range(length + 1):
        injected = listed.room + ejected if ejected else min(listed.room, most)
        if injected > most:
            return
        still_failed = listed.failed.intersection(listed.owners[: length - ejected])
        yield length - ejected, min(hostile, injected) + len(still_failed)


def largest_budget(listed: RankedList, holds: Callable[[int], bool]) -> int:
    """The largest budget for which the answer stays, as it does for every smaller one.

    Budgets below the number of failed sources are not asked for, nor are budgets beyond one more
    than the number of sources.
    """
    radius = 0
    for budget in range(max(1, len(listed.failed)), len(listed.slots) + 2):
        if not holds(budget):
            break
        radius = budget
    return radius


def common_problems(
    certificate: Mapping[str, Any], listed: RankedList, answer: str | None, radius: int
) -> Iterator[str]:
    """Radius, claim and score of a certificate whose answer and radius were just recomputed."""
    if certificate["radius"] != radius:
        yield (
            f"The stated radius is {certificate['radius']}, but {radius} follows from the evidence."
        )
    if not _claim_agrees(certificate, listed, answer):
        yield (
            f"The claim {shown(certificate['claim'])} is not the sentence for the answer "
            f"{shown(answer)} and radius {certificate['radius']}."
        )
    if "gold" in certificate["evidence"] or "tau" in certificate["evidence"]:
        yield from _score_problems(certificate, listed, answer)


def _claim_agrees(
    certificate: Mapping[str, Any], listed: RankedList, answer: str | None
) -> bool:
    """Whether the claim is word for word the sentence for this answer and the stated radius.

    The sentences belong to version 1 of the format. The answer stands in the claim as the model
    wrote it, quoted, and in the evidence in normal form, so it is cut out and normalised.
    """
    before, after, capital = _sentence(certificate, listed)
    claim = certificate["claim"]
    words = "the abstention" if answer is None else "the answer "
    if capital:
        words = words[0].upper() + words[1:]
    if len(claim) > MAX_TEXT or not claim.startswith(before + words) or not claim.endswith(after):
        return False
    quoted = claim[len(before) + len(words) : len(claim) - len(after)]
    if answer is None:
        return claim == before + words + after
    said = unquoted(quoted)
    return said is not None and normal_form(said) == answer


def _sentence(certificate: Mapping[str, Any], listed: RankedList) -> tuple[str, str, bool]:
    """The claim before and after the answer, and whether the answer opens it."""
    radius, failed = certificate["radius"], len(listed.failed)
    if radius == 0:
        return "Nothing is guaranteed about ", ": one hostile source could change it.", False
    counting = f" (counting the {failed} that failed)" if failed else ""
    if certificate["statement"] == "observed":
        verb = "is" if radius == 1 else "are"
        return (
            "",
            " is what the clean passages would have given, if at most "
            f"{radius} of these {len(listed.slots)} sources{counting} {verb} hostile.",
            True,
        )
    sources = f"{radius} source{'' if radius == 1 else 's'}"
    if certificate["threat"]["kind"] == "passage_injection":
        deed = f"passages of up to {sources} are injected into this clean list"
    else:
        deed = f"the passages of up to {sources} of this clean list are rewritten to"
    return f"Whatever {deed}{counting}, ", " stays.", False


def unquoted(text: str) -> str | None:
    """The text that stands in quotes as Python writes it, or ``None`` if this is not one."""
    if not _QUOTED.fullmatch(text):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return str(ast.literal_eval(text))
    except (ValueError, SyntaxError, Warning, MemoryError):
        return None


def normal_form(text: str) -> str:
    """Case folded, NFKC, no punctuation outside numbers, no leading article, single spaces.

    Inside a number are: a mark between two digits, a percent sign after one, and a minus sign or
    a point that opens a number; a comma before exactly three digits is left out. Text of
    punctuation alone stays.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u2212", "-")
    padded = f" {_without_thousands_commas(folded)} "
    kept = []
    for before, mark, after in zip(padded, padded[1:], padded[2:], strict=False):
        if not unicodedata.category(mark).startswith("P") or (
            (mark == "%" and before.isdigit())
            or (mark != "%" and before.isdigit() and after.isdigit())
            or (mark in "-." and after.isdigit() and not before.isalpha())
        ):
            kept.append(mark)
        elif mark not in "'\u2019":
            kept.append(" ")
    words = "".join(kept).split()
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        del words[0]
    return " ".join(words) or " ".join(padded.split())


def _without_thousands_commas(text: str) -> str:
    parts = text.split(",")
    joined = parts[0]
    for before, after in zip(parts, parts[1:], strict=False):
        group = after[:3]
        grouping = (
            before[-1:].isdecimal()
            and len(group) == 3
            and group.isdecimal()
            and not after[3:4].isdecimal()
        )
        joined += after if grouping else "," + after
    return joined


def _score_problems(
    certificate: Mapping[str, Any], listed: RankedList, answer: str | None
) -> Iterator[str]:
    """tau, the least score of a reachable answer: 1 if all contain a gold answer, else 0.

    A certified answer is the only reachable one. Where others are reachable the model may be
    needed to know them; then tau is held against the answer at hand alone, which is reachable.
    """
    evidence = certificate["evidence"]
    gold = listing(entry(evidence, "gold", "evidence"), "evidence['gold']", MAX_PASSAGES)
    tau = entry(evidence, "tau", "evidence")
    if not all(isinstance(one, str) for one in gold):
        raise Unverifiable("evidence['gold'] must hold texts only.")
    if isinstance(tau, bool) or tau not in (0, 1):
        raise Unverifiable(f"evidence['tau'] must be 0 or 1, got {shown(tau)}.")
    inside = f" {answer or ''} "
    right = any(f" {normal_form(one)} " in inside for one in gold if one.strip())
    budget = certificate["threat"]["budget"]
    alone = certificate["radius"] >= budget >= len(listed.failed)
    if (tau and not right) or (alone and bool(tau) != right):
        yield (
            f"evidence['tau'] is {tau}, but the answer {'contains' if right else 'lacks'} "
            "a gold answer."
        )
