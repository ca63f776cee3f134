"""Word substitution in the manner of PRADA (Wu et al. 2023, "PRADA: Practical black-box
adversarial attacks against neural ranking models")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.attack import Victim, seeded
from robust_components.attacks.vocabulary import distinctive_words
from robust_components.attacks.word_by_word import WordByWord, by_hiding, near


@dataclass(frozen=True)
class WordSubstitution(WordByWord):
    """Replaces words one by one, each time the way that raises the victim's score most.

    Positions are ordered by what hiding the word does to the score: those go first whose loss
    raises it most or hurts it least. Replacements come from ``neighbours`` (synonyms, neighbours
    in an embedding) and, with ``free_words``, from the query and the documents ranked above.

    Args:
        neighbours: words that may stand for a word; none when ``None``.
        free_words: words of the query and of higher-ranked documents tried besides; 0 keeps to
            ``neighbours``, as PRADA does.
        positions: positions tried in each step.
        probes: most positions whose hiding is tried, drawn at random from longer documents.
    """

    name: ClassVar[str] = "word_substitution"
    neighbours: Callable[[str], Sequence[str]] | None = None
    free_words: int = 12
    positions: int = 4
    probes: int = 40

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        rng = seeded(self.seed, " ".join(words))
        order = by_hiding(victim, words, self.probes, rng)
        free = distinctive_words(victim.query, above, self.free_words)

        def replacements(word: str) -> list[str]:
            return [*near(self.neighbours, word), *free]

        return self._greedy(victim, words, score, order, self.positions, replacements)
