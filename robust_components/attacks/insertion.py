"""Attacks that add text: the query's words, a searched trigger, a sentence from above."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.attack import Attack, Victim, seeded
from robust_components.attacks.vocabulary import content_words, distinctive_words


@dataclass(frozen=True)
class QueryStuffing(Attack):
    """Puts words of the query at the front or the end, repeated until the budget is used up.

    Of a query longer than the budget, every run of neighbouring words is tried.
    """

    name: ClassVar[str] = "query_stuffing"

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        query = victim.query.split()
        if len(query) < self.budget:
            runs = [(query * self.budget)[: self.budget], query]
        else:
            runs = [query[i : i + self.budget] for i in range(len(query) - self.budget + 1)]
        candidates = [self._place(words, run, at) for run in runs for at in (0, len(words))]
        return self._best(victim, candidates, words, score)


@dataclass(frozen=True)
class PrependedTrigger(Attack):
    """Builds a trigger at the front of the document word by word, greedily.

    Args:
        pool: words tried for each place: half from the query and the documents above, half drawn
            at random from all their words.
    """

    name: ClassVar[str] = "prepended_trigger"
    pool: int = 24

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        likely = distinctive_words(victim.query, above, self.pool // 2)
        drawn = seeded(self.seed, victim.query, " ".join(words))
        everything = sorted({*content_words(" ".join(above)), *words} - set(likely))
        rest = drawn.sample(everything, min(len(everything), self.pool - len(likely)))
        trigger: tuple[str, ...] = ()
        found = words
        most = self.budget if self.operations == "any" else min(self.budget, len(words))
        for _ in range(most):
            made = {
                self._place(words, (*trigger, word), 0): (*trigger, word)
                for word in (*likely, *rest)
            }
            better, score = self._best(victim, list(made), found, score)
            if better == found:
                break
            found, trigger = better, made[better]
        return found, score


@dataclass(frozen=True)
class InsertedSentence(Attack):
    """Puts a sentence of a higher-ranked passage into the document, cut to the budget.

    Args:
        passages: passages above that sentences are taken from.
        tries: runs of words tried, those that share most words with the query first.
    """

    name: ClassVar[str] = "inserted_sentence"
    passages: int = 3
    tries: int = 16

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        wanted = {word.lower() for word in content_words(victim.query)}
        runs: list[tuple[str, ...]] = []
        for text in above[: self.passages]:
            for sentence in re.split(r"(?<=[.!?])\s+", text):
                parts = tuple(sentence.split())
                last = max(0, len(parts) - self.budget)
                runs.extend(parts[i : i + self.budget] for i in range(last + 1))

        def shared(run: tuple[str, ...]) -> int:
            return len(wanted & {word.lower() for word in content_words(" ".join(run))})

        runs = sorted(filter(None, dict.fromkeys(runs)), key=shared, reverse=True)[: self.tries]
        places = sentence_starts(words)
        candidates = [self._place(words, run, at) for run in runs for at in places]
        return self._best(victim, candidates, words, score)


def sentence_starts(words: tuple[str, ...]) -> list[int]:
    """The front, the middle sentence boundary, and the end."""
    ends = [at + 1 for at, word in enumerate(words[:-1]) if word[-1:] in ".!?"]
    middle = ends[len(ends) // 2 : len(ends) // 2 + 1]
    return [0, *middle, len(words)]
