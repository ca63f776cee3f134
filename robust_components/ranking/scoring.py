"""Calls the wrapped scorer: each distinct text once, checked, mapped to [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.protocols import PairScorer

MOST = 1e9
"""Largest absolute score without bounds; larger ones do not fit exact integers."""
TOLERANCE = 1e-6
"""Scores this far outside [0, 1] are rounding errors and are cut to it."""
TEXTS_A_CALL = 512
"""Texts given to the model at a time, so that many samples of long documents fit in memory."""
PROBES = ("A short text about one thing.", "Another text, a little longer, about something else.")
"""Texts unlike any query; :func:`probes` adds two that share words with it."""


class ListwiseScorerError(ValueError):
    """The wrapped model scores a document by looking at the others; nothing can be certified."""


def sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))


SCORE_MAPS: dict[str, Callable[[float], float]] = {
    "identity": lambda score: score,
    "sigmoid": sigmoid,
    "sigmoid/4": lambda score: sigmoid(score / 4.0),
}
RELATIVE_MAPS = ("min_max", "minmax", "min-max", "softmax", "rank", "z_score", "zscore", "scale")


def check_score_map(name: str) -> Callable[[float], float]:
    """The map called ``name``.

    Raises:
        ValueError: unknown, or relative to the other candidates.
    """
    if isinstance(name, str) and name in RELATIVE_MAPS:
        raise ValueError(
            f"score_map={name!r} depends on the other candidates, so a hostile document moves "
            f"everybody's score and nothing can be certified; use one of {sorted(SCORE_MAPS)}"
        )
    if not isinstance(name, str) or name not in SCORE_MAPS:
        raise ValueError(f"score_map must be one of {sorted(SCORE_MAPS)}, got {name!r}")
    return SCORE_MAPS[name]


class Scoring:
    """Scores texts for one query, point-wise.

    Args:
        scorer: the wrapped model.
        score_map: applied to every score.
        bounded: whether mapped scores must lie in [0, 1].
    """

    def __init__(self, scorer: PairScorer, score_map: str, *, bounded: bool) -> None:
        self.scorer = scorer
        self.map = check_score_map(score_map)
        self.bounded = bounded
        self.passes = 0
        self._cut: set[int] = set()

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """Mapped scores of ``texts``, float64 of shape (texts,); equal texts are scored once.

        Raises:
            ValueError: the model returned too few scores, one that is not a finite number, or one
                outside [0, 1].
        """
        distinct = list(dict.fromkeys(texts))
        known: dict[str, float] = {}
        for start in range(0, len(distinct), TEXTS_A_CALL):
            part = distinct[start : start + TEXTS_A_CALL]
            known.update(zip(part, self._call(query, part), strict=True))
        return np.array([known[text] for text in texts], dtype=np.float64)

    def _call(self, query: str, texts: list[str]) -> list[float]:
        raw = self._raw(query, texts)
        self.passes += len(texts)
        if len(raw) != len(texts):
            raise ValueError(
                f"the model returned {len(raw)} scores for {len(texts)} texts; it must return "
                "one a text, in order"
            )
        return [self._checked(text, one) for text, one in zip(texts, raw, strict=True)]

    def cut(self, texts: Sequence[str]) -> bool:
        """Whether the model cut one of these texts when it scored them, as far as it tells."""
        return not self._cut.isdisjoint(map(hash, texts))

    def _raw(self, query: str, texts: Sequence[str]) -> list[float]:
        noting = getattr(self.scorer, "score_and_cuts", None)
        if noting is None:
            found: Any = self.scorer.score(query, texts)
            if not isinstance(found, Iterable):
                raise ValueError(
                    f"the model returned {found!r} for {len(texts)} texts; it must return a score "
                    "for each, in order"
                )
            return list(found)
        scores, cuts = noting(query, texts)
        self._cut.update(hash(text) for text, cut in zip(texts, cuts, strict=True) if cut)
        return list(scores)

    def _checked(self, text: str, raw: object) -> float:
        shown = text if len(text) <= 60 else text[:57] + "..."
        try:
            number = float(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(
                f"the model scored the text {shown!r} with {raw!r:.60}; a score must be a finite "
                "number: check the model (half precision overflows) or drop the document"
            )
        value = self.map(number)
        if self.bounded and not -TOLERANCE <= value <= 1.0 + TOLERANCE:
            raise ValueError(
                f"the model scored the text {shown!r} with {value!r}, outside [0, 1], where means "
                "can be bounded; pass score_map='sigmoid' (or 'sigmoid/4') for raw logits, or "
                "aggregation='quantile'"
            )
        if not -MOST <= value <= MOST:
            raise ValueError(
                f"the model scored the text {shown!r} with {value!r}, outside [-1e9, 1e9]; pass "
                "score_map='sigmoid', or scale the model's scores"
            )
        return min(1.0, max(0.0, value)) if self.bounded else value


def probes(query: str) -> list[str]:
    """Texts to score together and alone: without words of the query, with all, with half of them.

    A model that counts words scores all texts without any alike, even if it looks at the others.
    """
    words = query.split()
    half = words[: (len(words) + 1) // 2]
    return [*PROBES, query, " ".join([*half, PROBES[1]])]


def check_pointwise(
    scorer: PairScorer, query: str, tolerance: float, score_map: str = "identity"
) -> None:
    """Refuse a model whose score for one text depends on the other texts of the call.

    A spot check with four texts; a model may still be list-wise where it was not looked at. Scores
    are compared after the score map, where ``tolerance`` is what they may differ by.

    Raises:
        ListwiseScorerError: the score of a text changes when it is scored alone.
        ValueError: the model returned something that is no score.
    """
    while isinstance(scorer, MemoScorer):  # it would repeat what was said of the texts together
        scorer = scorer.scorer
    scoring = Scoring(scorer, score_map, bounded=False)
    texts = probes(query)
    together = scoring.score(query, texts)
    try:
        alone = np.concatenate([scoring.score(query, [text]) for text in texts])
    except ValueError as error:
        raise ListwiseScorerError(
            f"the model scores two texts together but not one alone: {error}; if it rescales "
            "scores over the candidates, wrap it without such scaling"
        ) from error
    apart = float(np.abs(together - alone).max())
    if apart > tolerance:
        raise ListwiseScorerError(
            f"the model's score of a text changes by {apart:.3g} with the other texts of the call "
            f"(more than numerical_margin={tolerance:g}): it is list-wise, rescales scores over "
            "the candidates, or draws at random, so an attacker may move everybody's score; wrap a "
            "point-wise model without such scaling, or raise numerical_margin if this is rounding"
        )
