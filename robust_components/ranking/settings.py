"""Checks of what a SmoothedRanker is given."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from robust_components.bounds import betting_lower
from robust_components.checks import no_class
from robust_components.models.protocols import PairScorer
from robust_components.ranking.quantile_bounds import position
from robust_components.ranking.top_k import SCOPES
from robust_components.smoothing import FixedMechanism, RandomMask
from robust_components.smoothing.term_coverage import TermCoverage, coverage_named
from robust_components.threats import WordEdits

STATEMENTS = ("observed", "pre_attack")
CHOICES = {
    "statement": STATEMENTS,
    "aggregation": ("mean", "quantile"),
    "certify": ("all", "boundary", "none"),
    "method": ("smoothing", "robustmask"),
    "bound": ("betting", "clopper_pearson"),
}


def takes_logits(score_map: str, aggregation: str) -> bool:
    """Whether a model loaded by name is to give logits instead of probabilities."""
    return score_map != "identity" or aggregation == "quantile"


def check_scope(scope: str | None, statement: str, method: str) -> str:
    """The scope of the edits; an observed list may hold edited documents anywhere."""
    if method == "robustmask":
        if statement != "pre_attack" or scope not in (None, "promotion"):
            raise ValueError(
                "method='robustmask' speaks of clean lists in which a document below rank K is "
                f"edited, got statement={statement!r} and scope={scope!r}; pass "
                "statement='pre_attack' and scope='promotion'"
            )
        return "promotion"
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


def check_threat(threat: Any, operations: str) -> WordEdits:
    """The threat; one edited word of the mechanism's kind by default."""
    if threat is None:
        return WordEdits(1, operations)
    if not isinstance(threat, WordEdits):
        raise TypeError(
            f"threat must be WordEdits, got {type(threat).__name__}; a ranker withstands edits of "
            "words, not other documents"
        )
    return threat


def check_model(model: Any) -> PairScorer | None:
    """A point-wise scorer, or ``None`` for the embedded one."""
    no_class("model", model)
    if model is not None and not isinstance(model, PairScorer):
        raise TypeError(
            f"model must have a method score(query, documents), got {type(model).__name__}; wrap "
            "it in an object with that method"
        )
    return model


def check_mechanism(
    mechanism: Any,
    *,
    aggregation: str,
    method: str,
    bound: str,
    pass_budget: int | None,
    time_budget: float | None,
) -> None:
    """Whether the settings fit the mechanism; budgets play no part with fixed ones."""
    sampled = isinstance(mechanism, RandomMask)
    if sampled and aggregation != "mean":
        raise ValueError("aggregation='quantile' needs BalancedMask or HashBuckets, not RandomMask")
    if method == "robustmask" and not sampled:
        raise ValueError("method='robustmask' is the published rule for RandomMask; pass one")
    if bound != "betting" and not sampled:
        raise ValueError(f"bound={bound!r} is for RandomMask; other mechanisms are exact")
    fixed_number = "method='robustmask'" if method == "robustmask" else f"bound={bound!r}"
    for name, value in (("pass_budget", pass_budget), ("time_budget", time_budget)):
        early = bound == "betting" or name == "pass_budget"  # it fixes the number beforehand
        if value is not None and sampled and not (early and method == "smoothing"):
            raise ValueError(
                f"{name}={value!r} does not go with {fixed_number}, whose number of samples is "
                "fixed beforehand; leave it out and choose the mechanism's samples"
            )


def check_coverage(
    value: Any, mechanism: FixedMechanism | RandomMask, aggregation: str
) -> TermCoverage | str | None:
    """Term coverage, ``"model"`` for what the model asks for, or ``None``.

    Raises:
        ValueError, TypeError: it is none of these, or does not go with the other settings.
    """
    fixed = not isinstance(mechanism, RandomMask) and aggregation == "mean"
    if value is None or value == "model":
        return value if fixed else None
    if not isinstance(value, TermCoverage | Mapping):
        raise TypeError(
            f"coverage must be a TermCoverage, 'model' or None, got {type(value).__name__}; try "
            "TermCoverage('0.3')"
        )
    if not fixed:
        raise ValueError(
            "coverage needs BalancedMask or HashBuckets and aggregation='mean'; leave it out"
        )
    return coverage_named(value)


