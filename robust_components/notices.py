"""Warnings that point at the user's own line, through frameworks and through us."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

PASSED_THROUGH = frozenset(
    {
        *("robust_components", "haystack_integrations", "langchain_robust"),
        *("haystack", "langchain_core", "langchain", "langgraph", "pydantic"),
        *("asyncio", "concurrent", "contextlib", "functools", "threading"),
    }
)
"""Packages whose frames are not the user's."""


def warn_caller(message: str) -> None:
    """Warn at the innermost line that is neither ours nor a framework's, or else here.

    Python shows a warning once for each such line.
    """
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and _package(frame) in PASSED_THROUGH:
        frame = frame.f_back
        level += 1
    warnings.warn(message, stacklevel=level if frame is not None else 2)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def warn_if_sampling(model: str, temperature: Any) -> None:
    """Warn when equal prompts may get different responses."""
    if isinstance(temperature, (int, float)) and temperature > 0:
        warn_caller(
            f"{model} has temperature {temperature}, but certificates assume the same response to "
            "the same prompt; set it to 0, or memo=True to keep the first response"
        )
