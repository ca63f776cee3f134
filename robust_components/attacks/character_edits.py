"""TextBugger's five edits (Li et al. 2019), made to raise a document's rank."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.attack import Attack, Victim
from robust_components.attacks.misspellings import deleted, lookalike, swapped

HIDDEN = "..."


@dataclass(frozen=True)
class CharacterEdits(Attack):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operations != "substitute":
            raise ValueError(
                f"CharacterEdits changes words in place, got operations={self.operations!r}; leave "
                "it at 'substitute'"
            )

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        rng = random.Random(f"{self.seed} {' '.join(words)}")
        places = list(range(len(words)))
        if len(places) > self.probes:
            places = sorted(rng.sample(places, self.probes))
        hidden = [" ".join((*words[:at], HIDDEN, *words[at + 1 :])) for at in places]
        without = dict(zip(places, victim.score(hidden), strict=True))
        order = sorted(places, key=lambda at: (-without[at], at))
        changed: set[int] = set()
        for _ in range(min(self.budget, len(words))):
            tried = [at for at in order if at not in changed][: self.positions]
            candidates = [
                (*words[:at], new, *words[at + 1 :])
                for at in tried
                for new in self.edits(words[at], rng)
            ]
            found, score = self._best(victim, candidates, words, score)
            if found == words:
                break
            changed |= {at for at in tried if found[at] != words[at]}
            words = found
        return words, score

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
