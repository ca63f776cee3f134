"""SmoothedRanker as a LangChain document compressor: LangChain's types outside, the core inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.documents import Document
from pydantic import PrivateAttr, SkipValidation, model_validator

from langchain_robust.document_ranker import DocumentRanker, texts_of
from langchain_robust.scorers import as_scorer
from robust_components.checks import warnings_at
from robust_components.models.pair_models import load_pair_scorer
from robust_components.models.prefixed import PrefixedScorer
from robust_components.ranking.ranker import SmoothedRanker as CoreRanker
from robust_components.ranking.result import Ranking
from robust_components.ranking.settings import takes_logits
from robust_components.smoothing import FixedMechanism, RandomMask, TermCoverage, as_mechanism
from robust_components.threats import WordEdits


class SmoothedRanker(DocumentRanker):
    """Reranks documents so that a few edited words cannot move one into or out of the top N.

    Every document is scored on masked copies of itself; few edits reach few copies, so the mean
    cannot move far. The score may count the query's words in the document too (``coverage``), which
    few edits cannot move far either. With ``BalancedMask`` (substituted words) and ``HashBuckets``
    (words inserted, deleted, moved or substituted) the certificates are deterministic; with
    ``RandomMask`` they hold with confidence 1 - alpha. They say which documents are in the top N of
    the clean list too, if at most ``radius`` words of each document at hand were edited. They do
    not say that the top N are relevant. Where nothing can be shown, ``certified`` is false and
    ``reason`` says why.

    Documents come back as copies, best first, with ``metadata["relevance_score"]``; the former
    value, details and the radius of the whole top N in ``metadata["robust_ranking"]``; and the
    document's certificate in ``metadata["certificate"]``. ``str(document)`` prints all of it: build
    prompts from ``page_content``. :meth:`rank` returns the core's ranking, with the certificate of
    the top-N set.

    Example:
        .. code-block:: python

            ranker = SmoothedRanker(top_n=3)
            best = ranker.compress_documents(documents, "Who wrote Hamlet?")
            print(best[0].page_content, best[0].metadata["robust_ranking"]["certified_radius"])

    Args:
        model: a Hugging Face cross-encoder or monoT5-style model by folder or id, a folder written
            by ``robust-components train ranker``, a LangChain ``BaseCrossEncoder`` or reranker that
            scores each document by itself, or a core ``PairScorer``; the embedded ranker when
            ``None``. Models that never saw masked text rank badly on it: fine-tune them.
        mechanism: how masked copies are made, or a mechanism's name; ``BalancedMask(10)`` when
            ``None``.
        top_n: number of documents returned and certified, at least 1.
        words: edited words a document that certificates must withstand, at least 1.
        operations: ``"substitute"`` or ``"any"``; what the mechanism covers when ``None``.
        statement: ``"observed"`` (documents may already be edited) or ``"pre_attack"``.
        scope: which documents are edited, for ``"pre_attack"``: ``"promotion"``, ``"demotion"`` or
            ``"any"``.
        aggregation: ``"mean"``, or ``"quantile"`` of the copies' raw logits.
        quantile: which quantile, in (0, 1).
        coverage: words of the query as a share of the score, as a ``TermCoverage`` or its settings;
            ``"model"`` for what the model was trained beside (the embedded ranker was), ``None``
            for none. Not for ``RandomMask`` or quantiles, with which ``"model"`` gives none.
        score_map: from raw scores to [0, 1]: ``"identity"`` takes probabilities, ``"sigmoid"`` and
            ``"sigmoid/4"`` take logits. Maps relative to the list are refused.
        numerical_margin: most by which two scores of the same text may differ.
        alpha: 1 - confidence of certificates with ``RandomMask``.
        certify: ``"all"``, ``"boundary"`` (top N and the N documents below) or ``"none"``.
        base_scores: also score the unmasked documents, one more model pass each.
        pass_budget: most model passes a query with ``RandomMask``.
        time_budget: most seconds a query with ``RandomMask``.
        score_threshold: documents with a lower score are left out after certification; inclusive.
        query_prefix: put before the query.
        document_prefix: put before every masked copy; an attacker does not own it.
        device: where a Hugging Face model runs.
        tokens_a_batch: most tokens such a model reads at once, padding included.
        model_kwargs: for its ``from_pretrained``.

    Raises:
        ValidationError: a setting is unknown or outside its range, or the model is not point-wise;
            a ``ValueError``.
    """

    model: SkipValidation[Any] = None
    mechanism: SkipValidation[FixedMechanism | RandomMask | str | None] = None
    top_n: int = 10
    words: int = 1
    operations: str | None = None
    statement: str = "observed"
    scope: str | None = None
    aggregation: str = "mean"
    quantile: float = 0.5
    coverage: SkipValidation[TermCoverage | dict[str, Any] | str | None] = "model"
    score_map: str = "identity"
    numerical_margin: float = 1e-5
    alpha: float = 0.05
    certify: str = "all"
    base_scores: bool = False
    pass_budget: int | None = None
    time_budget: float | None = None
    query_prefix: str = ""
    document_prefix: str = ""
    device: str = "cpu"
    tokens_a_batch: int = 2048
    model_kwargs: dict[str, Any] | None = None

    _made: tuple[dict[str, Any], CoreRanker] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            with warnings_at(stacklevel=3):  # past pydantic, at the caller's line
                self._core()
        except TypeError as error:
            raise ValueError(str(error)) from error
        return self

    def rank(
        self, query: str, documents: Sequence[Document | str], top_n: int | None = None
    ) -> Ranking:
        """The core's ranking: all documents with their certificates, and that of the top-N set."""
        core = self._core()
        if core.model is None:
            core.model = self._scorer()
        return core.rank(query, texts_of(documents), self.top_n if top_n is None else top_n)

    def _of_list(self, ranking: Ranking) -> dict[str, Any]:
        return {
            "top_n_radius": ranking.radius,
            "top_n_certified": ranking.certificate.certified,
        }

    def _scorer(self) -> Any:
        scorer: Any
        if self.model is None or isinstance(self.model, str):
            scorer = load_pair_scorer(
                self.model,
                logits=takes_logits(self.score_map, self.aggregation),
                device=self.device,
                tokens_a_batch=self.tokens_a_batch,
                model_kwargs=self.model_kwargs,
            )
        else:
            scorer = as_scorer(self.model)
        if self.query_prefix or self.document_prefix:
            return PrefixedScorer(scorer, self.query_prefix, self.document_prefix)
        return scorer

    def _core(self) -> CoreRanker:
        """The core for the current settings, which ``model_copy(update=...)`` may have changed."""
        settings = dict(self)
        if self._made is None or self._made[0] != settings:
            mechanism = as_mechanism("balanced_mask" if self.mechanism is None else self.mechanism)
            covered = mechanism.operations
            core = CoreRanker(
                None,
                mechanism,
                top_k=self.top_n,
                threat=WordEdits(
                    self.words, covered if self.operations is None else self.operations
                ),
                statement=self.statement,
                scope=self.scope,
                aggregation=self.aggregation,
                quantile=self.quantile,
                coverage=self.coverage,
                score_map=self.score_map,
                numerical_margin=self.numerical_margin,
                alpha=self.alpha,
                certify=self.certify,
                base_scores=self.base_scores,
                pass_budget=self.pass_budget,
                time_budget=self.time_budget,
            )
            if self.model is not None and not isinstance(self.model, str):
                core.model = self._scorer()
            self._made = (settings, core)
        return self._made[1]
