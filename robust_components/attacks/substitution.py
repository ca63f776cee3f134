"""Word substitution in the manner of PRADA (Wu et al. 2023, "PRADA: Practical black-box
adversarial attacks against neural ranking models")."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.attack import Attack, Victim
from robust_components.attacks.vocabulary import distinctive_words

HIDDEN = "..."


@dataclass(frozen=True)
class WordSubstitution(Attack):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operations != "substitute":
            raise ValueError(
                f"WordSubstitution substitutes words, got operations={self.operations!r}; leave "
                "it at 'substitute'"
            )

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        order = self._positions(victim, words)
        free = distinctive_words(victim.query, above, self.free_words)
        changed: set[int] = set()
        for _ in range(min(self.budget, len(words))):
            tried = [at for at in order if at not in changed][: self.positions]
            candidates = [
                (*words[:at], new, *words[at + 1 :])
                for at in tried
                for new in (*self._near(words[at]), *free)
            ]
            found, score = self._best(victim, candidates, words, score)
            if found == words:
                break
            changed |= {at for at in tried if found[at] != words[at]}
            words = found
        return words, score

    def _positions(self, victim: Victim, words: tuple[str, ...]) -> list[int]:
        places = list(range(len(words)))
        if len(places) > self.probes:
            drawn = random.Random(f"{self.seed} {' '.join(words)}")
            places = sorted(drawn.sample(places, self.probes))
        hidden = [" ".join((*words[:at], HIDDEN, *words[at + 1 :])) for at in places]
        without = dict(zip(places, victim.score(hidden), strict=True))
        return sorted(places, key=lambda at: (-without[at], at))

    def _near(self, word: str) -> list[str]:
        if self.neighbours is None:
            return []
        return [new for new in self.neighbours(word) if len(new.split()) == 1 and new != word]
