"""All sentences of ranking certificates. The verifier writes the same ones on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robust_components.threats import WordEdits

WHERE = {
    "promotion": "each document outside the top {k}",
    "demotion": "each document of the top {k}",
    "any": "each document",
}
POINTWISE = (
    "The model scores each masked copy by the query and that copy alone; two scores of the same "
    "copy differ by at most {margin}."
)
CANDIDATES = "The list of candidates and the query are not under the attacker's control."
WORDS = "Words are what stands between white space in the full text."
CLEAN = "The documents at hand are clean."
POSITIONS = "Edits replace words one for one and leave the number of words as it is."
COUNTING = "A substituted word counts as two edits: one deletion and one insertion."
RANDOM = (
    "The masks were drawn at random after the documents were fixed, and the claim is about means "
    "over all masks, which a list ranked by samples only estimates."
)
PUBLISHED = (
    "This is the published RobustMask rule, for comparison only: it is not sound, and an attacker "
    "within the budget may break it."
)


@dataclass(frozen=True)
class Subject:
    """What a claim is about.

    Attributes:
        threat: kind and budget of the edits.
        k: size of the top.
        scope: which documents are edited.
        statement: ``"observed"`` or ``"pre_attack"``.
        sampled: whether scores are means over all masks, which samples estimate.
        unlimited: the radius that stands for any number of edits.
    """

    threat: WordEdits
    k: int
    scope: str
    statement: str
    sampled: bool
    unlimited: int


def _edits(subject: Subject, radius: int) -> str:
    """ "at most 2 words are substituted in each document"."""
    one = radius == 1 and radius < subject.unlimited
    amount = "1 word" if one else f"{radius} words"
    amount = "any number of words" if radius >= subject.unlimited else f"at most {amount}"
    verb = {
        ("pre_attack", True): "is",
        ("pre_attack", False): "are",
        ("observed", True): "was",
        ("observed", False): "were",
    }[subject.statement, one]
    what = "inserted, deleted or moved"
    if subject.threat.operations == "substitute":
        what = "substituted"
    return f"{amount} {verb} {what} in {WHERE[subject.scope].format(k=subject.k)}"


def set_claim(subject: Subject, radius: int) -> str:
    """The claim about the top-K set."""
    if subject.k == 0:
        return "Nothing is guaranteed about an empty list."
    if radius == 0:
        return f"Nothing is guaranteed about which documents are the top {subject.k}."
    top = f"top {subject.k}" + (" by mean over all masks" if subject.sampled else "")
    if subject.statement == "observed":
        return f"The {top} are also those of the clean list if {_edits(subject, radius)}."
    return f"The {top} stay the same documents if {_edits(subject, radius)}."


def document_claim(subject: Subject, radius: int, *, inside: bool) -> str:
    """The claim about one document."""
    place = f"{'in' if inside else 'outside'} the top {subject.k}"
    if radius == 0:
        return f"Nothing is guaranteed about whether this document stays {place}."
    if subject.sampled:
        place += " by mean over all masks"
    if subject.statement == "observed":
        return f"This document is {place} of the clean list too if {_edits(subject, radius)}."
    return f"This document stays {place} if {_edits(subject, radius)}."


def published_claim(subject: Subject, radius: int) -> str:
    """The claim of the published rule, with what it is worth."""
    claim = set_claim(subject, radius)
    if radius == 0:
        return claim
    return f"The published RobustMask rule, which is not sound, says: {claim}"


def assumptions(
    threat: WordEdits, mechanism: Mapping[str, Any], statement: str, numerical_margin: str
) -> tuple[str, ...]:
    """What must be true for the claim to hold."""
    said = [POINTWISE.format(margin=numerical_margin), CANDIDATES, WORDS]
    said.append(POSITIONS if threat.operations == "substitute" else COUNTING)
    if statement == "pre_attack":
        said.append(CLEAN)
    if mechanism["name"] == "random_mask":
        said.append(RANDOM)
    return tuple(said)


def reason(threat: WordEdits, k: int, radius: int) -> str:
    """Why the claim is not certified for the budget of ``threat``."""
    if k == 0:
        return "There are no documents."
    noun = "word" if threat.budget == 1 else "words"
    held = f"; it holds up to {radius}" if radius else ""
    return f"A change by {threat.budget} edited {noun} a document cannot be excluded{held}."
