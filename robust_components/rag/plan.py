"""Model calls as data: the algorithm asks, a driver answers, synchronously or not.

The algorithm is a Python generator that yields requests and receives readings. One algorithm then
serves blocking models, asynchronous models and framework callbacks alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, TypeVar

from robust_components.answers import LONGEST_ANSWER, is_abstention
from robust_components.models.protocols import PassageReader, Reading

Result = TypeVar("Result")


@dataclass(frozen=True)
class ReadRequest:
    """Read each passage alone."""

    query: str
    passages: tuple[str, ...]


@dataclass(frozen=True)
class CombineRequest:
    """Answer from each keyword set."""

    query: str
    keyword_sets: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class OpenRequest:
    """Open a token session over the passages; answered by the session, or an exception."""

    query: str
    passages: tuple[str, ...]


Request = ReadRequest | CombineRequest | OpenRequest
Plan = Generator[Request, Any, Result]


def drive(plan: Plan[Result], reader: Any) -> Result:
    """Run a plan with a blocking reader."""
    try:
        request = next(plan)
        while True:
            request = plan.send(_answer(request, reader))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def drive_async(plan: Plan[Result], reader: Any) -> Result:
    """Run a plan with a reader that may offer ``read_async`` and ``combine_async``."""
    try:
        request = next(plan)
        while True:
            request = plan.send(await _answer_async(request, reader))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def _answer(request: Request, reader: Any) -> Any:
    if isinstance(request, OpenRequest):
        return _open(reader, request)
    if isinstance(request, ReadRequest):
        return list(map(sound_reading, _read(reader, request)))
    return list(map(sound_reading, _one_each(_combine_all(reader, request), request)))


async def _answer_async(request: Request, reader: Any) -> Any:
    if isinstance(request, OpenRequest):
        return await asyncio.to_thread(_answer, request, reader)
    rows: list[Any]
    try:
        if isinstance(request, ReadRequest) and hasattr(reader, "read_async"):
            rows = await _read_async(reader, request)
        elif isinstance(request, CombineRequest) and hasattr(reader, "combine_many_async"):
            rows = list(await reader.combine_many_async(request.query, request.keyword_sets))
        else:
            return await asyncio.to_thread(_answer, request, reader)
    except Exception as error:  # every row failed
        asked = request.keyword_sets if isinstance(request, CombineRequest) else request.passages
        rows = [failed_reading(error)] * len(asked)
    return list(map(sound_reading, _one_each(rows, request)))


def _one_each(rows: list[Any], request: ReadRequest | CombineRequest) -> list[Any]:
    """As many rows as were asked for; where the number differs, no row can be trusted."""
    asked = request.keyword_sets if isinstance(request, CombineRequest) else request.passages
    if len(rows) == len(asked):
        return rows
    error = ValueError(f"the model returned {len(rows)} readings for {len(asked)} requests")
    return [failed_reading(error)] * len(asked)


async def _read_async(reader: Any, request: ReadRequest) -> list[Any]:
    """:func:`_read`, awaited."""
    try:
        readings = list(await reader.read_async(request.query, request.passages))
        if len(readings) == len(request.passages):
            return readings
    except Exception:  # whatever one passage did must not take the others along
        readings = []
    for passage in request.passages:
        try:
            (reading,) = await reader.read_async(request.query, [passage])
        except Exception as error:  # counted as hostile and named in the certificate
            reading = failed_reading(error)
        readings.append(reading)
    return readings[-len(request.passages) :]


def _combine_all(reader: PassageReader, request: CombineRequest) -> list[Reading]:
    if not hasattr(reader, "combine_many"):
        return [_combine(reader, request.query, keywords) for keywords in request.keyword_sets]
    try:
        return list(reader.combine_many(request.query, request.keyword_sets))
    except Exception as error:  # no answer, hence no certificate
        return [failed_reading(error)] * len(request.keyword_sets)


def _read(reader: PassageReader, request: ReadRequest) -> list[Reading]:
    """Read all passages in one call; if that raises, one by one, so that one row fails alone."""
    try:
        readings = list(reader.read(request.query, request.passages))
        if len(readings) == len(request.passages):
            return readings
    except Exception:  # whatever one passage did must not take the others along
        readings = []
    return [_read_alone(reader, request.query, passage) for passage in request.passages]


def _read_alone(reader: PassageReader, query: str, passage: str) -> Reading:
    try:
        (reading,) = reader.read(query, [passage])
    except Exception as error:  # counted as hostile and named in the certificate
        return failed_reading(error)
    return reading


def _open(reader: Any, request: OpenRequest) -> Any:
    """Open all passages; if that raises, without those that raise alone, as failed rows."""
    query, passages = request.query, request.passages
    try:
        return reader.open(query, passages)
    except Exception as error:  # whatever one passage did must not take the others along
        reasons = [_failure_alone(reader, query, passage) for passage in passages]
        if None not in reasons:
            return error
    try:
        readable = zip(passages, reasons, strict=True)
        session = reader.open(query, tuple("" if why else text for text, why in readable))
        session.failures = [why or own for why, own in zip(reasons, session.failures, strict=True)]
    except Exception as error:  # nothing could be read
        return error
    return session


def _failure_alone(reader: Any, query: str, passage: str) -> str | None:
    try:
        reader.open(query, (passage,)).close()
    except Exception as error:  # counted as hostile and named in the certificate
        return failed_reading(error).failure
    return None


def _combine(reader: PassageReader, query: str, keywords: Sequence[str]) -> Reading:
    try:
        return reader.combine(query, keywords)
    except Exception as error:  # no answer, hence no certificate
        return failed_reading(error)


def failed_reading(error: BaseException) -> Reading:
    """A reading for a call that raised."""
    return Reading(None, failure=f"{type(error).__name__}: {error}"[:200])


def session_readings(session: Any, used: Sequence[int]) -> dict[int, Reading]:
    """What a session says about each passage before anything is decoded."""
    if isinstance(session, Exception):
        return {i: failed_reading(session) for i in used}
    return {
        i: Reading(None, failure=failure, truncated=cut)
        for i, failure, cut in zip(used, session.failures, session.truncated, strict=True)
    }


def sound_reading(response: Any) -> Reading:
    """Turn everything that is no usable response into a failed reading, which counts as hostile."""
    if not isinstance(response, Reading):
        return Reading(None, failure=f"the model returned {type(response).__name__}, not a Reading")
    tokens: Any = response.tokens
    calls: Any = response.calls
    probability: Any = response.probability
    answer: Any = response.answer
    failure: Any = response.failure
    if failure is None and not _is_probability(probability):
        failure = f"the model gave probability {probability!r}"[:200]
    if failure is None and answer is not None:
        if not isinstance(answer, str):
            failure = f"the answer is {type(answer).__name__}, not text"
        elif not answer.strip():
            failure = "the answer is empty"
        elif len(answer) > LONGEST_ANSWER:
            failure = f"the answer has {len(answer)} characters, more than {LONGEST_ANSWER}"
    usable = failure is None and answer is not None and not is_abstention(answer)
    return replace(
        response,
        answer=answer if usable else None,
        probability=float(probability) if usable and probability is not None else None,
        failure=None if failure is None else str(failure) or "the model gave no reason",
        tokens=_count(tokens),
        calls=_count(calls),
    )


def _count(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, Integral) else 0


def _is_probability(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, Real) and 0.0 <= float(value) <= 1.0 + 1e-6
