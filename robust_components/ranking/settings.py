"""Checks of what a SmoothedRanker is given."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from robust_components.bounds import betting_lower, overlap_probability
from robust_components.checks import positive_integer
from robust_components.ranking.top_k import SCOPES
from robust_components.smoothing import FixedMechanism, RandomMask
from robust_components.threats import WordEdits

STATEMENTS = ("observed", "pre_attack")
CHOICES = {
    "statement": STATEMENTS,
    "aggregation": ("mean", "quantile"),
    "certify": ("all", "boundary", "none"),
    "method": ("smoothing", "robustmask"),
    "bound": ("betting", "clopper_pearson"),
}


def check_choice(name: str, value: str) -> None:
    allowed = CHOICES[name]
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")


def check_scope(scope: str | None, statement: str) -> str:
    """The scope of the edits; an observed list may hold edited documents anywhere."""
    if scope is None:
        return "any"
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {list(SCOPES)}, got {scope!r}")
    if statement == "observed" and scope != "any":
        raise ValueError(
            f"scope={scope!r} needs statement='pre_attack': in an observed list any document may "
            "have been edited; use scope='any' or statement='pre_attack'"
        )
    return scope


def check_mechanism(mechanism: FixedMechanism | RandomMask, aggregation: str, method: str) -> None:
    sampled = isinstance(mechanism, RandomMask)
    if not sampled and not isinstance(mechanism, FixedMechanism):
        raise TypeError(
            f"mechanism must be a BalancedMask, HashBuckets or RandomMask, got "
            f"{type(mechanism).__name__}"
        )
    if sampled and aggregation != "mean":
        raise ValueError("aggregation='quantile' needs BalancedMask or HashBuckets, not RandomMask")
    if method == "robustmask" and not sampled:
        raise ValueError("method='robustmask' is the published rule for RandomMask; pass one")


def check_numbers(
    top_k: int,
    quantile: float,
    numerical_margin: float,
    alpha: float,
    pass_budget: int | None,
    time_budget: float | None,
) -> None:
    positive_integer("top_k", top_k)
    for name, value, high in (("quantile", quantile, 1.0), ("alpha", alpha, 1.0)):
        if not 0.0 < value < high:
            raise ValueError(f"{name} must be in (0, {high:g}), got {value!r}")
    if not 0.0 <= numerical_margin < 0.5:
        raise ValueError(
            f"numerical_margin must be in [0, 0.5), got {numerical_margin!r}; try 1e-5"
        )
    if pass_budget is not None:
        positive_integer("pass_budget", pass_budget)
    if time_budget is not None and not time_budget > 0:
        raise ValueError(f"time_budget must be more than 0 seconds, got {time_budget!r}")


def check_reach(mechanism: FixedMechanism | RandomMask, threat: WordEdits, alpha: float) -> None:
    """Warn, at the line that made the ranker, when no list could ever be certified."""
    if not isinstance(mechanism, RandomMask):
        mechanism.touched(threat)
        return
    words = 50
    share = float(overlap_probability(words, mechanism.shown(words), min(threat.budget, words)))
    best = betting_lower([1.0] * mechanism.samples, alpha / 2)
    if 2 * best - 1 <= share:
        warnings.warn(
            f"RandomMask(mask_rate={mechanism.mask_rate}, samples={mechanism.samples}) can hardly "
            f"certify {threat.budget} edited words: {words} words can gain {share:.2f} "
            f"while {mechanism.samples} samples separate scores by {2 * best - 1:.2f} at most; "
            "raise mask_rate or samples",
            UserWarning,
            stacklevel=3,
        )


def check_texts(query: str, documents: Sequence[str]) -> None:
    if not isinstance(query, str):
        raise TypeError(f"query must be text, got {type(query).__name__}")
    if not query.strip():
        raise ValueError("query is empty; pass the question the documents are ranked for")
    if isinstance(documents, str):
        raise TypeError("documents must be a list of texts, got one text; wrap it in a list")
    for index, document in enumerate(documents):
        if not isinstance(document, str):
            raise TypeError(
                f"documents[{index}] must be text, got {type(document).__name__}; pass its content"
            )


def check_top_k(top_k: int, documents: int) -> int:
    """K of this call: at least 1, cut to the number of documents."""
    return min(positive_integer("top_k", top_k), documents)
