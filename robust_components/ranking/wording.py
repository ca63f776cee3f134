"""All sentences of ranking certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_components.threats import WordEdits

WHO = {
    "promotion": "of each document outside the top {k}",
    "demotion": "of each document in the top {k}",
    "any": "of each document",
}
POINTWISE = (
    "The model scores each masked copy by the query and that copy alone, and gives equal text "
    "equal scores up to the numerical margin."
)
CANDIDATES = "The list of candidates and the query are not under the attacker's control."
CLEAN = "The documents at hand are clean."
POSITIONS = "Edits replace words one for one and leave the number of words as it is."
COUNTING = "A substituted word counts as two edits: one deletion and one insertion."
RANDOM = "The masks were drawn at random after the documents were fixed."
PUBLISHED = (
    "This is the published RobustMask rule, for comparison only: it is not sound, and an attacker "
    "within the budget may break it."
)


def edits(threat: WordEdits, words: int) -> str:
    noun = "word" if words == 1 else "words"
    if threat.operations == "substitute":
        return f"{words} substituted {noun}"
    return f"{words} inserted, deleted or moved {noun}"


def set_claim(threat: WordEdits, k: int, scope: str, statement: str) -> str:
    """The claim about the top-K set for the budget of ``threat``."""
    who = WHO[scope].format(k=k)
    what = edits(threat, threat.budget)
    if statement == "observed":
        return (
            f"The top {k} are the documents that would be the top {k} of the clean list, if the "
            f"documents at hand differ from their clean forms by at most {what} {who}."
        )
    return f"The set of the top {k} stays the same whatever at most {what} {who} do."


def document_claim(threat: WordEdits, k: int, scope: str, statement: str, *, inside: bool) -> str:
    """The claim about one document for the budget of ``threat``."""
    who = WHO[scope].format(k=k)
    what = edits(threat, threat.budget)
    place = f"in the top {k}" if inside else f"outside the top {k}"
    if statement == "observed":
        return (
            f"This document is {place} of the clean list too, if the documents at hand differ from "
            f"their clean forms by at most {what} {who}."
        )
    return f"This document stays {place} whatever at most {what} {who} do."


def assumptions(threat: WordEdits, mechanism: Mapping[str, Any], statement: str) -> tuple[str, ...]:
    said = [POINTWISE, CANDIDATES]
    said.append(POSITIONS if threat.operations == "substitute" else COUNTING)
    if statement == "pre_attack":
        said.append(CLEAN)
    if mechanism["name"] == "random_mask":
        said.append(RANDOM)
    return tuple(said)


def reason(threat: WordEdits, radius: int) -> str:
    what = edits(threat, threat.budget)
    return f"{what} a document could change it; it holds up to {radius}."
