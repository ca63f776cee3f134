"""All sentences of classification certificates. The verifier writes the same ones on its own."""

from __future__ import annotations

import json
from dataclasses import dataclass

from robust_components.threats import SynonymEdits, WordEdits

ALONE = "The model labels each masked copy by that copy alone and gives equal copies equal votes"
ROUNDING = "; two probabilities of one copy differ by at most {margin}"
WORDS = "Words are what stands between white space in the full text."
POSITIONS = "Edits replace words one for one and leave the number of words as it is."
COUNTING = "A substituted word counts as two edits: one deletion and one insertion."
SYNONYMS = (
    "Edits replace words by synonyms of the stated table, one for one and in the same form; the "
    "substitution kernels of a word and its synonyms differ by at most {variation} in total "
    "variation."
)
CLEAN = "The text at hand is clean."
RANDOM = (
    "The masks were drawn at random after the text was fixed, and the claim is about the label "
    "that most of all masks give, which samples only estimate."
)
DRAWS = "The model draws anew and independently for every copy, equal copies included."
IMPORTANCE = "The importance of a word is a fixed function of that word alone."
IN_SAMPLE = (
    "What is done to a masked copy before the model labels it reads that copy alone; its "
    "randomness is drawn from the copy."
)
REFINED = "The claim is about edits of the refined text; edits before refining are not covered."
CLASSES = (
    "Synonym classes are fixed; every word is replaced by its class, punctuation kept, before "
    "it is masked."
)
PUBLISHED = (
    "This is the published CluCERT rule, for comparison only: it is not sound, and an attacker "
    "within the budget may break it."
)

NO_WORDS = "The text has no words."
NO_VOTES = "No masked copy voted for a label."
ALL_FAILED = "The model gave no usable response to any masked copy."
NO_LEAD = "No label leads all others by more than chance explains."
REPEATED = (
    "Equal copies got equal responses in all of {asked} repetitions: the model looks cached or "
    "deterministic, so its samples are not independent draws; switch its cache off, or pass "
    "randomised=False if it is deterministic."
)


@dataclass(frozen=True)
class Subject:
    """What a claim is about.

    Attributes:
        threat: kind and budget of the edits.
        statement: ``"observed"`` or ``"pre_attack"``.
        sampled: whether the label is that of all masks, which samples estimate.
        refined: whether the edits are those of the refined text.
        classes: whether words may besides be replaced within their synonym classes.
    """

    threat: WordEdits | SynonymEdits
    statement: str
    sampled: bool
    refined: bool
    classes: bool


def deed(threat: WordEdits | SynonymEdits) -> str:
    """What happens to a word: "substituted"."""
    if isinstance(threat, SynonymEdits):
        return "replaced by synonyms"
    if threat.operations == "substitute":
        return "substituted"
    return "inserted, deleted or moved"


def claim(subject: Subject, label: str | None, radius: int) -> str:
    """The claim about one text."""
    if label is None:
        return "No label is given, and nothing is guaranteed."
    name = json.dumps(label, ensure_ascii=False)
    if radius < 1:
        return f"Nothing is guaranteed about whether the label {name} withstands edits."
    amount = "1 word" if radius == 1 else f"{radius} words"
    text = "refined text" if subject.refined else "text"
    done, of_masks = deed(subject.threat), " by majority over all masks" if subject.sampled else ""
    if subject.statement == "observed":
        verb = "was" if radius == 1 else "were"
        said = (
            f"The label of the clean {text}{of_masks} is {name} too if at most {amount} {verb} "
            f"{done}"
        )
    else:
        verb = "is" if radius == 1 else "are"
        said = (
            f"The label {name}{of_masks} stays the same if at most {amount} {verb} {done} in the "
            f"{text}"
        )
    if subject.classes:
        said += ", whatever other words are replaced within their synonym classes"
    return f"{said}."


def published_claim(subject: Subject, label: str | None, radius: int) -> str:
    """The claim of the published rule, with what it is worth."""
    said = claim(subject, label, radius)
    if label is None or radius < 1:
        return said
    return f"The published CluCERT rule, which is not sound, says: {said}"


def reason(threat: WordEdits | SynonymEdits, radius: int) -> str:
    """Why a label is not certified for the budget of ``threat``."""
    noun = "word" if threat.budget == 1 else "words"
    held = f"; it holds up to {radius}" if radius > 0 else ""
    return f"Another label after {threat.budget} edited {noun} cannot be excluded{held}."


def failed_copies(number: int) -> str:
    """What failed copies count for."""
    if number == 1:
        return "1 copy got no usable response and counts as a vote for every rival."
    return f"{number} copies got no usable response and count as votes for every rival."
