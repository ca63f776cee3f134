"""Gradient-guided attacks: word substitution (PRADA) and several granularities (MARA).

Gradients come from a surrogate; what is kept is decided by the victim, whose queries are counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from robust_components.attacks.attack import Attack, Victim
from robust_components.attacks.vocabulary import content_words, distinctive_words
from robust_components.attacks.word_by_word import WordByWord, near

if TYPE_CHECKING:
    from robust_components.attacks.gradients import Surrogate

Edit = tuple[str, ...]


def guide_of(surrogate: Any, victim: Victim) -> Surrogate:
    """What gives gradients: the surrogate, or the victim itself. Needs torch."""
    from robust_components.attacks.gradients import Surrogate

    return Surrogate(victim.scorer if surrogate is None else surrogate)


@dataclass(frozen=True)
class GradientSubstitution(WordByWord):
    """Word substitution in the manner of PRADA (Wu et al. 2023), guided by gradients.

    Words are ordered by the length of their gradient; replacements come from ``neighbours``
    (synonyms, neighbours in an embedding) and ``free_words``, ordered by what they promise to first
    order. The ``tries`` most promising pairs of a step are shown to the victim and the best is kept
    if its score rises.

    Args:
        surrogate: ranker that gives gradients; the victim when ``None``.
        neighbours: words that may stand for a word; none when ``None``.
        free_words: words of the query and of higher-ranked documents tried besides.
        positions: words considered in each step.
        tries: queries a step.
    """

    name: ClassVar[str] = "gradient_substitution"
    surrogate: Any = None
    neighbours: Callable[[str], Sequence[str]] | None = None
    free_words: int = 12
    positions: int = 8
    tries: int = 6

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        guide = guide_of(self.surrogate, victim)
        free = distinctive_words(victim.query, above, self.free_words)
        changed: set[int] = set()
        for _ in range(min(self.budget, len(words))):
            slopes = guide.words(victim.query, words)
            saliency = slopes.saliency
            open_ = [at for at in range(len(words)) if at not in changed]
            open_.sort(key=lambda at: (-saliency[at], at))
            promised: dict[Edit, float] = {}
            for at in open_[: self.positions]:
                for new in (*near(self.neighbours, words[at]), *free):
                    step = guide.embedding(new) - slopes.embedding[at]
                    edit = (*words[:at], new, *words[at + 1 :])
                    promised[edit] = float(slopes.gradient[at] @ step)
            best = sorted(promised, key=lambda edit: (-promised[edit], edit))[: self.tries]
            found, score = self._best(victim, best, words, score)
            if found == words:
                break
            changed |= {at for at in range(len(words)) if found[at] != words[at]}
            words = found
        return words, score


@dataclass(frozen=True)
class MultiGranular(Attack):
    """Edits of several sizes in the manner of MARA (Liu et al. 2024): words, phrases, a sentence.

    Each step proposes the most promising edits of every size that is left in the budget, by the
    surrogate's gradients: a word for a word, a phrase of two or three words over the place where
    the gradient is longest, a sentence of a higher-ranked document at a sentence boundary. The
    victim decides; the edit with the largest gain a word is kept.

    Args:
        surrogate: ranker that gives gradients; the victim when ``None``.
        neighbours: words that may stand for a word.
        free_words: words of the query and of higher-ranked documents tried for words.
        tries: edits of each size shown to the victim in a step.
    """

    name: ClassVar[str] = "multi_granular"
    surrogate: Any = None
    neighbours: Callable[[str], Sequence[str]] | None = None
    free_words: int = 8
    tries: int = 3
    sizes: tuple[int, ...] = field(default=(1, 2, 3))

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        guide = guide_of(self.surrogate, victim)
        original = words
        left = self.budget
        frozen: set[int] = set()  # positions of words that were put in
        while left > 0 and words:
            slopes = guide.words(victim.query, words)
            candidates: dict[Edit, tuple[int, tuple[int, ...]]] = {}
            for size in self.sizes:
                if size <= left:
                    candidates.update(
                        self._phrases(guide, slopes, victim, words, above, size, frozen)
                    )
            candidates.update(self._sentences(victim, words, above, left, frozen))
            candidates.pop(words, None)
            scores = dict(
                zip(candidates, victim.score([" ".join(c) for c in candidates]), strict=True)
            )
            gains = {
                one: (value - score) / candidates[one][0]
                for one, value in scores.items()
                if value > score
            }
            if not gains:
                break
            best = max(gains, key=lambda one: (gains[one], one))
            number, places = candidates[best]
            if self.operations == "any":
                at, size = places[0], len(places)
                frozen = {i if i < at else i + size for i in frozen}
            frozen |= set(places)
            words, score, left = best, scores[best], left - number
        if self.operations == "substitute":
            assert len(words) == len(original)
        return words, score

    def _phrases(
        self,
        guide: Surrogate,
        slopes: Any,
        victim: Victim,
        words: tuple[str, ...],
        above: Sequence[str],
        size: int,
        frozen: set[int],
    ) -> dict[Edit, tuple[int, tuple[int, ...]]]:
        """Runs of ``size`` words at the places that promise most."""
        texts = [victim.query, *above[:2]]
        runs: dict[tuple[str, ...], None] = {}
        if size == 1:
            runs = {(w,): None for w in distinctive_words(victim.query, above, self.free_words)}
        else:
            for text in texts:
                parts = content_words(text)
                runs.update(
                    {tuple(parts[i : i + size]): None for i in range(len(parts) - size + 1)}
                )
        vectors = {run: guide.embeddings(run) for run in list(runs)[:40]}
        promised: dict[Edit, tuple[float, tuple[int, ...]]] = {}
        for at in range(len(words) - size + 1):
            places = tuple(range(at, at + size))
            if self.operations == "substitute" and frozen & set(places):
                continue
            if self.operations == "any" and at in frozen and at - 1 in frozen:
                continue
            gradient = slopes.gradient[at : at + size]
            old = (gradient * slopes.embedding[at : at + size]).sum()
            others = [(w,) for w in near(self.neighbours, words[at])] if size == 1 else []
            for run in (*vectors, *others):
                new = vectors.get(run)
                if new is None:
                    new = guide.embeddings(run)
                value = float((gradient * new).sum() - old)
                promised[self._put(words, run, at)] = (value, places)
        best = sorted(promised, key=lambda edit: (-promised[edit][0], edit))[: self.tries]
        return {edit: (size, promised[edit][1]) for edit in best}

    def _sentences(
        self,
        victim: Victim,
        words: tuple[str, ...],
        above: Sequence[str],
        left: int,
        frozen: set[int],
    ) -> dict[Edit, tuple[int, tuple[int, ...]]]:
        """Sentences of documents above that share most words with the query, at the front."""
        wanted = {word.lower() for word in content_words(victim.query)}
        runs: list[tuple[str, ...]] = []
        for text in above[:2]:
            for sentence in re.split(r"(?<=[.!?])\s+", text):
                parts = tuple(sentence.split())
                if len(parts) > 3:
                    starts = range(max(1, len(parts) - left + 1))
                    runs.extend(parts[i : i + left] for i in starts)
        runs.sort(
            key=lambda run: (-len(wanted & {w.lower() for w in content_words(" ".join(run))}), run)
        )
        found: dict[Edit, tuple[int, tuple[int, ...]]] = {}
        for run in dict.fromkeys(runs[: self.tries]):
            run = run[: len(words)] if self.operations == "substitute" else run
            places = tuple(range(len(run)))
            if len(run) > 3 and not (self.operations == "substitute" and frozen & set(places)):
                found[self._put(words, run, 0)] = (len(run), places)
        return found

    def _put(self, words: tuple[str, ...], run: tuple[str, ...], at: int) -> Edit:
        end = at if self.operations == "any" else at + len(run)
        return (*words[:at], *run, *words[end:])
