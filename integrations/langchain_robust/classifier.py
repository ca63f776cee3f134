"""CluCertClassifier as a LangChain Runnable: LangChain's types outside, the core inside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, PrivateAttr, SkipValidation, model_validator

from langchain_robust.chat import chat_completer, model_name, refuse_streaming
from robust_components.classification import Classification, KeepImportant, RefineCopies, RefineText
from robust_components.classification import CluCertClassifier as CoreClassifier
from robust_components.classification.cluster import Clustering
from robust_components.classification.substitute import SynonymKernels
from robust_components.models.classifier_models import load_classifier
from robust_components.models.prompt_classifier import LABEL_PROMPT, PromptClassifier
from robust_components.models.protocols import TextClassifier
from robust_components.notices import warn_if_sampling
from robust_components.smoothing import FixedMechanism, RandomMask, as_mechanism
from robust_components.threats import SynonymEdits, WordEdits


class CluCertClassifier(RunnableSerializable[Any, Any]):
    """Labels texts and documents so that a few edited words cannot change the label.

    Every text is classified on masked copies of itself, which vote; few edits reach few copies.
    With ``BalancedMask`` (substituted words) and ``HashBuckets`` (words inserted, deleted, moved or
    substituted) the certificates are deterministic; with ``RandomMask`` they hold with confidence
    1 - alpha. They say that the label of the clean text is the same, if at most ``radius`` words of
    the text at hand were edited. They do not say that the label is right. Where nothing can be
    shown, ``certified`` is false and ``reason`` says why.

    Input and output: a ``str`` becomes a dictionary with ``text``, ``label`` (``None`` where no
    label is given), ``vote_shares`` (of the masked copies; no probabilities), ``abstained``,
    ``failed_copies``, ``certified_radius``, ``certified`` and ``certificate``; a ``Document``
    becomes a copy with all but the text in ``metadata["classification"]`` and the certificate in
    ``metadata["certificate"]``; a list of either becomes a list, classified together.
    :meth:`classify` returns the core's results.

    Example:
        .. code-block:: python

            classifier = CluCertClassifier()
            found = classifier.invoke("A warm, funny and moving film with a wonderful cast.")
            print(found["label"], found["certified_radius"])

    Args:
        model: ``"sentiment"`` or ``"topic"`` (embedded), a folder written by ``robust-components
            train classifier``, a Hugging Face sequence classifier by folder or id, a core
            classifier, or a chat model (any Runnable from a prompt to a message or string), which
            is asked for one of ``labels``, one call a masked copy; the embedded sentiment
            classifier when ``None``. A chat model must give the same response to the same prompt
            (temperature 0). Models that never saw masked text label it badly: train them.
        labels: for a chat model the labels, or a dictionary from labels to descriptions; for other
            models names of the labels, in order.
        mechanism: how masked copies are made, or a mechanism's name; what the model was trained on,
            else ``BalancedMask(10)``, when ``None``.
        votes: ``"soft"`` (mean probabilities) or ``"hard"`` (labels); soft when ``None`` and the
            model has probabilities.
        refine: what is done to texts or masked copies first; see
            :mod:`robust_components.classification.refine`.
        substitute: replace visible words by synonyms first: ``"table"``, ``"wordnet"``,
            ``"classes"``, ``"kernels"``, or an object; see
            :mod:`robust_components.classification.substitute`.
        cluster: a :class:`~robust_components.classification.cluster.Clustering` of the variants.
        words: edited words a certificate must withstand, at least 1.
        operations: ``"substitute"`` or ``"any"``; what the mechanism covers when ``None``.
        statement: ``"observed"`` (texts may already be edited) or ``"pre_attack"``.
        method: ``"smoothing"``, or ``"clucert"``, the published rule, whose certificates are
            ``heuristic``.
        alpha: 1 - confidence of certificates with ``RandomMask``.
        bound: of these: ``"betting"``, or ``"clopper_pearson"`` for hard votes.
        selection_samples: samples that choose the label.
        adaptive: stop drawing when more samples would hardly certify more.
        randomised: the chat model draws anew for every copy (temperature above 0); random masks
            only. It is then called past LangChain's cache, which would make many samples one.
        trust_draws: skip the check that it does differ on equal copies.
        numerical_margin: most by which two probabilities of the same copy may differ.
        prompt: template with ``{text}`` and ``{labels}``, for a chat model.
        max_concurrency: most calls of it under way at once; the config's can only lower it.
        timeout: seconds one call may take; ``None`` waits for ever.
        retries: further attempts after a failed call; a copy whose last one fails counts as a vote
            for every other label.
        retry_delay: seconds before the first of them, doubled before each next one.
        device: where a Hugging Face model runs.
        tokens_a_batch: most tokens such a model reads at once, padding included.
        model_kwargs: for its ``from_pretrained``.

    Raises:
        ValidationError: a setting is unknown or outside its range; a ``ValueError``.
    """

    model: SkipValidation[Any] = None
    labels: SkipValidation[Any] = None
    mechanism: SkipValidation[FixedMechanism | RandomMask | str | None] = None
    votes: str | None = None
    refine: SkipValidation[KeepImportant | RefineCopies | RefineText | None] = None
    substitute: SkipValidation[Any] = None
    cluster: SkipValidation[Clustering | None] = None
    words: int = 1
    operations: str | None = None
    statement: str = "observed"
    method: str = "smoothing"
    alpha: float = 0.05
    bound: str = "betting"
    selection_samples: int = 32
    adaptive: bool = True
    randomised: bool = False
    trust_draws: bool = False
    numerical_margin: float = 1e-5
    prompt: str = LABEL_PROMPT
    max_concurrency: int = 8
    timeout: float | None = 60.0
    retries: int = 1
    retry_delay: float = 0.5
    device: str = "cpu"
    tokens_a_batch: int = 2048
    model_kwargs: dict[str, Any] | None = None

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    _loaded: Any = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.model, Runnable):
            refuse_streaming(self.model)
        if not self.randomised:
            warn_if_sampling("model", getattr(self.model, "temperature", None))
        try:
            self._core(self._classifier({}))
        except TypeError as error:
            raise ValueError(str(error)) from error
        return self

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Label a text, a document, or a list of them.

        Raises:
            TypeError: the input is none of these.
            ModelFailedError: the model gave no usable response at all.
        """
        label: Any = self._label  # the signature knows no callable of input and config alone
        return self._call_with_config(label, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """:meth:`invoke` without blocking the event loop."""
        label: Any = self._label_async
        return await self._acall_with_config(label, input, config, **kwargs)

    def classify(
        self, items: Sequence[str | Document], config: RunnableConfig | None = None
    ) -> list[Classification]:
        """The core's classifications of texts or documents, in order."""
        core = self._core(self._loaded_classifier(config or {}))
        return core.classify_many([text_of(item) for item in items])

    def _label(self, input: Any, config: RunnableConfig) -> Any:
        items = input if isinstance(input, list) else [input]
        found = [
            labelled(item, one)
            for item, one in zip(items, self.classify(items, config), strict=True)
        ]
        return found if isinstance(input, list) else found[0]

    async def _label_async(self, input: Any, config: RunnableConfig) -> Any:
        return await asyncio.to_thread(self._label, input, config)

    def _core(self, model: Any) -> CoreClassifier:
        mechanism = None if self.mechanism is None else as_mechanism(self.mechanism)
        covered = "substitute" if mechanism is None else mechanism.operations
        kernels = self.substitute == "kernels" or isinstance(self.substitute, SynonymKernels)
        threat: WordEdits | SynonymEdits = (
            SynonymEdits(self.words)
            if kernels
            else WordEdits(self.words, self.operations or covered)
        )
        return CoreClassifier(
            model,
            mechanism,
            votes=self.votes,
            refine=self.refine,
            substitute=self.substitute,
            cluster=self.cluster,
            threat=threat,
            statement=self.statement,
            method=self.method,
            alpha=self.alpha,
            bound=self.bound,
            selection_samples=self.selection_samples,
            adaptive=self.adaptive,
            randomised=self.randomised,
            trust_draws=self.trust_draws,
            numerical_margin=self.numerical_margin,
        )

    def _classifier(self, config: RunnableConfig) -> Any:
        """The model as a core classifier; ``None`` while a named one is not loaded.

        Raises:
            TypeError: it is nothing that labels.
            ValueError: a chat model has no labels.
        """
        if self.model is None or isinstance(self.model, str):
            return None
        if isinstance(self.model, TextClassifier):
            return self.model
        if not isinstance(self.model, Runnable):
            raise TypeError(
                "model must be a name, a chat model, or an object with classify(texts), got "
                f"{type(self.model).__name__}"
            )
        if self.labels is None:
            raise ValueError(
                "a chat model needs labels to choose from, got None; pass labels=['spam', 'ham'], "
                "or a dictionary from labels to descriptions"
            )
        completer = chat_completer(
            _uncached(self.model) if self.randomised else self.model,
            config,
            max_concurrency=self.max_concurrency,
            timeout=self.timeout,
            retries=self.retries,
            retry_delay=self.retry_delay,
        )
        return PromptClassifier(
            completer, self.labels, prompt=self.prompt, name=model_name(self.model)
        )

    def _loaded_classifier(self, config: RunnableConfig) -> Any:
        if self.model is not None and not isinstance(self.model, str):
            return self._classifier(config)
        key = (self.model, self.labels, self.device, self.tokens_a_batch, self.model_kwargs)
        if self._loaded is None or self._loaded[0] != key:
            loaded = load_classifier(
                self.model or "sentiment",
                labels=self.labels,
                device=self.device,
                tokens_a_batch=self.tokens_a_batch,
                model_kwargs=self.model_kwargs,
            )
            self._loaded = (key, loaded)
        return self._loaded[1]


def _uncached(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The chat model past LangChain's cache, if it is one that the cache is for."""
    if isinstance(model, BaseLanguageModel) and "cache" in type(model).model_fields:
        return model.model_copy(update={"cache": False})
    return model


def text_of(item: Any) -> str:
    """The text of a document, or the text itself.

    Raises:
        TypeError: ``item`` is neither.
    """
    if isinstance(item, Document):
        return item.page_content
    if isinstance(item, str):
        return item
    raise TypeError(
        f"input must be a text, a Document or a list of them, got {type(item).__name__}; put a "
        "step before the classifier that takes the text out"
    )


def labelled(item: str | Document, found: Classification) -> dict[str, Any] | Document:
    """A dictionary for a text, an annotated copy for a document."""
    details = {**found.to_dict(), "certified": found.certified}
    if isinstance(item, str):
        return {"text": item, **details}
    certificate = details.pop("certificate")
    metadata = {**item.metadata, "classification": details, "certificate": certificate}
    return item.model_copy(update={"metadata": metadata})
