"""CluCertClassifier as a Haystack component: Haystack's types outside, the core inside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from haystack import Document, component, default_to_dict
from haystack.components.generators.chat.types import ChatGenerator
from haystack.core.serialization import component_to_dict
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.components.classifiers.robust_components.documents import (
    classified,
    contents,
    details,
)
from haystack_integrations.components.generators.robust_components.chat_generators import (
    chat_completer,
    close_async,
    warm_up_async,
)
from robust_components.checks import warnings_at
from robust_components.classification import CluCertClassifier as CoreClassifier
from robust_components.classification import KeepImportant
from robust_components.classification.cluster import Clustering
from robust_components.models.classifier_models import load_classifier
from robust_components.models.prompt_classifier import LABEL_PROMPT, PromptClassifier
from robust_components.models.sentence_encoder import EmbeddedEncoder
from robust_components.notices import warn_if_sampling
from robust_components.smoothing import (
    FixedMechanism,
    RandomMask,
    mechanism_named,
    name_and_settings,
)
from robust_components.threats import SynonymEdits, WordEdits

HF_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class CluCertClassifier:
    """
    Labels documents and texts so that a few edited words cannot change the label.

    Every text is classified on masked copies of itself, which vote; few edits reach few copies.
    With `"balanced_mask"` (substituted words) and `"hash_buckets"` (words inserted, deleted, moved
    or substituted) the certificates are deterministic; with `"random_mask"` they hold with
    confidence 1 - alpha. They say that the label of the clean text is the same, if at most
    `radius` words of the text at hand were edited. They do not say that the label is right. Where
    nothing can be shown, `certified` is false and `reason` says why.

    ```python
    from haystack import Document
    from haystack_integrations.components.classifiers.robust_components import CluCertClassifier

    classifier = CluCertClassifier()
    documents = [Document(content="A warm, funny and moving film with a wonderful cast.")]
    result = classifier.run(documents=documents)
    print(result["documents"][0].meta["classification"])
    ```
    """

    def __init__(
        self,
        model: str | None = None,
        chat_generator: ChatGenerator | None = None,
        *,
        labels: Sequence[str] | Mapping[str, str] | None = None,
        mechanism: str | FixedMechanism | RandomMask | None = None,
        mechanism_kwargs: Mapping[str, Any] | None = None,
        votes: str | None = None,
        keep_words: int | None = None,
        substitute: str | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        words: int = 1,
        operations: str | None = None,
        statement: str = "observed",
        method: str = "smoothing",
        alpha: float = 0.05,
        bound: str = "betting",
        selection_samples: int = 32,
        adaptive: bool = True,
        randomised: bool = False,
        trust_draws: bool = False,
        numerical_margin: float = 1e-5,
        classification_field: str | None = None,
        prompt: str = LABEL_PROMPT,
        max_concurrency: int = 8,
        timeout: float | None = 60.0,
        retries: int = 1,
        retry_delay: float = 0.5,
        device: ComponentDevice | str | None = None,
        token: Secret | None = HF_TOKEN,
        tokens_a_batch: int = 2048,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Creates the component; models load at warm-up.

        :param model: `"sentiment"` or `"topic"` (embedded, trained on masked copies), a folder
            written by `robust-components train classifier`, or a Hugging Face sequence classifier
            by folder or id. The embedded sentiment classifier when `None`. Models that never saw
            masked text label it badly: train them with that command.
        :param chat_generator: instead of `model`, a chat model that is asked for one of `labels`,
            one call a masked copy. It must give the same response to the same prompt
            (temperature 0). A response that is no label counts as an abstention.
        :param labels: for a chat model the labels, or a dictionary from labels to descriptions; for
            a Hugging Face model names of its labels, in order.
        :param mechanism: `"balanced_mask"`, `"hash_buckets"` or `"random_mask"`, or a mechanism
            itself, without `mechanism_kwargs`; what the model was trained on, else
            `"balanced_mask"`, when `None`.
        :param mechanism_kwargs: its settings, such as `{"blocks": 9}`, `{"buckets": 9}` or
            `{"mask_rate": 0.9, "samples": 2000}`.
        :param votes: `"soft"` (mean probabilities) or `"hard"` (labels); soft when `None` and the
            model has probabilities.
        :param keep_words: classify only so many words of a text, the most important by length;
            all when `None`.
        :param substitute: replace visible words by synonyms first: `"table"` (our own),
            `"wordnet"`, `"classes"` (by their class, so that exchanges within a class change
            nothing) or `"kernels"` (random masks; the certificate is then about synonym edits).
        :param cluster_kwargs: vote by the medoid of the largest cluster of synonym variants of each
            copy: settings of `Clustering`, such as `{"variants": 8}`; no clusters when `None`.
        :param words: edited words a certificate must withstand, at least 1.
        :param operations: `"substitute"` or `"any"`; what the mechanism covers when `None`.
        :param statement: `"observed"` (texts may already be edited) or `"pre_attack"` (they are
            clean, edits come later).
        :param method: `"smoothing"`, or `"clucert"`, the published rule, whose certificates are
            `heuristic`.
        :param alpha: 1 - confidence of certificates with `"random_mask"`.
        :param bound: of these: `"betting"` (stops early), or `"clopper_pearson"` for hard votes.
        :param selection_samples: samples that choose the label.
        :param adaptive: stop drawing when more samples would hardly certify more.
        :param randomised: the chat model draws anew for every copy (temperature above 0); random
            masks only. A cached one, which never differs on equal copies, gets no certificate.
        :param trust_draws: skip that check.
        :param numerical_margin: most by which two probabilities of the same copy may differ.
        :param classification_field: metadata field to classify instead of the content.
        :param prompt: template with `{text}` and `{labels}`, for a chat model.
        :param max_concurrency: most calls of it under way at once.
        :param timeout: seconds one call may take; `None` waits for ever.
        :param retries: further attempts after a failed call; a copy whose last one fails counts as
            a vote for every other label.
        :param retry_delay: seconds before the first of them, doubled before each next one.
        :param device: where a Hugging Face model runs; the best available when `None`.
        :param token: for private Hugging Face models.
        :param tokens_a_batch: most tokens the model reads at once, padding included.
        :param model_kwargs: for the Hugging Face model's `from_pretrained`.
        :param tokenizer_kwargs: for the tokenizer's `from_pretrained`.
        :raises ValueError: a value is outside its range.
        :raises TypeError: a value is of the wrong type.
        """
        if model is not None and chat_generator is not None:
            raise ValueError("model and chat_generator cannot both be given; leave one out")
        if chat_generator is not None and labels is None:
            raise ValueError(
                "a chat model needs labels to choose from, got None; pass labels=['spam', 'ham'], "
                "or a dictionary from labels to descriptions"
            )
        if chat_generator is None and isinstance(labels, Mapping):
            raise ValueError(
                "descriptions of labels are for a chat model, and there is none; pass a list of "
                "names, or a chat_generator"
            )
        self._prompted = (
            None
            if chat_generator is None
            else PromptClassifier(
                chat_completer(
                    chat_generator,
                    max_concurrency=max_concurrency,
                    timeout=timeout,
                    retries=retries,
                    retry_delay=retry_delay,
                ),
                labels or (),
                prompt=prompt,
            )
        )
        chosen = None
        if mechanism is not None:
            mechanism, mechanism_kwargs = name_and_settings(mechanism, mechanism_kwargs)
            chosen = mechanism_named(mechanism, mechanism_kwargs)
        elif mechanism_kwargs is not None:
            raise ValueError(
                f"mechanism_kwargs need a mechanism, got {dict(mechanism_kwargs)} and None; pass "
                "mechanism='balanced_mask', for example"
            )
        self._core_settings: dict[str, Any] = {
            "votes": votes,
            "refine": None if keep_words is None else KeepImportant(keep_words),
            "substitute": substitute,
            "cluster": None
            if cluster_kwargs is None
            else Clustering(EmbeddedEncoder(), **cluster_kwargs),
            "statement": statement,
            "method": method,
            "alpha": alpha,
            "bound": bound,
            "selection_samples": selection_samples,
            "adaptive": adaptive,
            "randomised": randomised,
            "trust_draws": trust_draws,
            "numerical_margin": numerical_margin,
        }
        covered: str = getattr(chosen, "operations", "substitute")
        self._core_settings["threat"] = (
            SynonymEdits(words)
            if substitute == "kernels"
            else WordEdits(words, operations or covered)
        )
        self._mechanism = chosen
        with warnings_at(stacklevel=3):  # past Haystack's metaclass, at the caller's line
            if not randomised:
                kwargs = getattr(chat_generator, "generation_kwargs", None) or {}
                warn_if_sampling("chat_generator", kwargs.get("temperature"))
            self._core = CoreClassifier(self._prompted, chosen, **self._core_settings)
        self.model = model
        self.chat_generator: Any = chat_generator
        self.labels = dict(labels) if isinstance(labels, Mapping) else labels and list(labels)
        self.mechanism = mechanism
        self.mechanism_kwargs = None if mechanism_kwargs is None else dict(mechanism_kwargs)
        self.votes = votes
        self.keep_words = None if keep_words is None else int(keep_words)
        self.substitute = substitute
        self.cluster_kwargs = None if cluster_kwargs is None else dict(cluster_kwargs)
        self.words = int(words)
        self.operations = operations
        self.statement = statement
        self.method = method
        self.alpha = float(alpha)
        self.bound = bound
        self.selection_samples = int(selection_samples)
        self.adaptive = bool(adaptive)
        self.randomised = bool(randomised)
        self.trust_draws = bool(trust_draws)
        self.numerical_margin = float(numerical_margin)
        self.classification_field = classification_field
        self.prompt = prompt
        self.max_concurrency = int(max_concurrency)
        self.timeout = None if timeout is None else float(timeout)
        self.retries = int(retries)
        self.retry_delay = float(retry_delay)
        self.device = ComponentDevice.from_str(device) if isinstance(device, str) else device
        self.token = token
        self.tokens_a_batch = int(tokens_a_batch)
        self.model_kwargs = None if model_kwargs is None else dict(model_kwargs)
        self.tokenizer_kwargs = None if tokenizer_kwargs is None else dict(tokenizer_kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component, nested chat generator included."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        parameters = {name: getattr(self, name) for name in names}
        if self.chat_generator is not None:
            parameters["chat_generator"] = component_to_dict(self.chat_generator, "chat_generator")
        return default_to_dict(self, **parameters)

    def warm_up(self) -> None:
        """Warms up the chat model, or loads the model."""
        if hasattr(self.chat_generator, "warm_up"):
            self.chat_generator.warm_up()
        self._load()

    async def warm_up_async(self) -> None:
        """Warms up the chat model on the serving event loop; a model loads in a thread."""
        await warm_up_async(self.chat_generator)
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        if self._core.model is None:
            loaded = load_classifier(
                self.model or "sentiment",
                labels=self.labels if isinstance(self.labels, list) else None,
                device=ComponentDevice.resolve_device(self.device).to_torch_str(),
                tokens_a_batch=self.tokens_a_batch,
                token=None if self.token is None else self.token.resolve_value(),
                model_kwargs=self.model_kwargs,
                tokenizer_kwargs=self.tokenizer_kwargs,
            )
            self._core = CoreClassifier(loaded, self._mechanism, **self._core_settings)
        self._core.warm_up()

    def close(self) -> None:
        """Releases the chat model's resources."""
        if hasattr(self.chat_generator, "close"):
            self.chat_generator.close()

    async def close_async(self) -> None:
        """Releases the chat model's resources on the serving event loop."""
        await close_async(self.chat_generator)

    @component.output_types(
        documents=list[Document],
        certified=list[Document],
        uncertified=list[Document],
        certified_texts=list[str],
        uncertified_texts=list[str],
        classifications=list[dict[str, Any]],
    )
    def run(
        self, documents: list[Document] | None = None, texts: list[str] | None = None
    ) -> dict[str, Any]:
        """
        Labels documents and texts, with certificates.

        :param documents: to label by their content; they are not changed.
        :param texts: to label besides, such as a query to route.
        :returns:
            - `documents`: copies in the same order. In `meta["classification"]`: `label` (`None`
              where no label is given), `score` (the label's share of the votes, no probability)
              and `details` with `vote_shares`, `abstained`, `failed_copies`, `certified_radius`
              and `certified`; in `meta["certificate"]` the certificate, for
              `Certificate.from_dict`.
            - `certified`: those of them whose label withstands `words` edited words.
            - `uncertified`: the others.
            - `certified_texts`, `uncertified_texts`: the texts, likewise.
            - `classifications`: one dictionary a text with `text`, `classification` and
              `certificate`.
        :raises ModelFailedError: the model gave no usable response at all.
        """
        self.warm_up()
        return self._classify(documents or [], texts or [])

    @component.output_types(
        documents=list[Document],
        certified=list[Document],
        uncertified=list[Document],
        certified_texts=list[str],
        uncertified_texts=list[str],
        classifications=list[dict[str, Any]],
    )
    async def run_async(
        self, documents: list[Document] | None = None, texts: list[str] | None = None
    ) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        await self.warm_up_async()
        return await asyncio.to_thread(self._classify, documents or [], texts or [])

    def _classify(self, documents: list[Document], texts: list[str]) -> dict[str, Any]:
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of texts, got {texts[:40]!r}; pass [text]")
        found = self._core.classify_many([*contents(documents, self.classification_field), *texts])
        of_documents, of_texts = found[: len(documents)], found[len(documents) :]
        labelled = [classified(d, one) for d, one in zip(documents, of_documents, strict=True)]
        pairs = list(zip(labelled, of_documents, strict=True))
        said = list(zip(texts, of_texts, strict=True))
        return {
            "documents": labelled,
            "certified": [document for document, one in pairs if one.certified],
            "uncertified": [document for document, one in pairs if not one.certified],
            "certified_texts": [text for text, one in said if one.certified],
            "uncertified_texts": [text for text, one in said if not one.certified],
            "classifications": [
                {
                    "text": text,
                    "classification": details(one),
                    "certificate": one.certificate.to_dict(),
                }
                for text, one in said
            ],
        }
