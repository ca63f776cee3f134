"""Attacks that misspell words: TextBugger and DeepWordBug."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.classification import ClassificationAttack
from robust_components.attacks.word_swaps import Synonyms, like, no_synonyms

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LOOKALIKES = {
    **{"a": "@", "b": "6", "c": "\u03f2", "e": "3", "g": "9", "i": "1", "l": "1", "o": "0"},
    **{"s": "$", "t": "7", "u": "v", "z": "2", "p": "\u0440", "x": "\u0445", "y": "\u0443"},
}
"""A digit, sign or foreign letter that looks like the letter."""


@dataclass(frozen=True)
class TextBugger(ClassificationAttack):
    """TextBugger (Li et al. 2019): delete, swap, look-alike or neighbour, the most harmful one.

    Its fifth edit inserts a space, which makes two words of one; that leaves the word-substitution
    model and is not done here.

    Args:
        synonyms: neighbours of a word, for its fourth edit.
    """

    name: ClassVar[str] = "textbugger"
    synonyms: Synonyms = no_synonyms

    def _candidates(self, word: str, rng: random.Random) -> Sequence[str]:
        return [
            *deleted(word, rng),
            *swapped(word, rng),
            *lookalike(word, rng),
            *like(word, self.synonyms)[:5],
        ]


@dataclass(frozen=True)
class DeepWordBug(ClassificationAttack):
    """DeepWordBug (Gao et al. 2018): swap, substitute, delete or insert one letter."""

    name: ClassVar[str] = "deepwordbug"
    hidden: ClassVar[str | None] = "[UNK]"

    def _candidates(self, word: str, rng: random.Random) -> Sequence[str]:
        if not word:
            return []
        at = rng.randrange(len(word))
        letter = rng.choice(LETTERS)
        return [
            *swapped(word, rng),
            word[:at] + letter + word[at + 1 :],
            *deleted(word, rng),
            word[:at] + rng.choice(LETTERS) + word[at:],
        ]


def deleted(word: str, rng: random.Random) -> list[str]:
    """The word without one of its inner letters."""
    if len(word) < 3:
        return []
    at = rng.randrange(1, len(word) - 1)
    return [word[:at] + word[at + 1 :]]


def swapped(word: str, rng: random.Random) -> list[str]:
    """The word with two neighbouring inner letters swapped."""
    if len(word) < 4:
        return []
    at = rng.randrange(1, len(word) - 2)
    return [word[:at] + word[at + 1] + word[at] + word[at + 2 :]]


def lookalike(word: str, rng: random.Random) -> list[str]:
    """The word with one letter replaced by what looks like it."""
    places = [at for at, letter in enumerate(word) if letter.lower() in LOOKALIKES]
    if not places:
        return []
    at = rng.choice(places)
    return [word[:at] + LOOKALIKES[word[at].lower()] + word[at + 1 :]]
