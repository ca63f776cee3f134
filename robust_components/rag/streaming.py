"""Certified tokens as they come, then the result: for adapters that stream.

A run of the core hands each token to ``on_token``, maybe from another thread. Here this becomes an
iterator, whose reader may be slow, or stop, without holding up or leaking the run.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from queue import SimpleQueue
from typing import Any

from robust_components.rag.result import RAGResult, TokenResult

Event = TokenResult | RAGResult


class Remainder:
    """Keeps what was shown of an answer, and says what is still to come.

    After tokens, an abstention follows on a line of its own: they are the certified beginning of an
    answer that is withheld, and must not pass for all of it.
    """

    def __init__(self) -> None:
        self._shown = ""

    def token(self, token: TokenResult) -> str:
        """The text of a token that is shown now."""
        self._shown += token.text
        return token.text

    def rest(self, result: RAGResult) -> str:
        """The text that completes what was shown."""
        if result.abstained:
            return ("\n" if self._shown else "") + result.answer
        return result.answer[len(self._shown) :]


class _AbandonedError(Exception):
    """Ends a run whose stream nobody reads any more."""


def events(run: Callable[..., RAGResult]) -> Generator[Event, None, None]:
    """Run in a thread; yield each token, then the result.

    Closing the iterator returns at once; the run ends at its next token.

    Args:
        run: the core's ``run``, which lacks nothing but ``on_token``.
    """
    arrived: SimpleQueue[Any] = SimpleQueue()
    abandoned = threading.Event()

    def hand_over(token: TokenResult) -> None:
        if abandoned.is_set():
            raise _AbandonedError
        arrived.put(token)

    def work() -> None:
        try:
            arrived.put(run(on_token=hand_over))
        except BaseException as error:  # raised where the stream is read
            arrived.put(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), daemon=True).start()
    try:
        event = arrived.get()
        while isinstance(event, TokenResult):
            yield event
            event = arrived.get()
        if isinstance(event, BaseException):
            raise event
        yield event
    finally:
        abandoned.set()


async def events_async(run: Callable[..., Awaitable[RAGResult]]) -> AsyncGenerator[Event, None]:
    """:func:`events` for a run that is awaited and hands its tokens over from any thread."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[TokenResult | None] = asyncio.Queue()
    abandoned = threading.Event()

    def hand_over(token: TokenResult) -> None:
        if abandoned.is_set():
            raise _AbandonedError
        loop.call_soon_threadsafe(arrived.put_nowait, token)

    async def work() -> RAGResult:
        try:
            return await run(on_token=hand_over)
        finally:
            arrived.put_nowait(None)

    task = asyncio.create_task(work())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        while (token := await arrived.get()) is not None:
            yield token
        yield await task
    finally:
        abandoned.set()
        task.cancel()
