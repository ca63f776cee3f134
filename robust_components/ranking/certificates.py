"""Builds the certificates of a ranked list from its analysis; the evidence is complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robust_components.certificate import Certificate, Guarantee
from robust_components.ranking import wording
from robust_components.ranking.analysis import Analysis, FixedAnalysis, SampledAnalysis
from robust_components.ranking.top_k import Bounds
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class Context:
    """What all certificates of one ranking share."""

    threat: WordEdits
    statement: str
    scope: str
    mechanism: Mapping[str, Any]
    score_map: str
    model: Mapping[str, Any]
    alpha: float
    query: str
    cost: Mapping[str, Any]


def text_hash(text: str) -> str:
    """SHA-256 of a text, to bind a certificate to it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def set_certificate(analysis: Analysis, context: Context, documents: Sequence[str]) -> Certificate:
    """Certificate of the top-K set, with every document's scores as evidence."""
    radius = analysis.set_radius(context.scope)
    evidence = {
        "documents": [
            {"sha256": text_hash(text), **_scores(analysis, i)} for i, text in enumerate(documents)
        ],
        "inside": analysis.inside,
    }
    claim = wording.set_claim(context.threat, analysis.k, context.scope, context.statement)
    method = "ranking" if isinstance(analysis, FixedAnalysis) else "sampled_ranking"
    return _certificate(analysis, context, claim, radius, evidence, method, conjunctive=True)


def document_certificate(
    analysis: Analysis, context: Context, document: int, text: str
) -> Certificate:
    """Certificate of one document's side of rank K; the others enter by one number a budget."""
    radius = analysis.document_radius(document, context.scope)
    inside = document in analysis.inside
    last = min(radius + 1, analysis.cap)
    evidence = {
        **_scores(analysis, document),
        "sha256": text_hash(text),
        "inside": inside,
        "rivals": {
            str(words): _rival(analysis, analysis.bounds(words), document, context.scope, inside)
            for words in range(1, last + 1)
        },
        "documents": len(analysis.score),
    }
    claim = wording.document_claim(
        context.threat, analysis.k, context.scope, context.statement, inside=inside
    )
    method = "ranking_document" if isinstance(analysis, FixedAnalysis) else "sampled_document"
    return _certificate(analysis, context, claim, radius, evidence, method, conjunctive=False)


def _rival(
    analysis: Analysis, bounds: Bounds, document: int, scope: str, inside: bool
) -> int | None:
    """The K-th greatest value the others can reach, or keep; ``None`` when there are fewer."""
    low, high = bounds.reach(analysis.inside, scope)
    values = sorted(
        (int(v) for i, v in enumerate(high if inside else low) if i != document), reverse=True
    )
    return values[analysis.k - 1] if len(values) >= analysis.k else None


def _scores(analysis: Analysis, document: int) -> dict[str, Any]:
    if isinstance(analysis, SampledAnalysis):
        bounds = analysis.bounds(1)
        return {
            "estimate": int(analysis.score[document]),
            "low": int(bounds.low[document]),
            "high": int(bounds.high[document]),
            "words": int(analysis.words[document]),
        }
    assert isinstance(analysis, FixedAnalysis)
    scores: dict[str, Any] = {"scores": analysis.copies.scores[document].tolist()}
    touchable = analysis.copies.touchable[document]
    if not touchable.all():
        scores["touchable"] = touchable.astype(int).tolist()
    return scores


def _certificate(
    analysis: Analysis,
    context: Context,
    claim: str,
    radius: int,
    evidence: dict[str, Any],
    method: str,
    *,
    conjunctive: bool,
) -> Certificate:
    sampled = isinstance(analysis, SampledAnalysis)
    threat = context.threat
    certified = radius >= threat.budget
    parameters: dict[str, Any] = {
        "top_k": analysis.k,
        "scope": context.scope,
        "mechanism": dict(context.mechanism),
        "aggregation": _aggregation(analysis),
        "score_map": context.score_map,
        "margin": analysis.margin,
        "unit": analysis.scale,
        "cap": analysis.cap,
        "query_sha256": text_hash(context.query),
    }
    if sampled:
        parameters["level"] = str(context.alpha)
        parameters["conjunctive"] = conjunctive
    return Certificate(
        claim=claim,
        certified=certified,
        guarantee=Guarantee.PROBABILISTIC if sampled else Guarantee.DETERMINISTIC,
        confidence=1.0 - context.alpha if sampled else None,
        threat=threat.to_dict(),
        statement=context.statement,
        radius=radius,
        method=method,
        parameters=parameters,
        evidence=evidence,
        assumptions=wording.assumptions(threat, context.mechanism, context.statement),
        reason=None if certified else wording.reason(threat, radius),
        model=dict(context.model),
        cost=dict(context.cost),
    )


def _aggregation(analysis: Analysis) -> dict[str, str]:
    quantile = getattr(analysis, "quantile", None)
    if quantile is None:
        return {"name": "mean"}
    return {"name": "quantile", "quantile": str(quantile)}


def heuristic(certificate: Certificate, radius: int, evidence: Mapping[str, Any]) -> Certificate:
    """The same claim under the published rule, marked as what it is."""
    budget = int(certificate.threat["budget"])
    certified = radius >= budget
    return replace(
        certificate,
        certified=certified,
        guarantee=Guarantee.HEURISTIC,
        confidence=None,
        radius=radius,
        method="robustmask",
        evidence=dict(evidence),
        assumptions=(*certificate.assumptions, wording.PUBLISHED),
        reason=None if certified else f"The published rule holds up to {radius}.",
        digest="",
    )
