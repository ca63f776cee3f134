"""The sentence of a claim about an answer from passages, and the score against gold answers.

The sentences belong to version 1 of the format; a certificate that words its claim otherwise is
refused, whatever it says, so that no sentence can promise more than the numbers do.
"""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from robust_components.verification.passages import MAX_PASSAGES, RankedList
from robust_components.verification.reading import UnverifiableError, entry, listing, shown

MAX_TEXT = 100_000
DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")
SUPERSCRIPTS = frozenset("\u00b2\u00b3\u00b9" + "".join(map(chr, range(0x2070, 0x207A))))
FRACTIONS = frozenset("\u00bc\u00bd\u00be" + "".join(map(chr, range(0x2150, 0x215F))))
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")


def common_problems(
    certificate: Mapping[str, Any], listed: RankedList, answer: str | None, radius: int
) -> Iterator[str]:
    """Radius, claim and score of a certificate whose answer and radius were just recomputed."""
    if certificate["radius"] != radius:
        yield (
            f"The stated radius is {certificate['radius']}, but {radius} follows from the evidence."
        )
    if not claim_agrees(certificate, listed, answer):
        yield (
            f"The claim {shown(certificate['claim'])} is not the sentence for the answer "
            f"{shown(answer)} and radius {certificate['radius']}."
        )
    if "gold" in certificate["evidence"] or "tau" in certificate["evidence"]:
        yield from _score_problems(certificate, listed, answer)


def claim_agrees(certificate: Mapping[str, Any], listed: RankedList, answer: str | None) -> bool:
    """Whether the claim is word for word the sentence for this answer and the stated radius.

    The answer stands in the claim as the model wrote it, quoted, and in the evidence in normal
    form, so it is cut out and normalised.
    """
    before, after, capital = _sentence(certificate, listed)
    claim: str = certificate["claim"]
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
        return "Nothing is guaranteed about ", ".", False
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
    """Case folded, NFKC, no punctuation outside numbers, no leading articles, single spaces.

    All dashes are hyphens. Exponents follow a caret, fractions a space. A comma before exactly
    three digits is left out; spaces before a percent sign and after a leading minus close up. Kept
    are "%", per mille, primes and "#"; a mark between two digits; a minus sign or a point that
    opens a number; a hyphen that ends a word. Text of punctuation alone stays.
    """
    spaced = "".join(
        f"^{c}" if c in SUPERSCRIPTS else f" {c}" if c in FRACTIONS else c for c in text
    )
    folded = unicodedata.normalize("NFKC", spaced).casefold()
    folded = "".join("-" if c in DASHES else c for c in folded)
    folded = _with_closed_spaces(_without_thousands_commas(folded))
    padded = f" {folded} "
    kept = []
    for before, mark, after in zip(padded, padded[1:], padded[2:], strict=False):
        if (
            not unicodedata.category(mark).startswith("P")
            or mark in "%\u2030\u2032#"
            or (mark == "-" and before.isalnum() and not after.isalnum())
            or (mark == "-" and not before.isalnum() and unicodedata.category(after)[0] in "LNS")
        ):
            keep = True
        else:
            opens_number = mark in "-." and not before.isalpha()
            keep = after.isdigit() and (before.isdigit() or opens_number)
        kept.append(mark if keep else "" if mark in "'\u2019" else " ")
    words = "".join(kept).split()
    while len(words) > 1 and words[0] in ("a", "an", "the"):
        del words[0]
    return " ".join(words) or " ".join(padded.split())


def _with_closed_spaces(text: str) -> str:
    """No white space before a percent sign, nor between a minus that opens a word and a digit."""
    joined: list[str] = []
    for character in text:
        if character in "%\u2030":
            while joined and joined[-1].isspace():
                joined.pop()
        elif character.isdecimal():
            end = len(joined)
            while end and joined[end - 1].isspace():
                end -= 1
            opens_word = end == 1 or (joined[end - 2 : end - 1] and joined[end - 2].isspace())
            if end < len(joined) and joined[end - 1 : end] == ["-"] and opens_word:
                del joined[end:]
        joined.append(character)
    return "".join(joined)


def _without_thousands_commas(text: str) -> str:
    parts = text.split(",")
    joined = parts[:1]
    for before, after in pairwise(parts):
        group, next_mark = after[:3], after[3:4]
        three_digits = len(group) == 3 and group.isdecimal() and not next_mark.isdecimal()
        joined += [after] if three_digits and before[-1:].isdecimal() else [",", after]
    return "".join(joined)


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
        raise UnverifiableError("evidence['gold'] must hold texts only.")
    if isinstance(tau, bool) or tau not in (0, 1):
        raise UnverifiableError(f"evidence['tau'] must be 0 or 1, got {shown(tau)}.")
    inside = f" {answer or ''} "
    right = any(f" {normal_form(one)} " in inside for one in gold if one.strip())
    budget = certificate["threat"]["budget"]
    alone = certificate["radius"] >= budget >= len(listed.failed)
    if (tau and not right) or (alone and bool(tau) != right):
        yield (
            f"evidence['tau'] is {tau}, but the answer {'contains' if right else 'lacks'} "
            "a gold answer."
        )
