"""When two answers count as the same, when one is an abstention, when one is right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NORMALISER = "case folded, NFKC, no punctuation outside numbers, no leading article"

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ARTICLE = re.compile(r"^(?:an?|the)\s+(?=\S)")
_UNKNOWN = re.compile(
    r"^\W*(i\s+(do\s+not|don\W?t|cannot|can\W?t)\s+(know|answer|tell)\b|unknown\W*$|"
    r"(no|not enough|insufficient)\s+(information|answer|context)\b)",
    re.IGNORECASE,
)


def _keep(text: str, position: int) -> bool:
    """Whether the punctuation mark at ``position`` is part of a number."""
    before, after = text[position - 1 : position], text[position + 1 : position + 2]
    if text[position] == "%":
        return before.isdigit()
    if not after.isdigit():
        return False
    return before.isdigit() or (text[position] in "-." and not before.isalpha())


def normalise_answer(text: str) -> str:
    """Fold case and compatibility forms; drop punctuation, a leading article, repeated spaces.

    Marks inside a number are kept ("1.5", "1990-95", "-3", "40%"), thousands separators are not.
    Text of punctuation alone stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\N{MINUS SIGN}", "-")
    folded = _THOUSANDS.sub("", folded)
    words = "".join(
        character
        if not unicodedata.category(character).startswith("P") or _keep(folded, position)
        else ("" if character in "'\N{RIGHT SINGLE QUOTATION MARK}" else " ")
        for position, character in enumerate(folded)
    )
    return _ARTICLE.sub("", " ".join(words.split())) or " ".join(folded.split())


def is_abstention(text: str) -> bool:
    """Whether a generated response says that the passage does not answer the question."""
    return bool(_UNKNOWN.match(text.strip()))


def contains_gold(answer: str | None, gold: Sequence[str]) -> float:
    """1.0 if a gold answer occurs as whole words in the normalised answer, else 0.0."""
    return 0.0 if answer is None else normalised_contains_gold(normalise_answer(answer), gold)


def normalised_contains_gold(answer: str, gold: Sequence[str]) -> float:
    """:func:`contains_gold` of an answer that is normalised already."""
    return float(any(f" {normalise_answer(g)} " in f" {answer} " for g in gold if g.strip()))