def coverage_in_use(
    wanted: TermCoverage | str | None, model: Any, mechanism: FixedMechanism | RandomMask
) -> TermCoverage | None:
    """The coverage asked for, or for ``"model"`` the one the model was trained beside."""
    if isinstance(wanted, str):
        wanted = check_coverage(getattr(model, "coverage", None), mechanism, "mean")
    assert not isinstance(wanted, str)
    return wanted


def check_reach(
    mechanism: FixedMechanism | RandomMask,
    threat: WordEdits,
    *,
    scope: str,
    quantile: Fraction | None,
    alpha: float,
    method: str,
) -> None:
    """Warn, at the line that made the ranker, when no list of long documents can be certified.

    Term coverage is left out of account: what the model asks for may not be known yet.

    Raises:
        ValueError: the mechanism does not cover the threat.
    """
    problem = (
        _sampled_problem(mechanism, threat, scope, alpha)
        if isinstance(mechanism, RandomMask)
        else _fixed_problem(mechanism, threat, scope, quantile)
    )
    if problem and method == "smoothing":
        warnings.warn(problem, UserWarning, stacklevel=3)


def _fixed_problem(
    mechanism: FixedMechanism, threat: WordEdits, scope: str, quantile: Fraction | None
) -> str | None:
    blocks, touched = mechanism.blocks, mechanism.touched(threat)
    if quantile is None:
        hopeless = (2 if scope == "any" else 1) * touched >= blocks
    else:
        number = blocks * mechanism.partitions
        moved, place = touched * mechanism.partitions, position(number, quantile)
        rises, falls = moved >= number - place, moved > place
        hopeless = {"promotion": rises, "demotion": falls, "any": rises or falls}[scope]
    if not hopeless or blocks == 1:  # the mechanism itself has warned about a single block
        return None
    plural = "s" if threat.budget > 1 else ""
    return (
        f"{type(mechanism).__name__} with {blocks} copies a partition can never certify "
        f"{threat.budget} edited word{plural} (operations={threat.operations!r}, "
        f"scope={scope!r}) without term coverage: edits reach {touched} of them; use more blocks "
        "or a smaller budget"
    )


def _sampled_problem(
    mechanism: RandomMask, threat: WordEdits, scope: str, alpha: float
) -> str | None:
    words = 50
    share = float(mechanism.delta(words, threat)) * (2 if scope == "any" else 1)
    apart = 2 * betting_lower([1.0] * mechanism.samples, alpha / 2) - 1
    if apart > share:
        return None
    plural = "s" if threat.budget > 1 else ""
    return (
        f"RandomMask(mask_rate={mechanism.mask_rate}, samples={mechanism.samples}) can hardly "
        f"certify {threat.budget} edited word{plural} (scope={scope!r}): texts of {words} words "
        f"can move by {share:.2f} while {mechanism.samples} samples separate scores by "
        f"{apart:.2f} at most; raise mask_rate or samples"
    )


def check_texts(query: str, documents: Sequence[str]) -> None:
    if not isinstance(query, str):
        raise TypeError(f"query must be text, got {type(query).__name__}; pass the question")
    if not query.strip():
        raise ValueError("query is empty; pass the question the documents are ranked for")
    if isinstance(documents, str):
        raise TypeError("documents must be a list of texts, got one text; wrap it in a list")
    if isinstance(documents, Mapping) or not hasattr(documents, "__getitem__"):
        raise TypeError(
            f"documents must be a list of texts, got {type(documents).__name__}; make a list of it"
        )
    for index, document in enumerate(documents):
        if not isinstance(document, str):
            raise TypeError(
                f"documents[{index}] must be text, got {type(document).__name__}; pass its content"
            )


def check_pass_budget(budget: int | None, documents: int, base_scores: bool) -> None:
    """A list cannot be ranked with less than one sample a document."""
    least = documents * (2 if base_scores else 1)
    if budget is not None and budget < least:
        raise ValueError(
            f"pass_budget={budget} is too small for {documents} documents, which need at least "
            f"{least} passes; raise it, rank fewer documents, or pass base_scores=False"
        )
