"""Builds the certificate of one classification; the evidence is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from robust_components.certificate import Certificate, Guarantee, text_hash
from robust_components.classification import wording
from robust_components.threats import SynonymEdits, WordEdits


@dataclass(frozen=True)
class Context:
    """What all certificates of one classifier share.

    Attributes:
        threat, statement: what is claimed, and against whom.
        parameters: settings of mechanism, votes and stages.
        refined: whether the claim is about edits of the refined text.
        refine_kind: ``None``, or which refinement.
        in_sample: whether anything is done to masked copies before the model sees them.
        classes: whether words are replaced by their synonym classes first.
        variation: of the substitution kernels, for synonym edits.
        model: name and fingerprint.
    """

    threat: WordEdits | SynonymEdits
    statement: str
    parameters: Mapping[str, Any]
    refined: bool
    refine_kind: str | None
    in_sample: bool
    classes: bool
    variation: Fraction
    model: Mapping[str, str]

    def subject(self, *, sampled: bool) -> wording.Subject:
        return wording.Subject(self.threat, self.statement, sampled, self.refined, self.classes)


@dataclass(frozen=True)
class Outcome:
    """What was found out about one text.

    Attributes:
        method: ``"classification"``, ``"sampled_classification"`` or ``"clucert"``.
        label: the label, or ``None``.
        radius: certified radius; 0 or less when nothing is certified.
        why: why no label is given, or why nothing is certified; ``None`` for the usual reason.
        evidence: the numbers the radius follows from.
        failed: number of failed copies.
        parameters: settings of the bound, if it was sampled.
        alpha: 1 - confidence, of sampled certificates.
        randomised: whether the model draws anew for every copy.
    """

    method: str
    label: str | None
    radius: int
    why: str | None
    evidence: Mapping[str, Any]
    failed: int
    parameters: Mapping[str, Any]
    alpha: float | None = None
    randomised: bool = False


def issue(
    context: Context, text: str, refined: str | None, outcome: Outcome, cost: Mapping[str, Any]
) -> Certificate:
    """The certificate of ``text``; ``refined`` is what the claim is about, if not the text."""
    threat = context.threat
    radius = max(0, outcome.radius)
    certified = radius >= threat.budget
    sampled = outcome.method == "sampled_classification"
    subject = context.subject(sampled=sampled)
    guarantee, confidence = Guarantee.DETERMINISTIC, None
    say = wording.claim
    if sampled:
        guarantee = Guarantee.PROBABILISTIC
        confidence = float(1 - Fraction(str(outcome.alpha)))
    elif outcome.method == "clucert":
        guarantee, say = Guarantee.HEURISTIC, wording.published_claim
    return Certificate(
        claim=say(subject, outcome.label, radius),
        certified=certified,
        guarantee=guarantee,
        confidence=confidence,
        threat=threat.to_dict(),
        statement=context.statement,
        radius=radius,
        method=outcome.method,
        parameters={**context.parameters, **outcome.parameters},
        evidence={
            "inputs": {"query": text_hash(""), "passages": [text_hash(text)]},
            "refined": None if refined is None else text_hash(refined),
            "label": outcome.label,
            **outcome.evidence,
        },
        assumptions=_assumptions(context, outcome, sampled),
        reason=None if certified else outcome.why or wording.reason(threat, radius),
        model=dict(context.model),
        cost=dict(cost),
    )


def _assumptions(context: Context, outcome: Outcome, sampled: bool) -> tuple[str, ...]:
    parameters = context.parameters
    alone = wording.ALONE
    if outcome.randomised:
        alone = wording.DRAWS
    elif parameters["votes"] == "soft":
        alone += wording.ROUNDING.format(margin=parameters["numerical_margin"]) + "."
    else:
        alone += "."
    said = [alone, wording.WORDS]
    if isinstance(context.threat, SynonymEdits):
        said.append(wording.SYNONYMS.format(variation=context.variation))
    elif context.threat.operations == "substitute":
        said.append(wording.POSITIONS)
    else:
        said.append(wording.COUNTING)
    if context.statement == "pre_attack":
        said.append(wording.CLEAN)
    if context.refine_kind == "word_importance":
        said.append(wording.IMPORTANCE)
    if context.refined:
        said.append(wording.REFINED)
    if context.classes:
        said.append(wording.CLASSES)
    if context.in_sample:
        said.append(wording.IN_SAMPLE)
    if sampled:
        said.append(wording.RANDOM)
    if outcome.failed:
        said.append(wording.failed_copies(outcome.failed))
    if outcome.method == "clucert":
        said.append(wording.PUBLISHED)
    return tuple(said)
