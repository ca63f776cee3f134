"""Answers as texts: quoted in a claim, in normal form, and those that say "I don't know"."""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings
from itertools import pairwise

DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")
SUPERSCRIPTS = frozenset("\u00b2\u00b3\u00b9" + "".join(map(chr, range(0x2070, 0x207A))))
FRACTIONS = frozenset("\u00bc\u00bd\u00be" + "".join(map(chr, range(0x2150, 0x215F))))
_QUOTED = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\"""")


LONGEST_ANSWER = 100_000
_SAYS_NOTHING = re.compile(
    r"\W*(?:unknown\W*\Z"
    r"|i\s+(?:do\s+not|don\W?t|can\W?t|cannot)\s+(?:answer|know|tell)(?!\w)"
    r"|(?:insufficient|not enough|no)\s+(?:answer|context|information)(?!\w))",
    re.IGNORECASE,
)


def abstains(text: str) -> bool:
    """Whether a decoded text is no answer: blank, too long, or it begins with "I don't know" or
    another of a few such phrases.
    """
    said = text.strip()
    return not said or len(text) > LONGEST_ANSWER or bool(_SAYS_NOTHING.match(said))


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
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", spaced).casefold())
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
    first = 0
    while first + 1 < len(words) and words[first] in ("a", "an", "the"):
        first += 1
    return " ".join(words[first:]) or " ".join(padded.split())


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
