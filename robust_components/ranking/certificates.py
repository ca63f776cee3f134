"""Builds the certificates of a ranked list from its analysis; the evidence is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from robust_components.certificate import Certificate, Guarantee, text_hash
from robust_components.ranking import top_k, wording
from robust_components.ranking.analysis import Analysis, FixedAnalysis
from robust_components.ranking.fixed_bounds import Integers
from robust_components.ranking.robustmask import PublishedAnalysis
from robust_components.ranking.sampled_analysis import SampledAnalysis
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class Context:
    """What all certificates of one ranking share.

    Attributes:
        threat, statement, scope: what is claimed, and against whom.
        mechanism: settings of the smoothing mechanism.
        score_map: name of the map applied to the model's scores.
        numerical_margin: most by which two scores of one text differ.
        alpha: 1 - confidence, of sampled claims.
        model: name and fingerprint.
        query: the query.
        texts: SHA-256 of every document.
        cost: passes and seconds spent.
    """

    threat: WordEdits
    statement: str
    scope: str
    mechanism: Mapping[str, Any]
    score_map: str
    numerical_margin: float
    alpha: float
    model: Mapping[str, Any]
    query: str
    texts: Sequence[str]
    cost: Mapping[str, Any]


def list_hash(digests: Sequence[str]) -> str:
    """SHA-256 of the digests of a whole list, in order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def set_certificate(analysis: Analysis, context: Context) -> Certificate:
    """Certificate of the top-K set, with every document's scores as evidence."""
    radius = analysis.set_radius(context.scope)
    evidence: dict[str, Any] = {
        "inputs": {"query": text_hash(context.query), "passages": list(context.texts)},
        "documents": [_scores(analysis, i) for i in range(len(context.texts))],
        "inside": analysis.inside,
    }
    method, claim = "ranking", wording.set_claim(_subject(analysis, context), radius)
    if isinstance(analysis, SampledAnalysis):
        method = "sampled_ranking"
    elif isinstance(analysis, PublishedAnalysis):
        method, claim = "robustmask", wording.published_claim(_subject(analysis, context), radius)
        rule = analysis.rule
        evidence["rule"] = rule and {
            "gap": rule.gap,
            "words": rule.words,
            "shown": rule.shown,
            "betas": list(rule.betas),
        }
    return _certificate(analysis, context, claim, radius, evidence, method)


class DocumentCertificates:
    """Certificates of single documents' sides of rank K; the others enter by two numbers."""

    def __init__(self, analysis: Analysis, context: Context, radii: Integers) -> None:
        self.analysis = analysis
        self.context = context
        self.radii = radii
        self.inputs = {
            "query": text_hash(context.query),
            "candidates": list_hash(context.texts),
        }
        self.subject = _subject(analysis, context)
        self._known: dict[int, tuple[Integers | None, Integers | None]] = {}

    def of(self, document: int) -> Certificate:
        """The certificate of ``document``."""
        analysis = self.analysis
        radius, inside = int(self.radii[document]), bool(analysis.in_top[document])
        sampled = isinstance(analysis, SampledAnalysis)
        budgets = [b for b in (radius, radius + 1) if 1 <= b <= analysis.cap]
        evidence: dict[str, Any] = {
            "inputs": {**self.inputs, "passages": [self.context.texts[document]]},
            **_scores(analysis, document),
            "inside": inside,
            "rivals": {str(b): self._rival(b, document, inside) for b in budgets},
            "documents": len(analysis.score),
        }
        if sampled:
            evidence["longest"] = analysis.saturation
        claim = wording.document_claim(self.subject, radius, inside=inside)
        method = "sampled_document" if sampled else "ranking_document"
        return _certificate(analysis, self.context, claim, radius, evidence, method)

    def _rival(self, budget: int, document: int, inside: bool) -> int | None:
        """The K-th greatest value the others can reach, or keep; ``None`` when there are fewer."""
        if budget not in self._known:
            analysis = self.analysis
            low, high = analysis.bounds(budget).reach(analysis.in_top, self.context.scope)
            self._known[budget] = (
                top_k.kth_of_others(low, analysis.k),
                top_k.kth_of_others(high, analysis.k),
            )
        values = self._known[budget][inside]
        return None if values is None else int(values[document])


