"""Which models each aggregation takes."""

from __future__ import annotations

from typing import Any

from robust_components.checks import no_class
from robust_components.models.protocols import PassageReader, TokenModel
from robust_components.rag.prompting import PromptReader


def as_reader(model: Any, *, long_form: bool = False) -> PassageReader:
    """Accept a passage reader as it is, and prompt a text generator.

    Args:
        long_form: prompt it for phrases, and for a long answer from them.

    Raises:
        TypeError: the model offers neither ``read`` and ``combine`` nor ``generate``.
    """
    no_class("model", model)
    if hasattr(model, "read") and hasattr(model, "combine"):
        return model  # type: ignore[no-any-return]
    if hasattr(model, "generate"):
        return PromptReader(
            model,
            name=getattr(model, "name", None),
            fingerprint=getattr(model, "fingerprint", "unknown"),
            long_form=long_form,
        )
    raise TypeError(
        f"model must offer read() and combine(), or generate(prompts), got {type(model).__name__}; "
        "see robust_components.models.protocols"
    )


def as_token_model(model: Any) -> TokenModel:
    """Accept a token model.

    Raises:
        TypeError: the model has no ``open(query, passages)``.
    """
    no_class("model", model)
    if hasattr(model, "open"):
        return model  # type: ignore[no-any-return]
    raise TypeError(
        "aggregation='decoding' needs next-token probabilities, from a model with "
        f"open(query, passages), got {type(model).__name__}; use a TokenModel, or "
        "aggregation='voting' or 'keyword'"
    )
