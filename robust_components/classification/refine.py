"""Stage 1, refine: look at important words only. Which edits a certificate covers depends on how.

* :class:`KeepImportant` keeps the words of highest fixed importance and hides the rest. A word's
  importance depends on that word alone, so an edit brings at most one other word in or out, and
  edits of the raw text are covered.
* :class:`RefineCopies` refines each masked copy, by anything that reads that copy alone (a language
  model, say): edits of the raw text are covered.
* :class:`RefineText` refines the full text, where one edit may change everything: only edits of the
  refined text are covered, and the certificate says so.

Source: CluCERT (arXiv 2512.08967), whose refinement of the full text inside the certificate is not
sound.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from robust_components.checks import positive_integer
from robust_components.models.protocols import ProbabilisticClassifier
from robust_components.smoothing import join_words, split_words

_FREQUENT = """
    a about above after again against all am an and any are as at be because been before
    being below between both but by could did do does doing down during each few for from
    further had has have having he her here hers herself him himself his how i if in into is
    it its itself just me more most my myself of off on once only or other our ours out over
    own same she should so some such than that the their theirs them then there these they
    this those through to too under until up was we were what when where which while who
    whom why will with would you your yours
"""
FUNCTION_WORDS = frozenset(_FREQUENT.split())
"""Frequent English words that say little alone. Negations are not among them."""


def length_importance(word: str) -> float:
    """A table of importance that needs no model: 0 for function words, longer words count more."""
    core = word.strip(".,;:!?()[]{}\"'`").lower()
    if not core or core in FUNCTION_WORDS:
        return 0.0
    return 1.0 + min(len(core), 20) / 20


class ModelImportance:
    """Importance of a word: how sure a classifier is of its label when it sees that word alone.

    Args:
        model: frozen; gives the same probabilities to the same word.
    """

    def __init__(self, model: ProbabilisticClassifier) -> None:
        self.model = model
        self.name = f"model importance by {getattr(model, 'name', type(model).__name__)}"
        self._known = functools.lru_cache(maxsize=100_000)(self._score)
        self._lock = threading.Lock()

    def __call__(self, word: str) -> float:
        with self._lock:
            return self._known(word)

    def _score(self, word: str) -> float:
        (row,) = self.model.probabilities([word])
        return round(float(max(row)), 6)


def _name_of(function: Any) -> str:
    return str(
        getattr(function, "name", getattr(function, "__qualname__", type(function).__name__))
    )


def _function(value: Any) -> Callable[[str], Any]:
    if not callable(value):
        raise TypeError(f"function must be callable, got {type(value).__name__}; pass a function")
    return value  # type: ignore[no-any-return]


class KeepImportant:
    """Keep the ``keep`` most important words; hide the rest. Covers edits of the raw text.

    Args:
        keep: words kept, at least 1; all words of shorter texts.
        importance: a fixed function of one word; equal words must get equal numbers.
    """

    kind: ClassVar[str] = "word_importance"

    def __init__(self, keep: int, importance: Callable[[str], float] = length_importance) -> None:
        self.keep = positive_integer("keep", keep)
        self.importance = _function(importance)

    def kept(self, words: Sequence[str]) -> tuple[int, ...]:
        """Positions of the words kept, ascending. Ties go by the word, then by position.

        Raises:
            ValueError: the importance of a word is no finite number.
        """
        if len(words) <= self.keep:
            return tuple(range(len(words)))
        score = {word: self._score(word) for word in set(words)}
        order = sorted(range(len(words)), key=lambda i: (-score[words[i]], words[i], i))
        return tuple(sorted(order[: self.keep]))

    def _score(self, word: str) -> float:
        value = float(self.importance(word))
        if not math.isfinite(value):
            raise ValueError(
                f"importance must be a finite number, got {value} for {word[:40]!r}; return 0 for "
                "words that say nothing"
            )
        return value

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "keep": self.keep, "name": _name_of(self.importance)}


class RefineCopies:
    """Refine each masked copy by ``function(copy) -> text``. Covers edits of the raw text.

    Args:
        function: reads the copy alone and gives equal copies equal results.
        name: for certificates.
    """

    kind: ClassVar[str] = "in_sample"

    def __init__(self, function: Callable[[str], str], name: str | None = None) -> None:
        self.function = _function(function)
        self.name = name or _name_of(function)

    @classmethod
    def keep_important(
        cls, keep: int, importance: Callable[[str], float] = length_importance
    ) -> RefineCopies:
        """The ``keep`` most important words of each masked copy."""
        refine = KeepImportant(keep, importance)

        def important(text: str) -> str:
            words = split_words(text)
            return join_words(words[i] for i in refine.kept(words))

        return cls(important, f"the {keep} most important words by {_name_of(importance)}")

    def __call__(self, text: str) -> str:
        return _text_from(self.function(text), self.name)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name}


class RefineText:
    """Refine the full text by ``function(text) -> text``. Covers edits of the refined text only.

    Args:
        function: anything; its result is what the certificate is about.
        name: for certificates.
    """

    kind: ClassVar[str] = "full_text"

    def __init__(self, function: Callable[[str], str], name: str | None = None) -> None:
        self.function = _function(function)
        self.name = name or _name_of(function)

    def __call__(self, text: str) -> str:
        return _text_from(self.function(text), self.name)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self.name}


Refine = KeepImportant | RefineCopies | RefineText


def _text_from(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must return text, got {type(value).__name__}; return a string")
    return value
