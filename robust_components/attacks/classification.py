"""What all attacks on classifiers share: word budgets, a counted victim, greedy search, results.

An attack substitutes words of a text, one for one and at most ``budget`` of them, until the victim
changes its label. It reads labels and probabilities (or vote shares), nothing else.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from robust_components.attacks.attack import edits_between, seeded
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class Judgement:
    """What a victim says about a text.

    Attributes:
        label: the label, or ``None``.
        shares: from each label to its probability or vote share.
    """

    label: str | None
    shares: dict[str, float]


class Judge(Protocol):
    """A classifier as an attacker sees it."""

    def judge(self, texts: Sequence[str]) -> Sequence[Judgement]: ...


@dataclass(frozen=True)
class ClassificationAttackResult:
    """What an attack made of a text.

    Attributes:
        text: the edited text that changes the label, or the one that came nearest to it.
        words_edited: words substituted, at most the budget.
        label_before, label_after: the victim's labels.
        queries: texts the victim judged.
    """

    text: str
    words_edited: int
    label_before: str | None
    label_after: str | None
    queries: int

    @property
    def succeeded(self) -> bool:
        """Whether the label changed."""
        return self.label_after != self.label_before


class CountedJudge:
    """A judge whose texts are counted."""

    def __init__(self, judge: Judge) -> None:
        self.judge_ = judge
        self.queries = 0

    def judge(self, texts: Sequence[str]) -> list[Judgement]:
        if not texts:
            return []
        self.queries += len(texts)
        return list(self.judge_.judge(texts))


@dataclass(frozen=True)
class ClassificationAttack(ABC):
    """Greedy word substitution: positions by importance, at each the change that hurts most.

    Args:
        budget: most words edited, at least 1.
        seed: of everything drawn at random.
        probes: most positions whose importance is measured, drawn at random from longer texts.
    """

    budget: int = 3
    seed: int = 0
    probes: int = 60
    name: ClassVar[str]
    hidden: ClassVar[str | None] = None
    """What stands for a word while its importance is measured; ``None`` leaves it out."""

    def __post_init__(self) -> None:
        self.threat  # noqa: B018  (checks the budget)

    @property
    def threat(self) -> WordEdits:
        """The threat model the attack stays in."""
        return WordEdits(self.budget, "substitute")

    def attack(self, text: str, judge: Judge) -> ClassificationAttackResult:
        """Edit ``text`` within the budget so that ``judge`` changes its label."""
        counted = CountedJudge(judge)
        words = tuple(text.split())
        (first,) = counted.judge([text])
        found, label = words, first.label
        if words and first.label is not None:
            found, label = self._search(counted, words, first)
        edited = edits_between(words, found, "substitute")
        if edited > self.budget:
            raise RuntimeError(f"{self.name} edited {edited} words, its budget is {self.budget}")
        return ClassificationAttackResult(
            text=" ".join(found) if edited else text,
            words_edited=edited,
            label_before=first.label,
            label_after=label if edited else first.label,
            queries=counted.queries,
        )

    def _search(
        self, judge: CountedJudge, words: tuple[str, ...], first: Judgement
    ) -> tuple[tuple[str, ...], str | None]:
        rng = seeded(self.seed, " ".join(words))
        now = first
        edited = 0
        for at in self._order(judge, words, first, rng):
            if edited == self.budget:
                break
            changed = [
                (*words[:at], new, *words[at + 1 :])
                for new in dict.fromkeys(self._candidates(words[at], rng))
                if new != words[at] and len(new.split()) == 1
            ]
            judged = judge.judge([" ".join(one) for one in changed])
            best = min(
                zip(changed, judged, strict=True),
                key=lambda pair: self._standing(pair[1], first),
                default=None,
            )
            if best is None or self._standing(best[1], first) >= self._standing(now, first):
                continue
            (words, now), edited = best, edited + 1
            if now.label != first.label:
                break
        return words, now.label

    @staticmethod
    def _standing(judged: Judgement, first: Judgement) -> tuple[bool, float]:
        """How firmly the first label stands; changed labels sort first."""
        return judged.label == first.label, judged.shares.get(first.label or "", 0.0)

    def _order(
        self, judge: CountedJudge, words: tuple[str, ...], first: Judgement, rng: random.Random
    ) -> list[int]:
        """Positions, the most important first."""
        losses = self._losses(judge, words, first, rng)
        return sorted(losses, key=lambda at: (-losses[at], at))

    def _losses(
        self, judge: CountedJudge, words: tuple[str, ...], first: Judgement, rng: random.Random
    ) -> dict[int, float]:
        """What the first label loses when each word is hidden."""
        places = list(range(len(words)))
        if len(places) > self.probes:
            places = sorted(rng.sample(places, self.probes))
        stand_in = () if self.hidden is None else (self.hidden,)
        texts = [" ".join((*words[:at], *stand_in, *words[at + 1 :])) for at in places]
        label = first.label or ""
        before = first.shares.get(label, 0.0)
        judged = judge.judge(texts)
        return {
            at: before - one.shares.get(label, 0.0) for at, one in zip(places, judged, strict=True)
        }

    @abstractmethod
    def _candidates(self, word: str, rng: random.Random) -> Sequence[str]:
        """What may stand for ``word``."""
