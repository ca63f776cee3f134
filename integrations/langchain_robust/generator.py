"""RobustRAGGenerator as a LangChain Runnable: LangChain's types outside, the core inside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, PrivateAttr, SkipValidation, model_validator

from langchain_robust.chat import chat_completer, model_name, refuse_streaming
from langchain_robust.documents import annotated, question_passages
from langchain_robust.streaming import pieces, pieces_async, single
from robust_components.models.chat import ChatCompleter
from robust_components.models.memo import Memo
from robust_components.models.protocols import PassageReader, TokenModel
from robust_components.models.token_models import NamedTokenModel, named_token_model
from robust_components.notices import warn_if_sampling
from robust_components.rag.generator import ABSTENTION
from robust_components.rag.generator import RobustRAGGenerator as CoreGenerator
from robust_components.rag.keywords import KeywordExtractor
from robust_components.rag.passages import DEFAULT_SOURCE_KEY, source_keys
from robust_components.rag.prompting import (
    ISOLATED_PROMPT,
    KEYWORD_PROMPT,
    PromptReader,
    refuse_prompts,
)
from robust_components.rag.result import RAGResult

logger = logging.getLogger(__name__)


class RobustRAGGenerator(RunnableSerializable[dict[str, Any], Any]):
    """Answers a question from retrieved documents so that few hostile sources cannot steer it.

    Every document is read alone; the responses are aggregated by source. The answer carries an
    ``observed`` certificate: if at most ``radius`` of the sources at hand are hostile, it equals
    the one the clean documents would have given. The certificate is deterministic, needs no gold
    answer, and says nothing about whether the answer is right. Where it cannot be shown,
    ``certified`` is false and ``reason`` says why. A chat model must give the same response to the
    same prompt (temperature 0); a global LLM cache does no harm here.

    Input: ``{"question": str, "context": list[Document] | list[str]}``, best document first. The
    model sees the question and the ``page_content`` of one document at a time.

    Output: an ``AIMessage`` whose ``response_metadata`` holds ``certificate``, ``abstained``,
    ``sources``, ``keywords`` and ``passages``: for each document in order its ``answer``, ``vote``,
    ``supports``, ``source``, ``failure`` and so on. ``StrOutputParser`` drops all this; with
    ``output="dict"`` it comes as a dictionary, together with ``question``, ``answer`` and
    ``documents``: copies with the same details in ``metadata["robust_rag"]``.

    Inner model calls are child runs, tagged ``"nostream"``, and never part of a stream.
    ``astream_events`` shows them, as every trace does: pass ``exclude_tags=["nostream"]`` before
    events reach a user. What streams is the final answer; see :meth:`stream`.

    Example:
        .. code-block:: python

            robust = RobustRAGGenerator(llm=llm)
            chain = {"context": retriever, "question": RunnablePassthrough()} | robust
            answer = chain.invoke("What is the capital of France?")
            print(answer.content, answer.response_metadata["certificate"]["radius"])

    Args:
        llm: for voting and keyword a chat model, any Runnable from a prompt to a message or
            string, or a core ``PassageReader``; for decoding a core ``TokenModel``; the embedded
            extractive reader, which serves them all, when ``None``.
        aggregation: ``"voting"`` (one vote a source), ``"keyword"`` or ``"decoding"`` by token.
        corruption_size: number of hostile sources a certificate must withstand, at least 1.
        top_k: length at which the retriever cuts its list; further documents are not read.
        alpha: keyword threshold as a share of responding sources, in (0, 1].
        beta: keyword threshold as a number of sources, at least 1.
        keyword_extractor: turns a response into keywords: a function, or an object with
            ``extract(text)``; spaCy when ``None``.
        long_form: keyword: ask for phrases, count those of several words only, and write a long
            answer from them.
        max_optional_keywords: more keywords within an attacker's reach than this: not certified.
        max_final_calls: more distinct keyword sets than this: not certified.
        choices: the closed set of answers voted on; ``None`` leaves it open.
        gamma: decoding: a document abstains from this probability of "I don't know" on, in (0, 1];
            the model's own threshold, or 0.99, when ``None``.
        eta: decoding: lead a token needs, as a share of responding sources, in [0, 1).
        max_tokens: decoding: longest answer in tokens, at least 1.
        numerical_margin: decoding: what rounding in the model may change in a lead, in [0, 0.1].
        max_branches: decoding: more token sequences to search than this: not certified.
        on_uncertified: ``"answer"``, or ``"abstain"`` to withhold answers that are not certified.
        abstention: text returned in place of an answer.
        memo: voting and keyword: remember the first response to each prompt and use it from then
            on, for models that sample.
        source_key: metadata field that names a document's source, or several, of which the first
            with a value counts; ``"host:url"`` takes the host name of the URL in ``url``. Without
            a value ``Document.id`` counts; without an id the document is a source of its own.
        max_concurrency: most calls of ``llm`` under way for one question; the config's
            ``max_concurrency`` can only lower it.
        timeout: seconds one call may take; ``None`` waits for ever.
        retries: further attempts after a failed call; a document whose last one fails counts as
            hostile.
        retry_delay: seconds before the first of them, doubled before each next one.
        isolated_prompt: template with ``{passage}`` and ``{query}``; with ``long_form`` the default
            gives way to one that asks for phrases.
        keyword_prompt: template with ``{keywords}`` and ``{query}``, likewise.
        token_model: for decoding, in place of ``llm``: a Hugging Face id or folder, or a path that
            ends in ``.gguf``; loaded with the first question.
        token_model_kwargs: for ``robust_components.models.load_token_model``, such as
            ``{"device": "cuda", "dtype": "bfloat16"}``; plain values.
        output: ``"message"`` or ``"dict"``.

    Raises:
        ValidationError: a setting is unknown or outside its range; a ``ValueError``.
    """

    llm: SkipValidation[Runnable[Any, Any] | PassageReader | TokenModel | None] = None
    aggregation: str = "voting"
    corruption_size: int = 1
    top_k: int | None = None
    alpha: float | str = 0.3
    beta: float | str = 3
    keyword_extractor: SkipValidation[KeywordExtractor | Callable[[str], Any] | None] = None
    long_form: bool = False
    max_optional_keywords: int = 12
    max_final_calls: int = 256
    choices: tuple[str, ...] | None = None
    gamma: float | str | None = None
    eta: float | str = 0
    max_tokens: int = 64
    numerical_margin: float | str = "0.000001"
    max_branches: int = 64
    on_uncertified: str = "answer"
    abstention: str = ABSTENTION
    memo: bool = False
    source_key: str | tuple[str, ...] = (DEFAULT_SOURCE_KEY, "source")
    max_concurrency: int = 8
    timeout: float | None = 60.0
    retries: int = 1
    retry_delay: float = 0.5
    isolated_prompt: str = ISOLATED_PROMPT
    keyword_prompt: str = KEYWORD_PROMPT
    token_model: str | None = None
    token_model_kwargs: dict[str, Any] | None = None
    output: Literal["message", "dict"] = "message"
    _named_model: NamedTokenModel | None = PrivateAttr(None)

    _memo: Memo | None = PrivateAttr(None)

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def OutputType(self) -> Any:  # noqa: N802
        return AIMessage if self.output == "message" else dict[str, Any]

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._memo = Memo() if self.memo else None
        source_keys(self.source_key)
        self._named_model = self._named()
        refuse_streaming(self.llm)
        if not isinstance(self.llm, Runnable):
            refuse_prompts(self.isolated_prompt, self.keyword_prompt)
        try:
            self._completer({})
            self._core({})
        except TypeError as error:
            raise ValueError(f"llm: {error}") from error
        if not self.memo:
            warn_if_sampling("llm", getattr(self.llm, "temperature", None))
        return self

    def invoke(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        """Answer ``input["question"]`` from ``input["context"]``.

        Args:
            kwargs: ``corruption_size`` is used instead of the configured one for this call; also
                ``robust.bind(corruption_size=2)``, and with :meth:`stream`.

        Raises:
            ValueError: a key is missing, or the question is empty.
            TypeError: the question or a document is no text, or the context no list.
            ModelFailedError: a ``RuntimeError``: no document got a usable response.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Any:
        """:meth:`invoke` without blocking the event loop."""
        return await self._acall_with_config(self._answer_async, input, config, **kwargs)

    def stream(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Any]:
        """Yield the answer: in one piece, or by token with decoding and message output.

        A token comes as soon as its certified budget is known, a list of one number in
        ``response_metadata["certified_k"]``; with ``on_uncertified="abstain"`` only tokens
        certified for ``corruption_size`` come, up to the first that is not. The last chunk has all
        metadata of the message and no content, or the abstention, on a line of its own. What counts
        is its certificate: a document that fails late can lower it. Whoever stops reading stops
        the decoding at its next token.
        """
        if self._by_token():
            inputs = iter([input])
            yield from self._transform_stream_with_config(inputs, self._pieces, config, **kwargs)
        else:
            yield self.invoke(input, config, **kwargs)

    async def astream(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """:meth:`stream` without blocking the event loop."""
        if self._by_token():
            async for chunk in self._atransform_stream_with_config(
                single(input), self._pieces_async, config, **kwargs
            ):
                yield chunk
        else:
            yield await self.ainvoke(input, config, **kwargs)

    def _answer(
        self,
        input: Any,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        corruption_size: int | None = None,
    ) -> Any:
        passages = question_passages(input, self.source_key)
        core = self._loaded(config)
        result = core.run(input["question"], passages, corruption_size=corruption_size)
        return self._output(input, result)

    async def _answer_async(
        self,
        input: Any,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        corruption_size: int | None = None,
    ) -> Any:
        passages = question_passages(input, self.source_key)
        core = await asyncio.to_thread(self._loaded, config)
        result = await core.run_async(input["question"], passages, corruption_size=corruption_size)
        return self._output(input, result)

    def _by_token(self) -> bool:
        return self.aggregation == "decoding" and self.output == "message"

    def _pieces(
        self,
        inputs: Iterator[Any],
        run_manager: Any,
        config: RunnableConfig,
        corruption_size: int | None = None,
    ) -> Iterator[AIMessageChunk]:
        input = next(inputs)
        passages = question_passages(input, self.source_key)
        core = self._loaded(config)
        run = partial(core.run, input["question"], passages, corruption_size=corruption_size)
        yield from pieces(run, partial(self._output, input))

    async def _pieces_async(
        self,
        inputs: AsyncIterator[Any],
        run_manager: Any,
        config: RunnableConfig,
        corruption_size: int | None = None,
    ) -> AsyncIterator[AIMessageChunk]:
        input = await anext(inputs)
        passages = question_passages(input, self.source_key)
        core = await asyncio.to_thread(self._loaded, config)
        run = partial(core.run_async, input["question"], passages, corruption_size=corruption_size)
        async with aclosing(pieces_async(run, partial(self._output, input))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _loaded(self, config: RunnableConfig) -> CoreGenerator:
        if self._named_model is not None:
            self._named_model.load()
        core = self._core(config)
        core.load()
        return core

    def _core(self, config: RunnableConfig) -> CoreGenerator:
        return CoreGenerator(
            self._reader(config),
            self.aggregation,
            self.corruption_size,
            top_k=self.top_k,
            alpha=self.alpha,
            beta=self.beta,
            keyword_extractor=self.keyword_extractor,
            long_form=self.long_form,
            max_optional_keywords=self.max_optional_keywords,
            max_final_calls=self.max_final_calls,
            choices=self.choices,
            gamma=self.gamma,
            eta=self.eta,
            max_tokens=self.max_tokens,
            numerical_margin=self.numerical_margin,
            max_branches=self.max_branches,
            on_uncertified=self.on_uncertified,
            abstention=self.abstention,
            memo=self._memo or False,
        )

    def _named(self) -> NamedTokenModel | None:
        try:
            return named_token_model(
                self.token_model,
                self.token_model_kwargs,
                chat_model=self.llm,
                chat_model_name="llm",
                aggregation=self.aggregation,
                max_tokens=self.max_tokens,
            )
        except TypeError as error:
            raise ValueError(str(error)) from error

    def _reader(self, config: RunnableConfig) -> Any:
        if self._named_model is not None:
            return self._named_model
        if not isinstance(self.llm, Runnable) or self.aggregation == "decoding":
            return self.llm  # decoding takes no Runnable, and says so
        completer = self._completer(config)
        return PromptReader(
            completer,
            name=model_name(self.llm),
            fingerprint=completer.fingerprint,
            isolated_prompt=self.isolated_prompt,
            keyword_prompt=self.keyword_prompt,
            long_form=self.long_form,
        )

    def _completer(self, config: RunnableConfig) -> ChatCompleter:
        return chat_completer(
            self.llm,  # type: ignore[arg-type]
            config,
            max_concurrency=self.max_concurrency,
            timeout=self.timeout,
            retries=self.retries,
            retry_delay=self.retry_delay,
        )

    def _output(self, input: Mapping[str, Any], result: RAGResult) -> Any:
        failures = [passage.failure for passage in result.passages if passage.failure is not None]
        if failures:
            logger.warning(
                "%d of %d documents gave no usable response and count as hostile. First: %s",
                len(failures),
                len(result.passages),
                failures[0],
            )
        details = [passage.details() for passage in result.passages]
        metadata = result.metadata()
        if self.output == "message":
            return AIMessage(result.answer, response_metadata={**metadata, "passages": details})
        documents = [
            annotated(item, "robust_rag", detail)
            for item, detail in zip(input["context"], details, strict=True)
        ]
        answer = {"question": input["question"], "answer": result.answer}
        return {**answer, **metadata, "documents": documents}
