"""Answers as message chunks: certified tokens as the core hands them over, then the rest.

A chunk's ``response_metadata["certified_k"]`` is a list, because adding chunks adds numbers but
joins lists.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk

from robust_components.rag.result import RAGResult, TokenResult
from robust_components.rag.streaming import Event, Remainder, events, events_async


class MessageChunks:
    """The chunks of one answer, in order.

    Args:
        message: turns a result into the message that is streamed.
    """

    def __init__(self, message: Callable[[RAGResult], AIMessage]) -> None:
        self._message = message
        self._remainder = Remainder()

    def chunk(self, event: Event) -> AIMessageChunk:
        """A token with its certified budget, or the rest of the message with all its metadata."""
        if isinstance(event, TokenResult):
            return AIMessageChunk(
                content=self._remainder.token(event),
                response_metadata={"certified_k": [event.certified_k]},
            )
        metadata = self._message(event).response_metadata
        return AIMessageChunk(content=self._remainder.rest(event), response_metadata=metadata)


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
