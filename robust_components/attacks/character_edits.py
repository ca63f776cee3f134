"""TextBugger's five edits (Li et al. 2019), made to raise a document's rank."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.attack import Victim, seeded
from robust_components.attacks.misspellings import deleted, lookalike, swapped
from robust_components.attacks.word_by_word import WordByWord, by_hiding


@dataclass(frozen=True)
class CharacterEdits(WordByWord):
    """Misspells words, one after the other, the way that raises the victim's score most.

    The five edits: a break inside the word, an inner letter deleted, two inner letters swapped, a
    look-alike sign, a neighbour of the word. The break is a hyphen and not a space, so that a word
    stays one word and the number of edits is what it says. Words whose hiding raises the score most
    or hurts it least come first.

    Args:
        neighbours: words that may stand for a word, for the fifth edit; none when ``None``.
        positions: words tried in each step.
        probes: most words whose hiding is tried, drawn at random from longer documents.
    """

    name: ClassVar[str] = "character_edits"
    neighbours: Callable[[str], Sequence[str]] | None = None
    positions: int = 4
    probes: int = 40

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        rng = seeded(self.seed, " ".join(words))
        order = by_hiding(victim, words, self.probes, rng)
        return self._greedy(
            victim, words, score, order, self.positions, lambda word: self.edits(word, rng)
        )

    def edits(self, word: str, rng: random.Random) -> list[str]:
        """Up to five edited words; fewer for short ones."""
        near = [] if self.neighbours is None else list(self.neighbours(word))[:1]
        found = [*broken(word, rng), *deleted(word, rng), *swapped(word, rng)]
        found += [*lookalike(word, rng), *near]
        return [one for one in found if one != word and len(one.split()) == 1]


def broken(word: str, rng: random.Random) -> list[str]:
    """The word with a hyphen between two inner letters."""
    if len(word) < 4:
        return []
    at = rng.randrange(2, len(word) - 1)
    return [f"{word[:at]}-{word[at:]}"]
