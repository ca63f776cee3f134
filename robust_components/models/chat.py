"""Any chat model as a text generator: concurrent calls, time-outs, retries, order kept."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from robust_components.checks import positive_integer
from robust_components.models.protocols import Completion

Value = TypeVar("Value")
Response = str | Completion
LONGEST_DELAY = 30.0


class ChatCompleter:
    """Calls a function for each prompt, several at a time; results keep the order of the prompts.

    A call that raises, or takes longer than ``timeout``, is tried again up to ``retries`` times;
    then its exception takes the place of the response. No call affects another's result. A
    blocking call cannot be stopped: after a time-out it goes on in its thread, unheard, and no
    longer counts towards ``max_concurrency``.

    Args:
        complete: blocking completion of one prompt, as text or as a :class:`Completion` that also
            says how many tokens it took; ``None`` if only ``complete_async`` is given.
        complete_async: the same as a coroutine function; used by :meth:`generate_async`.
        name: model name for certificates.
        fingerprint: version and settings of the model as far as known.
        max_concurrency: most calls under way at once.
        timeout: seconds one call may take; ``None`` waits for ever.
        retries: further attempts after a failed one.
        retry_delay: seconds before the first of them, doubled before each next one up to 30.
    """

    def __init__(
        self,
        complete: Callable[[str], Response] | None,
        complete_async: Callable[[str], Awaitable[Response]] | None = None,
        *,
        name: str = "chat model",
        fingerprint: str = "unknown",
        max_concurrency: int = 8,
        timeout: float | None = 60.0,
        retries: int = 1,
        retry_delay: float = 0.5,
    ) -> None:
        if complete is None and complete_async is None:
            raise ValueError("complete and complete_async are both None; pass at least one")
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise ValueError(f"timeout must be > 0 seconds or None, got {timeout!r}")
        if not (math.isfinite(retry_delay) and retry_delay >= 0):
            raise ValueError(f"retry_delay must be >= 0 seconds, got {retry_delay!r}; try 0.5")
        self.complete = complete
        self.complete_async = complete_async
        self.name = name
        self.fingerprint = fingerprint
        self.max_concurrency = positive_integer("max_concurrency", max_concurrency)
        self.timeout = timeout
        self.retries = positive_integer("retries", retries, minimum=0)
        self.retry_delay = retry_delay

    def generate(self, prompts: Sequence[str]) -> list[str | BaseException]:
        """Complete all prompts; an exception stands where a response could not be had."""
        return [_text_or_failure(completion) for completion in self.completions(prompts)]

    async def generate_async(self, prompts: Sequence[str]) -> list[str | BaseException]:
        """:meth:`generate` on the event loop; blocking models run in a thread."""
        return [_text_or_failure(one) for one in await self.completions_async(prompts)]

    def completions(self, prompts: Sequence[str]) -> list[Completion]:
        """Complete all prompts, and say what each took."""
        complete = self.complete
        if complete is None:
            completions = self.completions_async(prompts)
            return list(_in_daemon_thread(asyncio.run, completions).result())
        finished: dict[int, Completion] = {}
        waiting = [_Attempt(index) for index in range(len(prompts))]
        running: dict[Future[Response], _Attempt] = {}
        while waiting or running:
            now = time.monotonic()
            free = self.max_concurrency - len(running)
            for attempt in [one for one in waiting if one.begins <= now][:free]:
                waiting.remove(attempt)
                future = _in_daemon_thread(complete, prompts[attempt.index])
                running[future] = replace(attempt, begins=time.monotonic())
            self._wait(running, waiting)
            now = time.monotonic()
            for future, attempt in list(running.items()):
                if future.done():
                    outcome = _completion(future.exception() or future.result())
                elif self.timeout is not None and now - attempt.begins >= self.timeout:
                    outcome = _completion(self._late())
                else:
                    continue
                del running[future]
                if isinstance(outcome.failure, Exception) and attempt.number <= self.retries:
                    pause = self._pause(attempt.number)
                    waiting.append(_Attempt(attempt.index, attempt.number + 1, now + pause))
                else:
                    finished[attempt.index] = replace(outcome, calls=attempt.number)
        return [finished[index] for index in range(len(prompts))]

    def _wait(self, running: dict[Future[Response], _Attempt], waiting: list[_Attempt]) -> None:
        """Until a call ends or is late, or a place is free for an attempt that may begin."""
        moments = []
        if self.timeout is not None:
            moments += [attempt.begins + self.timeout for attempt in running.values()]
        if len(running) < self.max_concurrency:
            moments += [attempt.begins for attempt in waiting]
        patience = max(0.0, min(moments) - time.monotonic()) if moments else None
        if running:
            wait(running, timeout=patience, return_when=FIRST_COMPLETED)
        elif patience:
            time.sleep(patience)

    def _pause(self, attempts: int) -> float:
        doubled: float = self.retry_delay * 2.0 ** min(attempts - 1, 30)
        return min(doubled, LONGEST_DELAY)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"no response within {self.timeout} seconds")

    async def completions_async(self, prompts: Sequence[str]) -> list[Completion]:
        """:meth:`completions` on the event loop; blocking models run in a thread."""
        if self.complete_async is None:
            return await asyncio.to_thread(self.completions, prompts)
        gate = asyncio.Semaphore(self.max_concurrency)
        calls = (self._call(self.complete_async, prompt, gate) for prompt in prompts)
        return list(await asyncio.gather(*calls))

    async def _call(
        self,
        complete: Callable[[str], Awaitable[Response]],
        prompt: str,
        gate: asyncio.Semaphore,
    ) -> Completion:
        for attempt in range(1, self.retries + 2):
            if attempt > 1:
                await asyncio.sleep(self._pause(attempt - 1))
            async with gate:
                outcome = await self._attempt(complete, prompt)
            if outcome.failure is None:
                break
        return replace(outcome, calls=attempt)

    async def _attempt(
        self, complete: Callable[[str], Awaitable[Response]], prompt: str
    ) -> Completion:
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                return _completion(await complete(prompt))
        except Exception as error:  # reported in place of the response
            return _completion(self._late() if limit.expired() else error)


def settings_fingerprint(settings: Any) -> str:
    """A digest of a model's settings, the same in every process; "unknown" when there are none."""
    if not settings:
        return "unknown"
    try:
        text = json.dumps(settings, sort_keys=True, default=lambda value: type(value).__name__)
    except (TypeError, ValueError, RecursionError):
        return "unknown"
    return "settings " + hashlib.sha256(text.encode()).hexdigest()[:16]


