"""A Haystack ChatGenerator as the core's text generator: one prompt in, one text out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from haystack.dataclasses import ChatMessage
from haystack.tracing.tracer import Span, tracer

from robust_components.models.chat import ChatCompleter, settings_fingerprint, total_tokens
from robust_components.models.protocols import Completion
from robust_components.rag.prompting import PromptReader


def prompt_reader(
    chat_generator: Any,
    *,
    isolated_prompt: str,
    keyword_prompt: str,
    long_form: bool = False,
    **limits: Any,
) -> PromptReader:
    """
    The chat generator as a reader of passages.

    :param limits: for `chat_completer`.
    """
    completer = chat_completer(chat_generator, **limits)
    return PromptReader(
        completer,
        name=completer.name,
        fingerprint=completer.fingerprint,
        isolated_prompt=isolated_prompt,
        keyword_prompt=keyword_prompt,
        long_form=long_form,
    )


def chat_completer(chat_generator: Any, **limits: Any) -> ChatCompleter:
    """
    Wraps a chat generator, which is never given a streaming callback.

    :param chat_generator: offers `run(messages)`, `run_async(messages)` or both.
    :param limits: `max_concurrency`, `timeout`, `retries` and `retry_delay` of `ChatCompleter`.
    :raises ValueError: a number is outside its range, or the chat generator streams.
    :raises TypeError: it offers neither method.
    """
    run = getattr(chat_generator, "run", None)
    run_async = getattr(chat_generator, "run_async", None)
    if not callable(run) and not callable(run_async):
        raise TypeError(
            "chat_generator must be a Haystack ChatGenerator with run(messages), "
            f"got {chat_generator!r}; pass one, or None for the embedded reader"
        )
    if streams(chat_generator):
        raise ValueError(
            f"chat_generator must not stream, got {type(chat_generator).__name__} with a "
            "streaming_callback: isolated, possibly poisoned responses would be shown; remove it"
        )

    def complete(prompt: str) -> Completion:
        messages = [ChatMessage.from_user(prompt)]
        with _span(chat_generator, messages) as span:
            result = chat_generator.run(messages=messages)
            span.set_content_tag("haystack.component.output", result)
        return _completion(result)

    async def complete_async(prompt: str) -> Completion:
        messages = [ChatMessage.from_user(prompt)]
        with _span(chat_generator, messages) as span:
            result = await chat_generator.run_async(messages=messages)
            span.set_content_tag("haystack.component.output", result)
        return _completion(result)

    kind, model = type(chat_generator).__name__, getattr(chat_generator, "model", None)
    return ChatCompleter(
        complete if callable(run) else None,
        complete_async if callable(run_async) else None,
        name=f"{kind}({model})" if isinstance(model, str) else kind,
        fingerprint=settings_fingerprint(getattr(chat_generator, "generation_kwargs", None)),
        **limits,
    )


def streams(chat_generator: Any) -> bool:
    """Whether the generator, or one that it wraps, has a streaming callback of its own."""
    if getattr(chat_generator, "streaming_callback", None) is not None:
        return True
    wrapped = list(getattr(chat_generator, "chat_generators", None) or [])
    wrapped.append(getattr(chat_generator, "chat_generator", None))
    return any(streams(inner) for inner in wrapped if inner is not None)


async def warm_up_async(chat_generator: Any) -> None:
    """Warms up the generator, if it can, on the serving event loop."""
    if hasattr(chat_generator, "warm_up_async"):
        await chat_generator.warm_up_async()
    elif hasattr(chat_generator, "warm_up"):
        chat_generator.warm_up()


async def close_async(chat_generator: Any) -> None:
    """Releases the generator's resources, if it holds any, on the serving event loop."""
    if hasattr(chat_generator, "close_async"):
        await chat_generator.close_async()
    elif hasattr(chat_generator, "close"):
        chat_generator.close()


@contextmanager
def _span(chat_generator: Any, messages: list[ChatMessage]) -> Iterator[Span]:
    """The span that Haystack's own components open around an inner chat generator."""
    tags = {
        "haystack.component.name": "chat_generator",
        "haystack.component.type": type(chat_generator).__name__,
    }
    parent = tracer.current_span()
    with tracer.trace("haystack.chat_generator.run", tags=tags, parent_span=parent) as span:
        span.set_content_tag("haystack.component.input", {"messages": messages})
        yield span


def _completion(result: dict[str, Any]) -> Completion:
    replies = result.get("replies") or []
    if not replies or replies[0].text is None:
        raise ValueError("the chat generator returned no text")
    return Completion(str(replies[0].text), tokens=total_tokens(replies[0].meta.get("usage")))
