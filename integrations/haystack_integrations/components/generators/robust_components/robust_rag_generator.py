"""RobustRAGGenerator as a Haystack component: Haystack's types outside, the core inside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from haystack import Document, GeneratedAnswer, component, default_from_dict, default_to_dict
from haystack.components.generators.chat.types import ChatGenerator
from haystack.core.serialization import component_to_dict
from haystack.dataclasses import (
    ChatMessage,
    ComponentInfo,
    StreamingCallbackT,
    select_streaming_callback,
)
from haystack.utils import deserialize_callable, serialize_callable

from haystack_integrations.components.generators.robust_components.chat_generators import (
    close_async,
    prompt_reader,
    warm_up_async,
)
from haystack_integrations.components.generators.robust_components.documents import (
    outputs,
    to_passages,
)
from haystack_integrations.components.generators.robust_components.settings import (
    decimal,
)
from haystack_integrations.components.generators.robust_components.streaming import (
    answer,
    answer_async,
)
from robust_components.models.token_models import named_token_model
from robust_components.notices import warn_if_sampling
from robust_components.rag.generator import ABSTENTION
from robust_components.rag.generator import RobustRAGGenerator as CoreGenerator
from robust_components.rag.passages import DEFAULT_SOURCE_KEY, source_keys
from robust_components.rag.prompting import ISOLATED_PROMPT, KEYWORD_PROMPT, refuse_prompts

CALLABLES = ("keyword_extractor", "streaming_callback")


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
        Document(content="Hamlet was written by Shakespeare.", meta={"url": f"https://{host}/1"})
        for host in ("library.example", "theatre.example", "school.example")
    ]
    generator = RobustRAGGenerator(source_key="host:url")
    result = generator.run(query="Who wrote Hamlet?", documents=documents)
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
        keyword_extractor: Callable[[str], Iterable[str]] | None = None,
        long_form: bool = False,
        max_optional_keywords: int = 12,
        max_final_calls: int = 256,
        choices: Sequence[str] | None = None,
        gamma: float | str | None = None,
        eta: float | str = 0,
        max_tokens: int = 64,
        numerical_margin: float | str = "0.000001",
        max_branches: int = 64,
        on_uncertified: str = "answer",
        abstention: str = ABSTENTION,
        memo: bool = False,
        source_key: str | list[str] = DEFAULT_SOURCE_KEY,
        max_concurrency: int = 8,
        timeout: float | None = 60.0,
        retries: int = 1,
        retry_delay: float = 0.5,
        isolated_prompt: str = ISOLATED_PROMPT,
        keyword_prompt: str = KEYWORD_PROMPT,
        token_model: str | None = None,
        token_model_kwargs: dict[str, Any] | None = None,
        streaming_callback: StreamingCallbackT | None = None,
    ) -> None:
        """
        Creates the component; models load at warm-up.

        :param chat_generator: reads the documents, one call each, for voting and keyword; the
            embedded extractive reader, which serves every aggregation, when `None`. It must not
            stream: isolated, possibly poisoned responses would be shown.
        :param aggregation: `"voting"` (one vote a source), `"keyword"`, or `"decoding"` by token.
        :param corruption_size: number of hostile sources a certificate must withstand, at least 1.
        :param top_k: length at which the retriever cuts its list; further documents are not read.
        :param alpha: keyword threshold as a share of responding sources, in (0, 1].
        :param beta: keyword threshold as a number of sources, at least 1.
        :param keyword_extractor: keyword: a function from a response to its keywords; spaCy when
            `None`.
        :param long_form: keyword: ask for phrases, count those of several words only, and write a
            long answer from them.
        :param max_optional_keywords: more keywords in an attacker's reach than this: not certified.
        :param max_final_calls: more distinct keyword sets than this: not certified.
        :param choices: the closed set of answers voted on; `None` leaves it open.
        :param gamma: decoding: a document abstains from this probability of "I don't know" on, in
            (0, 1]; the model's own threshold, or 0.99, when `None`.
        :param eta: decoding: lead a token needs, as a share of responding sources, in [0, 1).
        :param max_tokens: decoding: longest answer in tokens, at least 1.
        :param numerical_margin: decoding: what rounding in the model may change in a lead.
        :param max_branches: decoding: more token sequences to search than this: not certified.
        :param on_uncertified: `"answer"`, or `"abstain"` to withhold what is not certified.
        :param abstention: text returned in place of an answer.
        :param memo: voting and keyword: remember the first response to each prompt and use it from
            then on, for chat generators that sample.
        :param source_key: metadata field that names a document's source, or several, of which the
            first with a value counts; `"host:url"` takes the host name of the URL in the field
            `url`. Without a value a document is its own source.
        :param max_concurrency: most calls of the chat generator under way at once.
        :param timeout: seconds one call may take; `None` waits for ever.
        :param retries: further attempts after a failed call; a document whose last attempt fails
            counts as hostile.
        :param retry_delay: seconds before the first of them, doubled before each next one.
        :param isolated_prompt: template with `{passage}` and `{query}`, for a chat generator;
            with `long_form` the default gives way to one that asks for phrases.
        :param keyword_prompt: template with `{keywords}` and `{query}`, likewise.
        :param token_model: a Hugging Face id or folder, or a path that ends in `.gguf`: the model
            for decoding, in place of the embedded reader; loaded at warm-up.
        :param token_model_kwargs: for `robust_components.models.load_token_model`, such as
            `{"device": "cuda", "dtype": "bfloat16"}`; plain values.
        :param streaming_callback: called with certified tokens and the final answer; see `run`.
        :raises ValueError: a value is outside its range, belongs to another aggregation, or the
            chat generator streams.
        :raises TypeError: a value is of the wrong type; decoding was asked of a chat generator.
        """
        source_keys(source_key)
        named = named_token_model(
            token_model,
            token_model_kwargs,
            chat_model=chat_generator,
            chat_model_name="chat_generator",
            aggregation=aggregation,
            max_tokens=max_tokens,
        )
        model: Any = named or chat_generator  # decoding takes none of these, and says so
        if chat_generator is None:
            refuse_prompts(isolated_prompt, keyword_prompt)
        elif aggregation != "decoding":
            model = prompt_reader(
                chat_generator,
                isolated_prompt=isolated_prompt,
                keyword_prompt=keyword_prompt,
                long_form=long_form,
                max_concurrency=max_concurrency,
                timeout=timeout,
                retries=retries,
                retry_delay=retry_delay,
            )
        self._core = CoreGenerator(
            model,
            aggregation,
            corruption_size,
            top_k=top_k,
            alpha=alpha,
            beta=beta,
            keyword_extractor=keyword_extractor,
            long_form=long_form,
            max_optional_keywords=max_optional_keywords,
            max_final_calls=max_final_calls,
            choices=choices,
            gamma=gamma,
            eta=eta,
            max_tokens=max_tokens,
            numerical_margin=numerical_margin,
            max_branches=max_branches,
            on_uncertified=on_uncertified,
            abstention=abstention,
            memo=memo,
        )
        self._named_model = named
        if not memo:
            kwargs = getattr(chat_generator, "generation_kwargs", None) or {}
            warn_if_sampling("chat_generator", kwargs.get("temperature"))
        self.chat_generator: Any = chat_generator
        self.aggregation = aggregation
        self.corruption_size = int(corruption_size)
        self.top_k = None if top_k is None else int(top_k)
        self.alpha = decimal(alpha)
        self.beta = decimal(beta)
        self.keyword_extractor = keyword_extractor
        self.long_form = bool(long_form)
        self.max_optional_keywords = int(max_optional_keywords)
        self.max_final_calls = int(max_final_calls)
        self.choices = None if choices is None else [str(choice) for choice in choices]
        self.gamma = None if gamma is None else decimal(gamma)
        self.eta = decimal(eta)
        self.max_tokens = int(max_tokens)
        self.numerical_margin = decimal(numerical_margin)
        self.max_branches = int(max_branches)
        self.on_uncertified = on_uncertified
        self.abstention = abstention
        self.memo = bool(memo)
        self.source_key = source_key if isinstance(source_key, str) else list(source_key)
        self.max_concurrency = int(max_concurrency)
        self.timeout = None if timeout is None else float(timeout)
        self.retries = int(retries)
        self.retry_delay = float(retry_delay)
        self.isolated_prompt = isolated_prompt
        self.keyword_prompt = keyword_prompt
        self.token_model = token_model
        self.token_model_kwargs = None if token_model_kwargs is None else dict(token_model_kwargs)
        self.streaming_callback = streaming_callback

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component, nested chat generator included."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        parameters = {name: getattr(self, name) for name in names}
        if self.chat_generator is not None:
            parameters["chat_generator"] = component_to_dict(self.chat_generator, "chat_generator")
        for name in CALLABLES:
            if parameters[name] is not None:
                parameters[name] = serialize_callable(parameters[name])
        return default_to_dict(self, **parameters)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RobustRAGGenerator:
        """Deserializes the component."""
        parameters = dict(data.get("init_parameters", {}))
        for name in CALLABLES:
            if parameters.get(name) is not None:
                parameters[name] = deserialize_callable(parameters[name])
        return default_from_dict(cls, {**data, "init_parameters": parameters})

    def warm_up(self) -> None:
        """Warms up the chat generator; loads token model or reader, and keyword extractor."""
        if hasattr(self.chat_generator, "warm_up"):
            self.chat_generator.warm_up()
        self._load()

    async def warm_up_async(self) -> None:
        """Warms up the chat generator on the serving event loop; the rest loads in a thread."""
        await warm_up_async(self.chat_generator)
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        if self._named_model is not None:
            self._named_model.load()
        self._core.load()

    def close(self) -> None:
        """Releases the chat generator's resources."""
        if hasattr(self.chat_generator, "close"):
            self.chat_generator.close()

    async def close_async(self) -> None:
        """Releases the chat generator's resources on the serving event loop."""
        await close_async(self.chat_generator)

    @component.output_types(
        answers=list[GeneratedAnswer], replies=list[ChatMessage], certificate=dict[str, Any]
    )
    def run(
        self,
        query: str,
        documents: list[Document],
        corruption_size: int | None = None,
        streaming_callback: StreamingCallbackT | None = None,
    ) -> dict[str, Any]:
        """
        Answers the query, with a certificate.

        Streaming never shows an isolated response. In decoding each token is sent as soon as its
        certified budget is known, which is in `meta["certified_k"]`; with
        `on_uncertified="abstain"` only tokens certified for `corruption_size` are sent, up to the
        first that is not. The last chunk holds the rest of the answer (without decoding, all of
        it) and the `meta` of the reply; if the answer is withheld, the abstention, on a line of its
        own. What counts is the certificate: a document that fails late can lower it.

        :param query: the question; trusted.
        :param documents: retrieved documents, best first. One without text content is read as an
            empty text: its source keeps its place in the count, and no stray image stops a run.
        :param corruption_size: overrides the instance's.
        :param streaming_callback: overrides the instance's.
        :returns:
            - `answers`: one answer. Its `documents` are copies of all documents given, in order,
              with `answer`, `abstained`, `vote`, `supports`, `source`, `probability`, `failure`,
              `truncated` and `unused` of each in `meta["robust_rag"]`. Its `meta` holds the
              `certificate`, whether it `abstained`, the `sources` and `keywords` it rests on, and
              in decoding the `tokens`, each with its `certified_k`.
            - `replies`: the answer as one chat message, with the same `meta`.
            - `certificate`: for `Certificate.from_dict`.
        :raises ValueError: the query is empty, or `corruption_size` is below 1.
        :raises ModelFailedError: a `RuntimeError`: no document got a usable response.
        """
        callback = select_streaming_callback(self.streaming_callback, streaming_callback, False)
        self.warm_up()
        passages = to_passages(documents, self.source_key)
        run = partial(self._core.run, query, passages, corruption_size=corruption_size)
        result = answer(run, callback, ComponentInfo.from_component(self))
        return outputs(query, documents, result)

    @component.output_types(
        answers=list[GeneratedAnswer], replies=list[ChatMessage], certificate=dict[str, Any]
    )
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        corruption_size: int | None = None,
        streaming_callback: StreamingCallbackT | None = None,
    ) -> dict[str, Any]:
        """`run` without blocking the event loop, on which the callback runs."""
        callback = select_streaming_callback(self.streaming_callback, streaming_callback, True)
        await self.warm_up_async()
        passages = to_passages(documents, self.source_key)
        run = partial(self._core.run_async, query, passages, corruption_size=corruption_size)
        result = await answer_async(run, callback, ComponentInfo.from_component(self))
        return outputs(query, documents, result)
