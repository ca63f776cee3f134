"""LangChain models as the core's functions of one prompt, run under a Runnable's config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from robust_components.models.chat import ChatCompleter, settings_fingerprint, total_tokens
from robust_components.models.protocols import Completion

NOSTREAM = "nostream"
"""Tag of inner model calls; LangGraph keeps calls with it out of ``stream_mode="messages"``."""


def chat_completer(
    llm: Runnable[Any, Any], config: RunnableConfig, *, max_concurrency: int, **limits: Any
) -> ChatCompleter:
    """Call ``llm`` for each prompt; the calls are children of the config's run.

    Args:
        llm: takes a prompt, gives a message or a string.
        config: its ``max_concurrency`` can lower the one given here, not raise it.
        limits: ``timeout``, ``retries`` and ``retry_delay`` of :class:`ChatCompleter`.
    """
    inner: RunnableConfig = {**config, "tags": [*config.get("tags", []), NOSTREAM]}
    limit = config.get("max_concurrency")

    def complete(prompt: str) -> Completion:
        return _completion(llm.invoke(prompt, inner))

    async def complete_async(prompt: str) -> Completion:
        return _completion(await llm.ainvoke(prompt, inner))

    return ChatCompleter(
        complete,
        complete_async,
        fingerprint=settings_fingerprint(getattr(llm, "_identifying_params", None)),
        max_concurrency=max_concurrency if limit is None else min(max_concurrency, limit),
        **limits,
    )


def refuse_streaming(llm: Any) -> None:
    """Raise a ValueError if the model, or one that it wraps, was told to stream.

    Its tokens, part of isolated and possibly poisoned responses, would reach every callback.
    """
    waiting, seen = [llm], {id(llm)}
    while waiting:
        model = waiting.pop()
        if getattr(model, "streaming", None) is True:
            raise ValueError(
                f"llm must not stream, got {type(model).__name__} with streaming=True: isolated, "
                "possibly poisoned responses would be shown to callbacks; set streaming=False"
            )
        for inner in _wrapped(model):
            if id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)


def _wrapped(model: Any) -> Iterator[Runnable[Any, Any]]:
    """The Runnables in the fields of a Runnable, and those its function refers to."""
    values: list[Any] = []
    if isinstance(model, Runnable):
        values += [*vars(model).values(), getattr(model, "deps", None)]
    while values:
        value = values.pop()
        if isinstance(value, Runnable):
            yield value
        elif isinstance(value, dict):
            values += value.values()
        elif isinstance(value, (list, tuple)):
            values += value


def model_name(llm: Runnable[Any, Any]) -> str:
    """Class and model, as far as the model tells."""
    models = (getattr(llm, name, None) for name in ("model_name", "model", "model_id"))
    model = next((model for model in models if isinstance(model, str)), None)
    return llm.get_name() if model is None else f"{llm.get_name()}({model})"


def _completion(response: Any) -> Completion:
    text = response.text if isinstance(response, BaseMessage) else response
    if not isinstance(text, str):
        raise TypeError(f"llm returned {type(response).__name__}, not a message or string")
    return Completion(str(text), tokens=total_tokens(getattr(response, "usage_metadata", None)))
