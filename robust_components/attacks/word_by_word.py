"""What attacks that replace words one by one share: which words first, and the greedy search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from robust_components.attacks.attack import Attack, Victim

HIDDEN = "..."
Words = tuple[str, ...]


class WordByWord(Attack):
    """Substitutes words in place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operations != "substitute":
            raise ValueError(
                f"{type(self).__name__} substitutes words, got operations={self.operations!r}; "
                "leave it at 'substitute'"
            )

    def _greedy(
        self,
        victim: Victim,
        words: Words,
        score: float,
        order: Sequence[int],
        positions: int,
        replacements: Callable[[str], Iterable[str]],
    ) -> tuple[Words, float]:
        """The best replacement among the next ``positions`` of ``order``, again and again."""
        changed: set[int] = set()
        for _ in range(min(self.budget, len(words))):
            tried = [at for at in order if at not in changed][:positions]
            candidates = [
                (*words[:at], new, *words[at + 1 :])
                for at in tried
                for new in replacements(words[at])
            ]
            found, score = self._best(victim, candidates, words, score)
            if found == words:
                break
            changed |= {at for at in tried if found[at] != words[at]}
            words = found
        return words, score


def by_hiding(victim: Victim, words: Words, probes: int, rng: Random) -> list[int]:
    """Positions, those first whose hiding raises the score most or hurts it least.

    Args:
        probes: most positions tried, drawn at random from longer documents.
    """
    places = list(range(len(words)))
    if len(places) > probes:
        places = sorted(rng.sample(places, probes))
    hidden = [" ".join((*words[:at], HIDDEN, *words[at + 1 :])) for at in places]
    without = dict(zip(places, victim.score(hidden), strict=True))
    return sorted(places, key=lambda at: (-without[at], at))


def near(neighbours: Callable[[str], Sequence[str]] | None, word: str) -> list[str]:
    """Single other words that may stand for ``word``."""
    if neighbours is None:
        return []
    return [new for new in neighbours(word) if len(new.split()) == 1 and new != word]