def _scores(analysis: Analysis, document: int) -> dict[str, Any]:
    if isinstance(analysis, FixedAnalysis):
        coverage = analysis.coverage
        terms = {} if coverage is None else {"terms": coverage.counts[document].tolist()}
        return {
            "words": int(analysis.words[document]),
            "scores": analysis.copies.scores[document].tolist(),
            **terms,
        }
    if isinstance(analysis, SampledAnalysis):
        bounds = analysis.bounds(1)
        wins = {} if analysis.wins is None else {"wins": int(analysis.wins[document])}
        return {
            "words": int(analysis.words[document]),
            "estimate": int(analysis.score[document]),
            "samples": int(analysis.samples[document]),
            **wins,
            "low": int(bounds.low[document]),
            "high": int(bounds.high[document]),
        }
    assert isinstance(analysis, PublishedAnalysis)
    return {
        "words": int(analysis.words[document]),
        "estimate": int(analysis.score[document]),
    }


def _subject(analysis: Analysis, context: Context) -> wording.Subject:
    unlimited = analysis.cap
    if isinstance(analysis, PublishedAnalysis):
        unlimited = analysis.limit() + 1
    return wording.Subject(
        threat=context.threat,
        k=analysis.k,
        scope=context.scope,
        statement=context.statement,
        sampled=not isinstance(analysis, FixedAnalysis),
        unlimited=unlimited,
    )


def _certificate(
    analysis: Analysis,
    context: Context,
    claim: str,
    radius: int,
    evidence: dict[str, Any],
    method: str,
) -> Certificate:
    threat = context.threat
    certified = radius >= threat.budget
    parameters: dict[str, Any] = {
        "top_k": analysis.k,
        "scope": context.scope,
        "mechanism": dict(context.mechanism),
        "aggregation": _aggregation(analysis),
        "score_map": context.score_map,
        "numerical_margin": str(context.numerical_margin),
    }
    guarantee, confidence = Guarantee.DETERMINISTIC, None
    if isinstance(analysis, SampledAnalysis):
        guarantee = Guarantee.PROBABILISTIC
        alpha = Fraction(str(context.alpha))
        confidence = float(1 - alpha)
        parameters["alpha"] = str(context.alpha)
        parameters["bound"] = analysis.bound
        parameters["bound_level"] = str(analysis.level)
    elif isinstance(analysis, PublishedAnalysis):
        guarantee = Guarantee.HEURISTIC
    assumptions = wording.assumptions(
        threat, context.mechanism, context.statement, parameters["numerical_margin"]
    )
    if guarantee == Guarantee.HEURISTIC:
        assumptions = (*assumptions, wording.PUBLISHED)
    return Certificate(
        claim=claim,
        certified=certified,
        guarantee=guarantee,
        confidence=confidence,
        threat=threat.to_dict(),
        statement=context.statement,
        radius=radius,
        method=method,
        parameters=parameters,
        evidence=evidence,
        assumptions=assumptions,
        reason=None if certified else wording.reason(threat, analysis.k, radius),
        model=dict(context.model),
        cost=dict(context.cost),
    )


def _aggregation(analysis: Analysis) -> dict[str, Any]:
    quantile, coverage = getattr(analysis, "quantile", None), getattr(analysis, "coverage", None)
    if quantile is not None:
        return {"name": "quantile", "quantile": str(quantile)}
    if coverage is not None:
        return {
            "name": "mean_and_terms",
            "share": str(coverage.share),
            "language": coverage.language,
            "weights": coverage.weights.tolist(),
        }
    return {"name": "mean"}
