"""The sentence of a claim about an answer from passages, and the score against gold answers.

The sentences belong to version 1 of the format; a certificate that words its claim otherwise is
refused, whatever it says, so that no sentence can promise more than the numbers do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robust_components.verification.assumptions import missing_assumptions
from robust_components.verification.inputs import input_problems
from robust_components.verification.passages import MAX_PASSAGES, RankedList
from robust_components.verification.reading import UnverifiableError, entry, listing, shown
from robust_components.verification.texts import normal_form, unquoted

MAX_TEXT = 1_200_000
"""Characters of a claim: an answer of 100,000, each quoted as up to ten, and the sentence."""


def common_problems(
    certificate: Mapping[str, Any], listed: RankedList, answer: str | None, radius: int
) -> Iterator[str]:
    """Radius, claim, assumptions, inputs and score of a certificate whose answer and radius were
    just recomputed.
    """
    if certificate["radius"] != radius:
        yield (
            f"The stated radius is {certificate['radius']}, but {radius} follows from the evidence."
        )
    if not claim_agrees(certificate, listed, answer):
        yield (
            f"The claim {shown(certificate['claim'])} is not the sentence for the answer "
            f"{shown(answer)} and radius {certificate['radius']}."
        )
    for sentence in missing_assumptions(certificate, listed):
        yield f"The claim rests on an assumption that is not stated: {shown(sentence)}"
    yield from input_problems(certificate, listed)
    if "withheld" in certificate["evidence"]:
        yield from _withholding_problems(certificate, answer)
    if "gold" in certificate["evidence"] or "tau" in certificate["evidence"]:
        yield from _score_problems(certificate, listed, answer)


def claim_agrees(certificate: Mapping[str, Any], listed: RankedList, answer: str | None) -> bool:
    """Whether the claim is word for word the sentence for this answer and the stated radius.

    The answer stands in the claim as the model wrote it, quoted, and in the evidence in normal
    form, so it is cut out and normalised.
    """
    before, after, capital = _sentence(certificate, listed)
    claim: str = certificate["claim"]
    withheld = "withheld" in certificate["evidence"]
    words = "the withheld answer " if withheld else "the answer "
    words = "the abstention" if answer is None else words
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


def _withholding_problems(certificate: Mapping[str, Any], answer: str | None) -> Iterator[str]:
    """Only a live answer that is not certified is withheld; the key is missing otherwise."""
    if certificate["evidence"]["withheld"] is not True:
        yield "evidence['withheld'] must be true where it is given."
    if certificate["certified"] or certificate["statement"] != "observed" or answer is None:
        yield "evidence['withheld'] is given, but there was nothing to withhold."


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
