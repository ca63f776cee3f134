"""SmoothedRanker as a Haystack component: Haystack's types outside, the core inside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from haystack import Document, component, default_to_dict
from haystack.core.serialization import component_to_dict
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.components.rankers.robust_components.documents import (
    check_embedding,
    checked_threshold,
    outputs,
)
from haystack_integrations.components.rankers.robust_components.pointwise import (
    PointwiseRanker,
    RankerScorer,
    close_async,
    warm_up_async,
)
from robust_components.checks import warnings_at
from robust_components.models.pair_models import load_pair_scorer
from robust_components.models.prefixed import PrefixedScorer
from robust_components.ranking.ranker import SmoothedRanker as CoreRanker
from robust_components.ranking.settings import takes_logits
from robust_components.smoothing import (
    FixedMechanism,
    RandomMask,
    TermCoverage,
    mechanism_named,
    name_and_settings,
)
from robust_components.threats import WordEdits

HF_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class SmoothedRanker:
    """
    Ranks documents so that a few edited words cannot move one into or out of the top K.

    Every document is scored on masked copies of itself; few edits reach few copies, so the mean
    cannot move far. The score may count the query's words in the document too (`coverage`), which
    few edits cannot move far either. With `"balanced_mask"` (substituted words) and
    `"hash_buckets"` (words inserted, deleted, moved or substituted) the certificates are
    deterministic; with `"random_mask"` they hold with confidence 1 - alpha. They say which
    documents are in the top K of the clean list too, if at most `radius` words of each document at
    hand were edited. They do not say that the top K are relevant. Where nothing can be shown,
    `certified` is false and `reason` says why.

    ```python
    from haystack import Document
    from haystack_integrations.components.rankers.robust_components import SmoothedRanker

    ranker = SmoothedRanker(top_k=1)
    documents = [
        Document(content="Bread is baked from flour, water, salt and yeast in a hot oven."),
        Document(content="Hamlet, a tragedy, was written by William Shakespeare around 1600."),
    ]
    result = ranker.run(query="Who wrote Hamlet?", documents=documents)
    print(result["documents"][0].content, result["certificate"]["radius"])
    ```
    """

    def __init__(
        self,
        model: str | None = None,
        ranker: PointwiseRanker | None = None,
        *,
        mechanism: str | FixedMechanism | RandomMask = "balanced_mask",
        mechanism_kwargs: Mapping[str, Any] | None = None,
        top_k: int = 10,
        words: int = 1,
        operations: str | None = None,
        statement: str = "observed",
        scope: str | None = None,
        aggregation: str = "mean",
        quantile: float = 0.5,
        coverage: Mapping[str, Any] | TermCoverage | str | None = "model",
        score_map: str = "identity",
        numerical_margin: float = 1e-5,
        alpha: float = 0.05,
        certify: str = "all",
        base_scores: bool = False,
        pass_budget: int | None = None,
        time_budget: float | None = None,
        score_threshold: float | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        meta_fields_to_embed: Sequence[str] | None = None,
        embedding_separator: str = "\n",
        device: ComponentDevice | str | None = None,
        token: Secret | None = HF_TOKEN,
        tokens_a_batch: int = 2048,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Creates the component; models load at warm-up.

        :param model: a Hugging Face cross-encoder or monoT5-style model, by folder or id, or a
            folder written by `robust-components train ranker`; the embedded ranker when `None`.
            Models that never saw masked text rank badly on it: fine-tune them with that command.
        :param ranker: instead of `model`, a Haystack ranker that scores each document by itself.
            Rankers that look at several documents, at metadata or at the place in the list are
            refused: nothing they do could be certified.
        :param mechanism: `"balanced_mask"`, `"hash_buckets"` or `"random_mask"`, or a mechanism
            itself, without `mechanism_kwargs`.
        :param mechanism_kwargs: its settings, such as `{"blocks": 20}`, `{"buckets": 5}` or
            `{"mask_rate": 0.8, "samples": 2000}`.
        :param top_k: K, the number of documents returned and certified, at least 1.
        :param words: edited words a document that certificates must withstand, at least 1.
        :param operations: `"substitute"` or `"any"`; what the mechanism covers when `None`.
        :param statement: `"observed"` (documents may already be edited) or `"pre_attack"` (they are
            clean, edits come later).
        :param scope: which documents are edited, for `"pre_attack"`: `"promotion"` (those outside
            the top K), `"demotion"` (those in it) or `"any"`, the default.
        :param aggregation: `"mean"`, or `"quantile"` of the copies' raw logits.
        :param quantile: which quantile, in (0, 1).
        :param coverage: words of the query as a share of the score, as the core's `TermCoverage`
            or its settings, such as `{"share": "0.3"}`; `"model"` for what the model was trained
            beside (the embedded ranker was), `None` for none. Not for `"random_mask"` or quantiles,
            with which `"model"` gives none.
        :param score_map: from the model's raw scores to [0, 1]: `"identity"` takes probabilities,
            `"sigmoid"` and `"sigmoid/4"` take logits. Maps relative to the list are refused.
        :param numerical_margin: most by which two scores of the same text may differ.
        :param alpha: 1 - confidence of certificates with `"random_mask"`.
        :param certify: `"all"`, `"boundary"` (the top K and the K documents below) or `"none"`
            (only the certificate of the list).
        :param base_scores: also score the unmasked documents, one more model pass each.
        :param pass_budget: most model passes a query with `"random_mask"`.
        :param time_budget: most seconds a query with `"random_mask"`.
        :param score_threshold: documents with a lower score are left out after certification.
        :param query_prefix: put before the query.
        :param document_prefix: put before every masked copy; an attacker does not own it.
        :param meta_fields_to_embed: metadata put before the content. It is then part of the text:
            its words are masked and counted, and the attacker is taken to own them.
        :param embedding_separator: between metadata and content. With `operations="any"` it must
            begin and end with white space: a word that is part metadata and part content would let
            one deleted word count as three.
        :param device: where a Hugging Face model runs; the best available when `None`.
        :param token: for private Hugging Face models.
        :param tokens_a_batch: most tokens the model reads at once, padding included.
        :param model_kwargs: for the Hugging Face model's `from_pretrained`.
        :param tokenizer_kwargs: for the tokenizer's `from_pretrained`.
        :raises ValueError: a value is outside its range, or the ranker is not point-wise.
        :raises TypeError: a value is of the wrong type.
        """
        if model is not None and ranker is not None:
            raise ValueError("model and ranker cannot both be given; leave one out")
        with warnings_at(stacklevel=3):  # past Haystack's metaclass, at the caller's line
            name, options = name_and_settings(mechanism, mechanism_kwargs)
            chosen = mechanism_named(name, options)
            threat = WordEdits(words, chosen.operations if operations is None else operations)
            self._core = CoreRanker(
                None,
                chosen,
                top_k=top_k,
                threat=threat,
                statement=statement,
                scope=scope,
                aggregation=aggregation,
                quantile=quantile,
                coverage=coverage,
                score_map=score_map,
                numerical_margin=numerical_margin,
                alpha=alpha,
                certify=certify,
                base_scores=base_scores,
                pass_budget=pass_budget,
                time_budget=time_budget,
            )
        check_embedding(meta_fields_to_embed, embedding_separator, threat.operations)
        self._scorer = None if ranker is None else RankerScorer(ranker)
        self.model = model
        self.ranker: Any = ranker
        self.mechanism = name
        self.mechanism_kwargs = options
        self.top_k = int(top_k)
        self.words = int(words)
        self.operations = operations
        self.statement = statement
        self.scope = scope
        self.aggregation = aggregation
        self.quantile = float(quantile)
        if isinstance(coverage, TermCoverage):
            coverage = coverage.to_dict()
        self.coverage = dict(coverage) if isinstance(coverage, Mapping) else coverage
        self.score_map = score_map
        self.numerical_margin = float(numerical_margin)
        self.alpha = float(alpha)
        self.certify = certify
        self.base_scores = bool(base_scores)
        self.pass_budget = None if pass_budget is None else int(pass_budget)
        self.time_budget = None if time_budget is None else float(time_budget)
        self.score_threshold = checked_threshold(score_threshold)
        self.query_prefix = query_prefix
        self.document_prefix = document_prefix
        self.meta_fields_to_embed = [str(field) for field in meta_fields_to_embed or []]
        self.embedding_separator = embedding_separator
        self.device = ComponentDevice.from_str(device) if isinstance(device, str) else device
        self.token = token
        self.tokens_a_batch = int(tokens_a_batch)
        self.model_kwargs = None if model_kwargs is None else dict(model_kwargs)
        self.tokenizer_kwargs = None if tokenizer_kwargs is None else dict(tokenizer_kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component, nested ranker included."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        parameters = {name: getattr(self, name) for name in names}
        if self.ranker is not None:
            parameters["ranker"] = component_to_dict(self.ranker, "ranker")
        return default_to_dict(self, **parameters)

    def warm_up(self) -> None:
        """Warms up the inner ranker, or loads the model."""
        if hasattr(self.ranker, "warm_up"):
            self.ranker.warm_up()
        self._load()

    async def warm_up_async(self) -> None:
        """Warms up the inner ranker on the serving event loop; a model loads in a thread."""
        await warm_up_async(self.ranker)
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        if self._core.model is not None:
            return
        scorer: Any = self._scorer
        if scorer is None:
            scorer = load_pair_scorer(
                self.model,
                logits=takes_logits(self.score_map, self.aggregation),
                device=ComponentDevice.resolve_device(self.device).to_torch_str(),
                tokens_a_batch=self.tokens_a_batch,
                token=None if self.token is None else self.token.resolve_value(),
                model_kwargs=self.model_kwargs,
                tokenizer_kwargs=self.tokenizer_kwargs,
            )
        if self.query_prefix or self.document_prefix:
            scorer = PrefixedScorer(scorer, self.query_prefix, self.document_prefix)
        self._core.model = scorer

    def close(self) -> None:
        """Releases the inner ranker's resources."""
        if hasattr(self.ranker, "close"):
            self.ranker.close()

    async def close_async(self) -> None:
        """Releases the inner ranker's resources on the serving event loop."""
        await close_async(self.ranker)

    @component.output_types(documents=list[Document], certificate=dict[str, Any])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """
        Ranks the documents, with certificates.

        :param query: trusted.
        :param documents: candidates, best first; their order decides between equal scores. A
            document given twice, with the same id and text, is ranked once and logged. Ids are
            taken to be out of the attacker's hands: give documents of several stores ids that are
            not made from their content.
        :param top_k: overrides the instance's. With fewer documents all are returned.
        :param score_threshold: overrides the instance's; inclusive. It filters what is returned,
            after certification: the certificates are about the top K before it.
        :returns:
            - `documents`: copies of the top K, best first, with the smoothed score as `score`. In
              `meta["robust_ranking"]`: `rank`, `previous_score`, `base_score`, `certified_radius`,
              `pre_attack_radius`, `best_rank`, `truncated` and `times_given`; in
              `meta["certificate"]` the document's certificate.
            - `certificate`: of the top-K set, for `Certificate.from_dict`.
        :raises ValueError: the query is empty, `top_k` is below 1, or the model gave no usable
            score.
        """
        self.warm_up()
        return self._rank(query, documents, top_k, score_threshold)

    @component.output_types(documents=list[Document], certificate=dict[str, Any])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        await self.warm_up_async()
        return await asyncio.to_thread(self._rank, query, documents, top_k, score_threshold)

    def _rank(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None,
        score_threshold: float | None,
    ) -> dict[str, Any]:
        threshold = checked_threshold(score_threshold)
        return outputs(
            self._core,
            query,
            documents,
            fields=self.meta_fields_to_embed,
            separator=self.embedding_separator,
            top_k=self.top_k if top_k is None else top_k,
            threshold=self.score_threshold if threshold is None else threshold,
        )
