"""Init parameters: what YAML keeps, which may be given together, and the model they name."""

from __future__ import annotations

import threading
from typing import Any

from robust_components.rag.generator import RobustRAGGenerator as CoreGenerator

_loading = threading.Lock()


def decimal(value: Any) -> int | float | str:
    """A number as given, plain and exact: text where Python's own numbers would not keep it."""
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else str(value)


def check_token_model(
    token_model: Any, token_model_kwargs: Any, chat_generator: Any, aggregation: str
) -> None:
    """
    Checks the parameters that name a token model; the model itself loads at warm-up.

    :raises ValueError: they do not go together.
    :raises TypeError: one is of the wrong type.
    """
    if token_model_kwargs is not None and not isinstance(token_model_kwargs, dict):
        raise TypeError(
            f"token_model_kwargs must be a dict, got {token_model_kwargs!r}; "
            "pass the keyword arguments of robust_components.models.load_token_model"
        )
    if token_model is None:
        if token_model_kwargs:
            raise ValueError(
                f"token_model_kwargs needs a token_model, got {token_model_kwargs!r} alone; "
                "pass both or neither"
            )
        return
    if not isinstance(token_model, str) or not token_model:
        raise TypeError(
            "token_model must be a Hugging Face id or folder, or a path that ends in .gguf, "
            f"got {token_model!r}; pass it as text"
        )
    if chat_generator is not None:
        raise ValueError(
            f"token_model and chat_generator exclude each other, got {token_model!r} and "
            f"{type(chat_generator).__name__}; pass one of them"
        )
    if aggregation != "decoding":
        raise ValueError(
            f"token_model serves aggregation='decoding' alone, got {aggregation!r}; "
            "set it, or leave token_model out"
        )


def load(core: CoreGenerator, token_model: str | None, kwargs: dict[str, Any] | None) -> None:
    """
    Loads the named token model into the core, or the core's own, and the keyword extractor.

    Does nothing the second time.
    """
    with _loading:
        if token_model is not None and core.model is None:
            from robust_components.models import load_token_model

            core.model = load_token_model(token_model, **(kwargs or {}))
    core.load()
