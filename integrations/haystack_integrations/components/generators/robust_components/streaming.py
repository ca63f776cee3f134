"""An answer as streaming chunks: certified tokens as they come, then what closes the answer."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable

from haystack.dataclasses import ComponentInfo, StreamingCallbackT, StreamingChunk
from haystack.dataclasses.streaming_chunk import SyncStreamingCallbackT

from robust_components.rag.result import RAGResult, TokenResult


class AnswerChunks:
    """The chunks of one answer, in order."""

    def __init__(self, info: ComponentInfo) -> None:
        self._info = info
        self._shown = ""
        self._started = False

    def token(self, token: TokenResult) -> StreamingChunk:
        """A certified token, with its budget in `meta["certified_k"]`."""
        self._shown += token.text
        return self._chunk(token.text, meta={"certified_k": token.certified_k})

    def last(self, result: RAGResult) -> StreamingChunk:
        """
        The rest of the answer, with the `meta` of the reply.

        After tokens, an abstention follows on a line of its own: they are the certified beginning
        of an answer that is withheld, and must not pass for all of it.
        """
        if result.abstained:
            rest = ("\n" if self._shown else "") + result.answer
        else:
            rest = result.answer[len(self._shown) :]
        return self._chunk(rest, meta=result.metadata(), finish_reason="stop")

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
    result = run(on_token=lambda token: callback(chunks.token(token)))
    callback(chunks.last(result))
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
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[TokenResult | None] = asyncio.Queue()
    abandoned = threading.Event()

    def hand_over(token: TokenResult) -> None:
        if abandoned.is_set():
            raise RuntimeError("nobody listens to the stream any more")
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
            await _send(callback, chunks.token(token))
        result = await task
    finally:
        abandoned.set()
        task.cancel()
    await _send(callback, chunks.last(result))
    return result


async def _send(callback: StreamingCallbackT, chunk: StreamingChunk) -> None:
    sent = callback(chunk)
    if inspect.isawaitable(sent):
        await sent
