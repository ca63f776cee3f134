"""An answer as streaming chunks: certified tokens as they come, then what closes the answer."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from haystack.dataclasses import ComponentInfo, StreamingCallbackT, StreamingChunk
from haystack.dataclasses.streaming_chunk import SyncStreamingCallbackT

from robust_components.rag.result import RAGResult, TokenResult
from robust_components.rag.streaming import Event, Remainder, events_async


class AnswerChunks:
    """The chunks of one answer, in order."""

    def __init__(self, info: ComponentInfo) -> None:
        self._info = info
        self._remainder = Remainder()
        self._started = False

    def chunk(self, event: Event) -> StreamingChunk:
        """
        A token, with its budget in `meta["certified_k"]`, or the rest with the reply's `meta`.

        The budget is a list, as in LangChain, where the budgets of joined chunks are joined.
        """
        if isinstance(event, TokenResult):
            text = self._remainder.token(event)
            return self._chunk(text, meta={"certified_k": [event.certified_k]})
        rest = self._remainder.rest(event)
        return self._chunk(rest, meta=event.metadata(), finish_reason="stop")

    def _chunk(self, content: str, **fields: object) -> StreamingChunk:
        start, self._started = not self._started, True
        return StreamingChunk(content, component_info=self._info, index=0, start=start, **fields)  # type: ignore[arg-type]


def answer(
    run: Callable[..., RAGResult], callback: SyncStreamingCallbackT | None, info: ComponentInfo
) -> RAGResult:
    """
    Runs the core, and sends the answer to the callback, if there is one.

    :param run: the core's `run`, which lacks nothing but `on_token`.
    :param info: names the component in the chunks.
    """
    if callback is None:
        return run()
    chunks = AnswerChunks(info)
    result = run(on_token=lambda token: callback(chunks.chunk(token)))
    callback(chunks.chunk(result))
    return result


async def answer_async(
    run: Callable[..., Awaitable[RAGResult]],
    callback: StreamingCallbackT | None,
    info: ComponentInfo,
) -> RAGResult:
    """
    `answer` for the core's `run_async`; the callback is called, and awaited, on the event loop.

    Tokens come from a worker thread, which never waits for the callback. When the callback raises,
    or the caller is cancelled, that thread ends at its next token.
    """
    if callback is None:
        return await run()
    chunks = AnswerChunks(info)
    async with aclosing(events_async(run)) as arriving:
        async for event in arriving:
            sent = callback(chunks.chunk(event))
            if inspect.isawaitable(sent):
                await sent
            if isinstance(event, RAGResult):
                return event
    raise RuntimeError("the run ended without a result")
