"""Answers as message chunks: certified tokens as the core hands them over, then the rest.

A chunk's ``response_metadata["certified_k"]`` is a list, because adding chunks adds numbers but
joins lists.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, closing
from queue import SimpleQueue
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from robust_components.rag.result import RAGResult, TokenResult


class MessageChunks:
    """The chunks of one answer, in order.

    Args:
        message: turns a result into the message that is streamed.
    """

    def __init__(self, message: Callable[[RAGResult], AIMessage]) -> None:
        self._message = message
        self._shown = ""

    def chunk(self, event: TokenResult | RAGResult) -> AIMessageChunk:
        """A token with its certified budget, or the rest of the message with all its metadata.

        After tokens, an abstention follows on a line of its own: they are the certified beginning
        of an answer that is withheld, and must not pass for all of it.
        """
        if isinstance(event, TokenResult):
            self._shown += event.text
            return AIMessageChunk(
                content=event.text, response_metadata={"certified_k": [event.certified_k]}
            )
        if event.abstained:
            rest = ("\n" if self._shown else "") + event.answer
        else:
            rest = event.answer[len(self._shown) :]
        metadata = self._message(event).response_metadata
        return AIMessageChunk(content=rest, response_metadata=metadata)


def pieces(
    run: Callable[..., RAGResult], message: Callable[[RAGResult], AIMessage]
) -> Iterator[AIMessageChunk]:
    """Run the core and yield the message in chunks.

    Args:
        run: the core's ``run``, which lacks nothing but ``on_token``.
        message: turns a result into the message.
    """
    chunks = MessageChunks(message)
    with closing(events(run)) as arriving:
        for event in arriving:
            yield chunks.chunk(event)


async def pieces_async(
    run: Callable[..., Awaitable[RAGResult]], message: Callable[[RAGResult], AIMessage]
) -> AsyncGenerator[AIMessageChunk, None]:
    """:func:`pieces` for the core's ``run_async``."""
    chunks = MessageChunks(message)
    async with aclosing(events_async(run)) as arriving:
        async for event in arriving:
            yield chunks.chunk(event)


async def single(value: Any) -> AsyncIterator[Any]:
    """An asynchronous iterator over one value."""
    yield value


class _AbandonedError(Exception):
    """Ends a run whose stream nobody reads any more."""


def events(run: Callable[..., RAGResult]) -> Generator[TokenResult | RAGResult, None, None]:
    """Run in a thread; yield each token, then the result.

    Closing the iterator returns at once; the run ends at its next token.
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


async def events_async(
    run: Callable[..., Awaitable[RAGResult]],
) -> AsyncGenerator[TokenResult | RAGResult, None]:
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
