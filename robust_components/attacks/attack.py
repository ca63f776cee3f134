"""What all attacks on rankers share: word budgets, a counted victim, results.

An attack changes one document of a ranked list, the target, within an explicit budget of words,
to raise its score. Whatever scores documents can be the victim: a cross-encoder, or a whole
:class:`~robust_components.ranking.SmoothedScorer`. Most attacks are black box and read scores
alone; those in ``guided.py`` take gradients too, of the victim where no surrogate is given, and
gradients are not counted as queries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import ClassVar

from robust_components.checks import positive_integer
from robust_components.models.protocols import PairScorer
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class AttackResult:
    """What an attack made of the target.

    Attributes:
        text: the edited document, or the document as it was if nothing raised its score.
        target: its index in the list.
        words_edited: words substituted or inserted, at most the budget.
        operations: ``"substitute"`` (the number of words stayed) or ``"any"`` (words were
            inserted), as in :class:`~robust_components.threats.WordEdits`.
        score_before, score_after: the victim's scores of the target.
        rank_before, rank_after: from 1, after sorting the whole list anew; ties count for the
            attacker.
        calls: calls to the victim.
        queries: documents the victim scored.
    """

    text: str
    target: int
    words_edited: int
    operations: str
    score_before: float
    score_after: float
    rank_before: int
    rank_after: int
    calls: int
    queries: int

    @property
    def boost(self) -> int:
        """Places gained."""
        return self.rank_before - self.rank_after

    @property
    def succeeded(self) -> bool:
        """Whether the target gained at least one place."""
        return self.boost > 0

    def entered(self, k: int) -> bool:
        """Whether the target was below the top ``k`` and now belongs to it."""
        return self.rank_before > k >= self.rank_after


class Victim:
    """A scorer as an attacker sees it: scores for one query, counted."""

    def __init__(self, scorer: PairScorer, query: str) -> None:
        self.scorer = scorer
        self.query = query
        self.calls = 0
        self.queries = 0

    def score(self, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        self.calls += 1
        self.queries += len(texts)
        return [float(score) for score in self.scorer.score(self.query, list(texts))]


def seeded(seed: int, *texts: str) -> Random:
    """Draws that depend on ``seed`` and ``texts``, whatever they hold."""
    return Random(" ".join([str(seed), *texts]).encode("utf-8", "surrogatepass"))


def attacker_rank(scores: Sequence[float], target: int) -> int:
    """Rank of ``target``, from 1; documents with an equal score stand below it."""
    return 1 + sum(score > scores[target] for score in scores)


@dataclass(frozen=True)
class Attack(ABC):
    """An attack on one document of a ranked list.

    Args:
        budget: most words edited, at least 1.
        operations: ``"substitute"`` overwrites words and keeps their number; ``"any"`` inserts
            words and keeps all others.
        seed: of everything drawn at random.
    """

    budget: int = 3
    operations: str = "substitute"
    seed: int = 0
    name: ClassVar[str]

    def __post_init__(self) -> None:
        WordEdits(self.budget, self.operations)  # checks both
        for one in fields(self):  # how much is tried: positions, tries, ...
            if type(one.default) is int and one.name not in ("budget", "seed"):
                least = 0 if one.name == "free_words" else 1
                positive_integer(one.name, getattr(self, one.name), least)

    @property
    def threat(self) -> WordEdits:
        """The threat model the attack stays in."""
        return WordEdits(self.budget, self.operations)

    def attack(
        self, query: str, documents: Sequence[str], target: int, scorer: PairScorer
    ) -> AttackResult:
        """Edit ``documents[target]`` within the budget so that ``scorer`` ranks it higher.

        Raises:
            IndexError: ``target`` is no index of ``documents``.
        """
        if not 0 <= positive_integer("target", target, minimum=0) < len(documents):
            raise IndexError(f"target must be in 0..{len(documents) - 1}, got {target}")
        victim = Victim(scorer, query)
        scores = victim.score(documents)
        words = tuple(documents[target].split())
        better = sorted(
            (i for i in range(len(documents)) if i != target and scores[i] >= scores[target]),
            key=lambda i: (-scores[i], i),
        )
        above = [documents[i] for i in better]
        found, score = self._search(victim, words, scores[target], above)
        edited = edits_between(words, found, self.operations)
        if edited > self.budget:
            raise RuntimeError(f"{self.name} edited {edited} words, its budget is {self.budget}")
        if edited == 0:
            score = scores[target]
        after = [*scores[:target], score, *scores[target + 1 :]]
        return AttackResult(
            text=" ".join(found) if edited else documents[target],
            target=target,
            words_edited=edited,
            operations=self.operations,
            score_before=scores[target],
            score_after=score,
            rank_before=attacker_rank(scores, target),
            rank_after=attacker_rank(after, target),
            calls=victim.calls,
            queries=victim.queries,
        )

    @abstractmethod
    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        """Words of the edited document and its score; the given ones if none is better.

        Args:
            words: of the target.
            score: of the target.
            above: documents that rank no worse, best first.
        """

    def _place(self, words: tuple[str, ...], new: Sequence[str], at: int) -> tuple[str, ...]:
        """``new`` inserted before position ``at``, or written over what stands there."""
        new = tuple(new)[: self.budget]
        if self.operations == "any":
            return (*words[:at], *new, *words[at:])
        at = max(0, min(at, len(words) - len(new)))
        return (*words[:at], *new, *words[at + len(new) :])[: len(words)]

    def _best(
        self,
        victim: Victim,
        candidates: Sequence[tuple[str, ...]],
        words: tuple[str, ...],
        score: float,
    ) -> tuple[tuple[str, ...], float]:
        """The candidate the victim likes best, or ``words`` if none beats ``score``."""
        distinct = [one for one in dict.fromkeys(candidates) if one != words]
        scores = victim.score([" ".join(one) for one in distinct])
        for one, value in zip(distinct, scores, strict=True):
            if value > score:
                words, score = one, value
        return words, score


def edits_between(before: Sequence[str], after: Sequence[str], operations: str) -> int:
    """Words substituted one for one, or inserted into ``before``.

    Raises:
        ValueError: ``after`` is not made from ``before`` by such edits alone.
    """
    if operations == "substitute":
        if len(before) != len(after):
            raise ValueError(f"{len(before)} words became {len(after)}; substitutions keep them")
        return sum(old != new for old, new in zip(before, after, strict=True))
    rest = iter(after)
    if not all(word in rest for word in before):
        raise ValueError("a word was removed; only insertions were allowed")
    return len(after) - len(before)
