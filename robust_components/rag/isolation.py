"""The first half of every answer: each passage is read alone, and what was read is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robust_components.certificate import text_hash
from robust_components.models.protocols import ModelFailedError, Reading
from robust_components.rag.outcome import Isolated
from robust_components.rag.passages import Passage, PassageResult, encodable, prepare
from robust_components.rag.plan import OpenRequest, Plan, ReadRequest, session_readings
from robust_components.rag.scenarios import PassageList


def isolate(
    reader: Any,
    query: str,
    passages: Sequence[str | Passage],
    *,
    top_k: int | None,
    reads_tokens: bool,
) -> Plan[tuple[list[PassageResult], Isolated]]:
    """Ask for one reading a passage, or for one token session over all of them.

    Raises:
        ModelFailedError: no passage got a usable response.
        ValueError: the query is empty.
        TypeError: the query or a passage is no text.
    """
    if not isinstance(query, str):
        raise TypeError(f"query must be text, got {type(query).__name__}; pass a string")
    if not query.strip():
        raise ValueError(f"query must not be empty, got {query!r}; pass the question")
    results = prepare(passages, top_k)
    used = [i for i, result in enumerate(results) if result.unused is None]
    # A blank passage abstains without a call: a chat model might answer from memory.
    written = [i for i in used if results[i].text.strip()]
    readings = {i: Reading(None, calls=0) for i in used}
    session = None
    if used and reads_tokens:
        session = yield OpenRequest(query, tuple(encodable(results[i].text) for i in used))
        readings = session_readings(session, used)
        session = None if isinstance(session, Exception) else session
        if session is not None:
            blank = [at for at, i in enumerate(used) if i not in written]
            session.abstention = np.array(session.abstention, dtype=np.float64)
            session.abstention[blank] = 1.0
    elif written:
        answers = yield ReadRequest(query, tuple(encodable(results[i].text) for i in written))
        readings.update(zip(written, answers, strict=True))
    if written and all(readings[i].failure is not None for i in written):
        if session is not None:
            session.close()
        raise ModelFailedError(
            f"the model gave no usable response to any of {len(written)} passages; first: "
            f"{readings[written[0]].failure}"
        )
    inputs = input_digests(query, [results[i] for i in used])
    for i, reading in readings.items():
        results[i] = results[i].with_reading(reading)
    listed = PassageList(
        sources=tuple(results[i].source for i in used),
        failed=tuple(reading.failure is not None for reading in readings.values()),
        top_k=len(results) if top_k is None else top_k,
    )
    return results, Isolated(
        listed,
        tuple(readings.values()),
        inputs,
        session,
        getattr(reader, "abstention_threshold", None),
    )


def input_digests(query: str, passages: Sequence[PassageResult]) -> dict[str, Any]:
    """What a certificate is about: SHA-256 of the question and of each passage read, in order."""
    return {
        "query": text_hash(query),
        "passages": [text_hash(passage.text) for passage in passages],
        "sources": [passage.source for passage in passages],
    }
