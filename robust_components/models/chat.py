"""Any chat model as a text generator: concurrent calls, time-outs, retries, order kept."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from robust_components.checks import positive_integer

Value = TypeVar("Value")


class ChatCompleter:
    """Calls a function for each prompt, several at a time; results keep the order of the prompts.

    A call that raises, or takes longer than ``timeout``, is tried again up to ``retries`` times;
    then its exception takes the place of the response. No call affects another's result.

    Args:
        complete: blocking completion of one prompt; ``None`` if only ``complete_async`` is given.
        complete_async: the same as a coroutine function; used by :meth:`generate_async`.
        name: model name for certificates.
        fingerprint: version of the model as far as known.
        max_concurrency: most calls under way at once.
        timeout: seconds one call may take; ``None`` waits for ever.
        retries: further attempts after a failed one.
    """

    def __init__(
        self,
        complete: Callable[[str], str] | None,
        complete_async: Callable[[str], Awaitable[str]] | None = None,
        *,
        name: str = "chat model",
        fingerprint: str = "unknown",
        max_concurrency: int = 8,
        timeout: float | None = 60.0,
        retries: int = 1,
    ) -> None:
        if complete is None and complete_async is None:
            raise ValueError("complete and complete_async are both None; pass at least one")
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise ValueError(f"timeout must be > 0 seconds or None, got {timeout!r}")
        self.complete = complete
        self.complete_async = complete_async
        self.name = name
        self.fingerprint = fingerprint
        self.max_concurrency = positive_integer("max_concurrency", max_concurrency)
        self.timeout = timeout
        self.retries = positive_integer("retries", retries, minimum=0)

    def generate(self, prompts: Sequence[str]) -> list[str | BaseException]:
        """Complete all prompts; an exception stands where a response could not be had."""
        complete = self.complete
        if complete is None:
            results = _in_daemon_thread(asyncio.run, self.generate_async(prompts)).result()
            return list(results)
        outcomes: dict[int, str | BaseException] = {}
        waiting = [(index, 0) for index in reversed(range(len(prompts)))]
        running: dict[Future[str], tuple[int, int, float]] = {}
        while waiting or running:
            while waiting and len(running) < self.max_concurrency:
                index, attempt = waiting.pop()
                future = _in_daemon_thread(complete, prompts[index])
                running[future] = (index, attempt, time.monotonic())
            done, _ = wait(
                running, timeout=self._next_deadline(running), return_when=FIRST_COMPLETED
            )
            now = time.monotonic()
            for future, (index, attempt, started) in list(running.items()):
                outcome: str | BaseException
                if future in done:
                    outcome = future.exception() or _text(future.result())
                elif self.timeout is not None and now - started >= self.timeout:
                    outcome = TimeoutError(f"no response within {self.timeout} seconds")
                else:
                    continue
                del running[future]
                if isinstance(outcome, Exception) and attempt < self.retries:
                    waiting.append((index, attempt + 1))
                else:
                    outcomes[index] = outcome
        return [outcomes[index] for index in range(len(prompts))]

    def _next_deadline(self, running: dict[Future[str], tuple[int, int, float]]) -> float | None:
        if self.timeout is None:
            return None
        first = min(started for _, _, started in running.values())
        return max(0.0, first + self.timeout - time.monotonic())

    async def generate_async(self, prompts: Sequence[str]) -> list[str | BaseException]:
        """:meth:`generate` on the event loop; blocking models run in a thread."""
        if self.complete_async is None:
            return await asyncio.to_thread(self.generate, prompts)
        gate = asyncio.Semaphore(self.max_concurrency)
        return list(await asyncio.gather(*(self._call(prompt, gate) for prompt in prompts)))

    async def _call(self, prompt: str, gate: asyncio.Semaphore) -> str | BaseException:
        assert self.complete_async is not None
        failure: Exception | None = None
        for _ in range(self.retries + 1):
            async with gate:
                try:
                    response = await asyncio.wait_for(self.complete_async(prompt), self.timeout)
                    return _text(response)
                except TimeoutError:
                    failure = TimeoutError(f"no response within {self.timeout} seconds")
                except Exception as error:  # reported in place of the response
                    failure = error
        return failure if failure is not None else RuntimeError("not called")


def _text(response: Any) -> str | BaseException:
    if isinstance(response, str):
        return response
    return TypeError(f"the model returned {type(response).__name__}, not text")


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
