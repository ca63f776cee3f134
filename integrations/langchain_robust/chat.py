"""LangChain models as the core's functions of one prompt, run under a Runnable's config."""

from __future__ import annotations

import warnings
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from robust_components.models.chat import ChatCompleter

NOSTREAM = "nostream"
"""Tag of inner model calls; LangGraph keeps calls with it out of ``stream_mode="messages"``."""


def chat_completer(
    llm: Runnable[Any, Any],
    config: RunnableConfig,
    *,
    max_concurrency: int,
    timeout: float | None,
    retries: int,
) -> ChatCompleter:
    """Call ``llm`` for each prompt; the calls are children of the config's run.

    Args:
        llm: takes a prompt, gives a message or a string.
        config: its ``max_concurrency`` can lower the one given here, not raise it.
    """
    inner: RunnableConfig = {**config, "tags": [*config.get("tags", []), NOSTREAM]}
    limit = config.get("max_concurrency")

    def complete(prompt: str) -> str:
        return _text(llm.invoke(prompt, inner))

    async def complete_async(prompt: str) -> str:
        return _text(await llm.ainvoke(prompt, inner))

    return ChatCompleter(
        complete,
        complete_async,
        max_concurrency=max_concurrency if limit is None else min(max_concurrency, limit),
        timeout=timeout,
        retries=retries,
    )


def model_name(llm: Runnable[Any, Any]) -> str:
    """Class and model, as far as the model tells."""
    models = (getattr(llm, name, None) for name in ("model_name", "model", "model_id"))
    model = next((model for model in models if isinstance(model, str)), None)
    return llm.get_name() if model is None else f"{llm.get_name()}({model})"


def warn_if_sampling(llm: Any, *, stacklevel: int) -> None:
    """Warn when the model's temperature makes equal prompts give different responses."""
    temperature = getattr(llm, "temperature", None)
    if isinstance(temperature, (int, float)) and temperature > 0:
        warnings.warn(
            f"llm has temperature {temperature}, but certificates assume the same response to the "
            "same prompt; set it to 0",
            stacklevel=stacklevel,
        )


def _text(response: Any) -> str:
    text = response.text if isinstance(response, BaseMessage) else response
    if not isinstance(text, str):
        raise TypeError(f"llm returned {type(response).__name__}, not a message or string")
    return str(text)
