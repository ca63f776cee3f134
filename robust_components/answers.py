"""When two answers count as the same, when one is an abstention, when one is right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NORMALISER = (
    "case folded, NFKC, one kind of dash, no leading articles, no thousands commas, no punctuation "
    "but signs, percent, primes, # and marks inside numbers"
)

LONGEST_ANSWER = 100_000
"""Characters of an answer; a longer response counts as none."""

_DASHES = re.compile(r"[\u2010-\u2015\u2212]")
_SUPERSCRIPTS = re.compile(r"[\u00b2\u00b3\u00b9\u2070-\u2079]")
_FRACTIONS = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_LOOSE_PERCENT = re.compile(r"(?<!\s)\s+(?=[%\u2030])")
_LOOSE_MINUS = re.compile(r"(?<!\S)-\s+(?=\d)")
_ARTICLE = re.compile(r"^(?:(?:an?|the)\s+)+(?=\S)")
_UNKNOWN = re.compile(
    r"^\W*(i\s+(do\s+not|don\W?t|cannot|can\W?t)\s+(know|answer|tell)\b|unknown\W*$|"
    r"(no|not enough|insufficient)\s+(information|answer|context)\b)",
    re.IGNORECASE,
)


def _keep(text: str, position: int) -> bool:
    """Whether the punctuation mark at ``position`` carries meaning."""
    mark, before, after = (
        text[position],
        text[position - 1 : position],
        text[position + 1 : position + 2],
    )
    if mark in "%\u2030\u2032#":
        return True
    if mark == "-" and before.isalnum() and not after.isalnum():
        return True
    if mark == "-" and not before.isalnum() and after and unicodedata.category(after)[0] in "LNS":
        return True
    if not after.isdigit():
        return False
    return before.isdigit() or (mark in "-." and not before.isalpha())


def normalise_answer(text: str) -> str:
    """Fold case and compatibility forms; drop punctuation, leading articles, repeated spaces.

    Marks that change what is said are kept: those inside a number ("1.5", "1990-95"), signs
    ("-3", "O-"), "%", "#" and primes; exponents and fractions stay apart from the number before
    them. Thousands separators are dropped. Text of punctuation alone stays as it is.
    """
    marked = _FRACTIONS.sub(r" \g<0>", _SUPERSCRIPTS.sub(r"^\g<0>", text))
    cased = unicodedata.normalize("NFKC", marked).casefold()
    folded = _DASHES.sub("-", unicodedata.normalize("NFKC", cased))  # folding takes letters apart
    for pattern, replacement in ((_THOUSANDS, ""), (_LOOSE_PERCENT, ""), (_LOOSE_MINUS, "-")):
        folded = pattern.sub(replacement, folded)
    words = "".join(
        character
        if not unicodedata.category(character).startswith("P") or _keep(folded, position)
        else ("" if character in "'\u2019" else " ")
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
