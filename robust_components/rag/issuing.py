"""The last step of every answer: what was found out becomes a certificate."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from robust_components.certificate import Certificate
from robust_components.models.memo import MemoReader
from robust_components.rag.outcome import Aggregator, Isolated, Outcome, Threat
from robust_components.rag.wording import assumptions, claim


def issue(
    aggregator: Aggregator,
    reader: Any,
    outcome: Outcome,
    isolated: Isolated,
    threat: Threat,
    statement: str,
    began: float,
    *,
    withhold: bool = False,
) -> Certificate:
    """The certificate of an outcome.

    Args:
        began: ``time.perf_counter()`` when work on the answer began.
        withhold: whether an answer that is not certified is withheld.
    """
    certified = outcome.radius >= threat.budget
    passages = isolated.passages
    if outcome.failures is not None:
        passages = replace(passages, failed=tuple(why is not None for why in outcome.failures))
    parameters = {"top_k": passages.top_k, **aggregator.parameters()}
    if isinstance(reader, MemoReader):
        parameters["memo"] = True
    reason = None if certified else outcome.reason
    evidence = {"inputs": isolated.inputs, **outcome.evidence}
    withheld = withhold and not certified and outcome.answer is not None
    if withheld:
        reason = f"{reason}; the answer was withheld"
        evidence["withheld"] = True
    readings = (*isolated.readings, *outcome.extra_readings)
    return Certificate(
        claim=claim(outcome.answer, outcome.radius, threat, statement, passages, withheld=withheld),
        certified=certified,
        guarantee="deterministic",
        threat=threat.to_dict(),
        statement=statement,
        radius=outcome.radius,
        method=aggregator.method,
        parameters=parameters,
        evidence=evidence,
        assumptions=assumptions(passages, threat, statement, aggregator.method, parameters),
        reason=reason,
        model={"name": reader.name, "fingerprint": reader.fingerprint},
        cost={
            "model_passes": outcome.model_rows or sum(reading.calls for reading in readings),
            "tokens": sum(reading.tokens for reading in readings),
            "seconds": round(time.perf_counter() - began, 4),
        },
    )
