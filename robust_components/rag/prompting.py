"""Prompts for models that complete text: one passage at a time, then the keywords."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from robust_components.answers import is_abstention
from robust_components.checks import positive_integer
from robust_components.models.protocols import Completion, Reading, TextGenerator

ISOLATED_PROMPT = """\
Context information is below.
---------------------
{passage}
---------------------
Given the context information and no prior knowledge, answer the question with only keywords.
If the context does not answer the question, just say "I don't know".
Question: {query}
Answer:"""

KEYWORD_PROMPT = """\
Several sources were asked a question independently. Keywords that enough of them agree on:
{keywords}
Answer the question from these keywords alone, as briefly as possible. If they do not answer it,
just say "I don't know".
Question: {query}
Answer:"""

PHRASES_PROMPT = """\
Context information is below.
---------------------
{passage}
---------------------
Given the context information and no prior knowledge, list the important facts that help to answer
the query, as short phrases of two to five words, separated by commas, without any other text.
If the context does not help, just say "I don't know".
Query: {query}
Phrases:"""

LONG_ANSWER_PROMPT = """\
Several sources were asked a query independently. Phrases that enough of them agree on:
{keywords}
Write an accurate and concise answer to the query from these phrases alone. If they do not answer
it, just say "I don't know".
Query: {query}
Answer:"""


def refuse_prompts(isolated_prompt: str, keyword_prompt: str) -> None:
    """Raise a ValueError if a template is given where no model is prompted."""
    for name, value, default in (
        ("isolated_prompt", isolated_prompt, ISOLATED_PROMPT),
        ("keyword_prompt", keyword_prompt, KEYWORD_PROMPT),
    ):
        if value != default:
            raise ValueError(
                f"{name} goes with a chat model, and there is none, got {value[:60]!r}; leave it "
                "out or pass a chat model"
            )


class PromptReader:
    """Reads passages with a :class:`TextGenerator` by prompting it with each one alone.

    Args:
        generator: completes prompts; greedy decoding, or certificates do not hold.
        name: model name for certificates.
        fingerprint: identity of the weights or the provider's version, for certificates.
        isolated_prompt: template with ``{passage}`` and ``{query}``.
        keyword_prompt: template with ``{keywords}`` and ``{query}``.
        max_passage_characters: longer passages are cut and flagged.

    With ``long_form``, the default templates give way to those for phrases and long answers.

    Raises:
        ValueError: a template lacks a place, or ``max_passage_characters`` is below 1.
    """

    def __init__(
        self,
        generator: TextGenerator,
        *,
        name: str | None = None,
        fingerprint: str = "unknown",
        isolated_prompt: str = ISOLATED_PROMPT,
        keyword_prompt: str = KEYWORD_PROMPT,
        long_form: bool = False,
        max_passage_characters: int = 12_000,
    ) -> None:
        if long_form and isolated_prompt == ISOLATED_PROMPT:
            isolated_prompt = PHRASES_PROMPT
        if long_form and keyword_prompt == KEYWORD_PROMPT:
            keyword_prompt = LONG_ANSWER_PROMPT
        for argument, template, places in (
            ("isolated_prompt", isolated_prompt, ("{passage}", "{query}")),
            ("keyword_prompt", keyword_prompt, ("{keywords}", "{query}")),
        ):
            missing = [place for place in places if place not in template]
            if missing or "{{" in template:
                raise ValueError(
                    f"{argument} must hold {' and '.join(places)} in single braces, "
                    f"got {template[:80]!r}; add what is missing"
                )
        self.generator = generator
        self.name = name or type(generator).__name__
        self.fingerprint = fingerprint
        self.isolated_prompt = isolated_prompt
        self.keyword_prompt = keyword_prompt
        self.max_passage_characters = positive_integer(
            "max_passage_characters", max_passage_characters
        )

    def read_prompts(self, query: str, passages: Sequence[str]) -> list[str]:
        """One prompt a passage."""
        limit = self.max_passage_characters
        return [
            _fill(self.isolated_prompt, passage=passage[:limit], query=query)
            for passage in passages
        ]

    def combine_prompt(self, query: str, keywords: Sequence[str]) -> str:
        return _fill(self.keyword_prompt, keywords=", ".join(keywords), query=query)

    def to_reading(self, response: Any, *, truncated: bool = False) -> Reading:
        """Turn a completion, or the exception that took its place, into a reading."""
        if isinstance(response, Completion):
            said = response.text if response.failure is None else response.failure
            reading = self.to_reading(said, truncated=truncated)
            return replace(reading, tokens=response.tokens, calls=response.calls)
        if isinstance(response, BaseException):
            failure = f"{type(response).__name__}: {response}"[:200]
            return Reading(None, failure=failure, truncated=truncated)
        if not isinstance(response, str):
            kind = type(response).__name__
            return Reading(
                None, failure=f"the model returned {kind}, not text", truncated=truncated
            )
        text = response.strip()
        if not text:
            return Reading(
                None, failure="the model returned an empty response", truncated=truncated
            )
        return Reading(None if is_abstention(text) else text, truncated=truncated)

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]:
        return self.readings(passages, self._complete(self.read_prompts(query, passages)))

    async def read_async(self, query: str, passages: Sequence[str]) -> list[Reading]:
        prompts = self.read_prompts(query, passages)
        return self.readings(passages, await self._complete_async(prompts))

    def readings(self, passages: Sequence[str], responses: Sequence[Any]) -> list[Reading]:
        """Pair responses with passages, in order."""
        limit = self.max_passage_characters
        return [
            self.to_reading(response, truncated=len(passage) > limit)
            for passage, response in zip(passages, responses, strict=True)
        ]

    def combine(self, query: str, keywords: Sequence[str]) -> Reading:
        return self.combine_many(query, [keywords])[0]

    def combine_many(self, query: str, keyword_sets: Sequence[Sequence[str]]) -> list[Reading]:
        """One reading for each keyword set."""
        prompts = [self.combine_prompt(query, keywords) for keywords in keyword_sets]
        return [self.to_reading(response) for response in self._complete(prompts)]

    async def combine_many_async(
        self, query: str, keyword_sets: Sequence[Sequence[str]]
    ) -> list[Reading]:
        prompts = [self.combine_prompt(query, keywords) for keywords in keyword_sets]
        return [self.to_reading(response) for response in await self._complete_async(prompts)]

    def _complete(self, prompts: list[str]) -> Sequence[Any]:
        """With what the calls took, if the generator says it."""
        complete = getattr(self.generator, "completions", self.generator.generate)
        return complete(prompts)

    async def _complete_async(self, prompts: list[str]) -> Sequence[Any]:
        for name in ("completions_async", "generate_async"):
            if hasattr(self.generator, name):
                return await getattr(self.generator, name)(prompts)  # type: ignore[no-any-return]
        return await asyncio.to_thread(self._complete, prompts)


def _fill(template: str, **values: str) -> str:
    """Fill named places once; braces inside the values stay as they are."""
    pieces = template.split("{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, brace, rest = piece.partition("}")
        filled.append(values[name] + rest if brace and name in values else "{" + piece)
    return "".join(filled)
