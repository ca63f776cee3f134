"""RobustRAGGenerator as a Haystack component: Haystack's types outside, the core inside."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Sequence
from typing import Any

from haystack import Document, GeneratedAnswer, component, default_to_dict
from haystack.components.generators.chat.types import ChatGenerator
from haystack.core.serialization import component_to_dict
from haystack.dataclasses import ChatMessage

from haystack_integrations.components.generators.robust_components.chat_generators import (
    chat_completer,
)
from haystack_integrations.components.generators.robust_components.documents import (
    annotate,
    to_passages,
)
from robust_components.rag.generator import ABSTENTION
from robust_components.rag.generator import RobustRAGGenerator as CoreGenerator
from robust_components.rag.passages import DEFAULT_SOURCE_KEY
from robust_components.rag.prompting import ISOLATED_PROMPT, KEYWORD_PROMPT, PromptReader
from robust_components.rag.result import RAGResult
from robust_components.threats import positive_integer


@component
class RobustRAGGenerator:
    """
    Answers a query from retrieved documents so that few hostile sources cannot steer the answer.

    Each document is read alone; the responses are aggregated by source. The output carries an
    `observed` certificate: if at most `radius` of the sources at hand are hostile, the answer
    equals the one the clean documents would have given. It is deterministic, needs no gold answer,
    and says nothing about whether that answer is right. Where it cannot be shown, `certified` is
    false and `reason` says why.

    The certificate assumes a model that gives the same response to the same prompt: set
    temperature 0 or a fixed seed in the chat generator's `generation_kwargs`.

    ```python
    from haystack import Document
    from haystack_integrations.components.generators.robust_components import RobustRAGGenerator

    documents = [
        Document(content="Paris is the capital of France.", meta={"url": f"https://{host}/france"})
        for host in ("atlas.example", "travel.example", "school.example")
    ]
    generator = RobustRAGGenerator(source_key="host:url")
    result = generator.run(query="What is the capital of France?", documents=documents)
    print(result["answers"][0].data, result["certificate"]["radius"])
    ```
    """

    def __init__(
        self,
        chat_generator: ChatGenerator | None = None,
        aggregation: str = "voting",
        corruption_size: int = 1,
        *,
        top_k: int | None = None,
        alpha: float | str = 0.3,
        beta: float | str = 3,
        max_optional_keywords: int = 12,
        max_final_calls: int = 256,
        choices: Sequence[str] | None = None,
        on_uncertified: str = "answer",
        abstention: str = ABSTENTION,
        source_key: str = DEFAULT_SOURCE_KEY,
        max_concurrency: int = 8,
        timeout: float | None = 60.0,
        retries: int = 1,
        isolated_prompt: str = ISOLATED_PROMPT,
        keyword_prompt: str = KEYWORD_PROMPT,
    ) -> None:
        """
        Creates the component; models load at warm-up.

        :param chat_generator: reads the documents, one call each; the embedded extractive reader
            when `None`. It must not stream: isolated, possibly poisoned responses would be shown.
        :param aggregation: `"voting"` (one vote a source) or `"keyword"`.
        :param corruption_size: number of hostile sources a certificate must withstand, at least 1.
        :param top_k: length at which the retriever cuts its list; further documents are not read.
        :param alpha: keyword threshold as a share of responding sources, in (0, 1].
        :param beta: keyword threshold as a number of sources, at least 1.
        :param max_optional_keywords: more keywords in an attacker's reach than this: not certified.
        :param max_final_calls: more distinct keyword sets than this: not certified.
        :param choices: the closed set of answers voted on; `None` leaves it open.
        :param on_uncertified: `"answer"`, or `"abstain"` to withhold what is not certified.
        :param abstention: text returned in place of an answer.
        :param source_key: metadata field that names a document's source; `"host:url"` takes the
            host name of the URL in the field `url`. Without it a document is its own source.
        :param max_concurrency: most calls of the chat generator under way at once.
        :param timeout: seconds one call may take; `None` waits for ever.
        :param retries: further attempts after a failed call; a document whose last attempt fails
            counts as hostile.
        :param isolated_prompt: template with `{passage}` and `{query}`, for a chat generator.
        :param keyword_prompt: template with `{keywords}` and `{query}`, for a chat generator.
        :raises ValueError: a value is outside its range, or the chat generator streams.
        :raises TypeError: a value is of the wrong type.
        """
        if not isinstance(source_key, str) or not source_key.removeprefix("host:"):
            raise ValueError(
                f"source_key must name a metadata field, got {source_key!r}; "
                "pass for example 'source_id' or 'host:url'"
            )
        model = None
        if chat_generator is not None:
            completer = chat_completer(
                chat_generator, max_concurrency=max_concurrency, timeout=timeout, retries=retries
            )
            model = PromptReader(
                completer,
                name=completer.name,
                isolated_prompt=isolated_prompt,
                keyword_prompt=keyword_prompt,
            )
        self._core = CoreGenerator(
            model,
            aggregation,
            corruption_size,
            top_k=top_k,
            alpha=alpha,
            beta=beta,
            max_optional_keywords=max_optional_keywords,
            max_final_calls=max_final_calls,
            choices=choices,
            on_uncertified=on_uncertified,
            abstention=abstention,
        )
        self.chat_generator: Any = chat_generator
        self.aggregation = aggregation
        self.corruption_size = int(corruption_size)
        self.top_k = None if top_k is None else int(top_k)
        self.alpha = float(alpha) if isinstance(alpha, (int, float)) else str(alpha)
        self.beta = float(beta) if isinstance(beta, (int, float)) else str(beta)
        self.max_optional_keywords = int(max_optional_keywords)
        self.max_final_calls = int(max_final_calls)
        self.choices = None if choices is None else [str(choice) for choice in choices]
        self.on_uncertified = on_uncertified
        self.abstention = abstention
        self.source_key = source_key
        self.max_concurrency = int(max_concurrency)
        self.timeout = None if timeout is None else float(timeout)
        self.retries = int(retries)
        self.isolated_prompt = isolated_prompt
        self.keyword_prompt = keyword_prompt

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component, nested chat generator included."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        parameters = {name: getattr(self, name) for name in names}
        if self.chat_generator is not None:
            parameters["chat_generator"] = component_to_dict(self.chat_generator, "chat_generator")
        return default_to_dict(self, **parameters)

    def warm_up(self) -> None:
        """Warms up the chat generator; loads the embedded reader and the keyword extractor."""
        if hasattr(self.chat_generator, "warm_up"):
            self.chat_generator.warm_up()
        self._core.load()

    async def warm_up_async(self) -> None:
        """Warms up the chat generator on the serving event loop; the rest loads in a thread."""
        if hasattr(self.chat_generator, "warm_up_async"):
            await self.chat_generator.warm_up_async()
        elif hasattr(self.chat_generator, "warm_up"):
            self.chat_generator.warm_up()
        await asyncio.to_thread(self._core.load)

    def close(self) -> None:
        """Releases the chat generator's resources."""
        if hasattr(self.chat_generator, "close"):
            self.chat_generator.close()

    async def close_async(self) -> None:
        """Releases the chat generator's resources on the serving event loop."""
        if hasattr(self.chat_generator, "close_async"):
            await self.chat_generator.close_async()
        elif hasattr(self.chat_generator, "close"):
            self.chat_generator.close()

    @component.output_types(
        answers=list[GeneratedAnswer], replies=list[ChatMessage], certificate=dict[str, Any]
    )
    def run(
        self, query: str, documents: list[Document], corruption_size: int | None = None
    ) -> dict[str, Any]:
        """
        Answers the query, with a certificate.

        :param query: the question; trusted.
        :param documents: retrieved documents, best first. One without text content is read as an
            empty text: its source keeps its place in the count, and no stray image stops a run.
        :param corruption_size: overrides the instance's `corruption_size`.
        :returns:
            - `answers`: one answer. Its `documents` are copies of all documents given, in order,
              with `answer`, `abstained`, `vote`, `supports`, `source`, `probability`, `failure`,
              `truncated` and `unused` of each in `meta["robust_rag"]`. Its `meta` holds the
              `certificate`, whether it `abstained`, and the `sources` and `keywords` it rests on.
            - `replies`: the answer as one chat message, with the same `meta`.
            - `certificate`: for `Certificate.from_dict`.
        :raises ValueError: the query is empty, or `corruption_size` is below 1.
        """
        self.warm_up()
        result = self._with(corruption_size).run(query, to_passages(documents, self.source_key))
        return self._outputs(query, documents, result)

    @component.output_types(
        answers=list[GeneratedAnswer], replies=list[ChatMessage], certificate=dict[str, Any]
    )
    async def run_async(
        self, query: str, documents: list[Document], corruption_size: int | None = None
    ) -> dict[str, Any]:
        """`run` without blocking the event loop; a synchronous chat generator runs in threads."""
        await self.warm_up_async()
        core = self._with(corruption_size)
        result = await core.run_async(query, to_passages(documents, self.source_key))
        return self._outputs(query, documents, result)

    def _with(self, corruption_size: int | None) -> CoreGenerator:
        if corruption_size is None:
            return self._core
        core = copy.copy(self._core)
        core.corruption_size = positive_integer("corruption_size", corruption_size)
        return core

    def _outputs(self, query: str, documents: list[Document], result: RAGResult) -> dict[str, Any]:
        annotated = annotate(documents, result.passages)
        answer = GeneratedAnswer(result.answer, query, annotated, meta=_meta(result))
        reply = ChatMessage.from_assistant(result.answer, meta=_meta(result))
        certificate = result.certificate.to_dict()
        return {"answers": [answer], "replies": [reply], "certificate": certificate}


def _meta(result: RAGResult) -> dict[str, Any]:
    return {
        "certificate": result.certificate.to_dict(),
        "abstained": result.abstained,
        "sources": list(result.sources()),
        "keywords": list(result.keywords),
    }