def total_tokens(usage: Any) -> int:
    """Tokens of prompt and response in a provider's usage data, 0 where it has none.

    Reads ``total_tokens``, or else adds up input or prompt tokens and output or completion tokens.
    """
    if not isinstance(usage, Mapping):
        return 0
    for names in (
        ("total_tokens",),
        ("input_tokens", "output_tokens"),
        ("prompt_tokens", "completion_tokens"),
    ):
        numbers = [usage.get(name) for name in names]
        found = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
        if found:
            return sum(found)
    return 0


@dataclass(frozen=True)
class _Attempt:
    """The ``number``-th call for one prompt, not before ``begins``."""

    index: int
    number: int = 1
    begins: float = 0.0


def _completion(response: Any) -> Completion:
    if isinstance(response, BaseException):
        return Completion(None, failure=response)
    if isinstance(response, str):
        return Completion(response)
    if isinstance(response, Completion) and isinstance(response.text, str):
        return response
    said = response.text if isinstance(response, Completion) else response
    return Completion(
        None, failure=TypeError(f"the model returned {type(said).__name__}, not text")
    )


def _text_or_failure(completion: Completion) -> str | BaseException:
    if completion.failure is not None:
        return completion.failure
    return completion.text if completion.text is not None else TypeError("no text")


def _in_daemon_thread(function: Callable[[Any], Value], argument: Any) -> Future[Value]:
    """Run in a thread that cannot keep the interpreter alive, with the caller's context."""
    future: Future[Value] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            future.set_result(context.run(function, argument))
        except BaseException as error:  # handed to the caller through the future
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
