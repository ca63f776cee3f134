"""Attacks that replace words by synonyms: TextFooler and PWWS, on synonyms of the caller."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from robust_components.attacks.classification import (
    ClassificationAttack,
    CountedJudge,
    Judgement,
)

Synonyms = Callable[[str], Sequence[str]]


def no_synonyms(word: str) -> Sequence[str]:
    """For attacks without synonyms."""
    return ()


@dataclass(frozen=True)
class TextFooler(ClassificationAttack):
    """TextFooler (Jin et al. 2020): words in the order of importance, the most harmful synonym.

    Importance is the loss when the word is left out. The original filters candidates by part of
    speech and sentence similarity; here whatever ``synonyms`` gives is allowed, which makes the
    attack stronger and its texts less natural.

    Args:
        synonyms: words that may stand for a word, best first.
        most: synonyms tried a word.
    """

    name: ClassVar[str] = "textfooler"
    synonyms: Synonyms = no_synonyms
    most: int = 12

    def _candidates(self, word: str, rng: random.Random) -> Sequence[str]:
        return like(word, self.synonyms)[: self.most]


@dataclass(frozen=True)
class PWWS(TextFooler):
    """Probability-weighted word saliency (Ren et al. 2019).

    Positions are ordered by the softmax of their saliency (loss when the word is unknown) times
    the loss that the best synonym brings.
    """

    name: ClassVar[str] = "pwws"
    hidden: ClassVar[str | None] = "[UNK]"

    def _order(
        self, judge: CountedJudge, words: tuple[str, ...], first: Judgement, rng: random.Random
    ) -> list[int]:
        saliency = self._losses(judge, words, first, rng)
        label = first.label or ""
        before = first.shares.get(label, 0.0)
        raised = {at: math.exp(value) for at, value in saliency.items()}
        total = sum(raised.values())
        worth: dict[int, float] = {}
        texts: list[str] = []
        owners: list[int] = []
        for at in saliency:
            for new in self._candidates(words[at], rng):
                texts.append(" ".join((*words[:at], new, *words[at + 1 :])))
                owners.append(at)
        for at, one in zip(owners, judge.judge(texts), strict=True):
            gain = before - one.shares.get(label, 0.0)
            worth[at] = max(worth.get(at, -math.inf), gain)
        return sorted(worth, key=lambda at: (-worth[at] * raised[at] / total, at))


def like(word: str, synonyms: Synonyms) -> list[str]:
    """Single-word synonyms of ``word``, with its capital letter and the punctuation around it."""
    core = word.strip(".,;:!?()\"'")
    if not core:
        return []
    before, _, after = word.partition(core)
    found = []
    for new in synonyms(core.lower()):
        if len(new.split()) == 1 and new.lower() != core.lower():
            shown = new.capitalize() if core[:1].isupper() else new
            found.append(before + shown + after)
    return found
