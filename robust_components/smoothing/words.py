"""Texts as words: whitespace units of the full text, counted before tokenisation and truncation."""

from __future__ import annotations

from collections.abc import Iterable


def split_words(text: str) -> tuple[str, ...]:
    """The words of ``text``; no other whitespace information survives.

    Raises:
        TypeError: ``text`` is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text must be a string, got {type(text).__name__}; convert it first")
    return tuple(text.split())


def join_words(words: Iterable[str]) -> str:
    return " ".join(words)
