"""NeuronRepairedRanker as a LangChain document compressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation, model_validator

from langchain_robust.ranker import distinct, listed
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair.result import RepairedDocument, RepairedRanking
from robust_components.repair.settings import check_source, repaired_ranker


class NeuronRepairedRanker(BaseDocumentCompressor):
    """Reranks with a cross-encoder in which the neurons that attacks go through were moved back.

    The repair is a small patch file beside the model, made by ``robust-components repair`` or, when
    documents are first ranked, from probes. It proves nothing: :meth:`rank` returns the core's
    ranking with a certificate that is empirical, never certified, and says how many attacks
    succeeded before and after the repair. For a proof use ``SmoothedRanker``, whose ``model`` this
    can be.

    Documents come back as copies, best first, with ``metadata["relevance_score"]`` and, in
    ``metadata["robust_ranking"]``, the former value, rank and the certificate's claim.

    Args:
        model: a Hugging Face cross-encoder or monoT5-style model by folder or id, a folder written
            by ``robust-components train ranker``, or a core ``TransformersPairScorer``; the
            embedded ranker when ``None``.
        patch: file of a repair of that very model; a patch of another one is refused.
        probes: instead of ``patch``, a file of attacked documents (JSON lines, see
            ``robust-components repair --help``) to repair with.
        repair_kwargs: settings of that repair, such as ``neurons``, ``step`` or ``objective``.
        top_n: number of documents returned, at least 1.
        score_threshold: documents with a lower score are left out; inclusive.
        device: where a Hugging Face model runs.
        tokens_a_batch: most tokens it reads at once, padding included.
        model_kwargs: for its ``from_pretrained``.

    Raises:
        ValidationError: a setting is unknown or outside its range, or not one of ``patch`` and
            ``probes`` is given; a ``ValueError``.
    """

    model: SkipValidation[Any] = None
    patch: str | None = None
    probes: str | None = None
    repair_kwargs: dict[str, Any] | None = None
    top_n: int = Field(default=10, ge=1)
    score_threshold: float | None = Field(default=None, allow_inf_nan=False)
    device: str = "cpu"
    tokens_a_batch: int = Field(default=2048, ge=1)
    model_kwargs: dict[str, Any] | None = None

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    _made: tuple[dict[str, Any], Any] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_source(self.patch, self.probes, self.repair_kwargs)
        return self

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The top N at or above the threshold, best first, as copies.

        Raises:
            ValueError: the query is empty, the patch belongs to another model, or the repair was
                rolled back.
            TypeError: ``documents`` is no list of Documents.
        """
        return self.top(query, documents)

    def top(
        self, query: str, documents: Sequence[Document], top_n: int | None = None
    ) -> list[Document]:
        """:meth:`compress_documents` with another N for this call."""
        kept = distinct(listed(documents, Document))
        ranking = self.rank(query, kept, top_n)
        least = self.score_threshold
        return [
            _annotated(kept[item.index], item, ranking)
            for item in ranking.top
            if least is None or item.score >= least
        ]

    def rank(
        self, query: str, documents: Sequence[Document | str], top_n: int | None = None
    ) -> RepairedRanking:
        """The core's ranking, with the empirical certificate."""
        given = listed(documents, Document, str)
        texts = [item if isinstance(item, str) else item.page_content for item in given]
        ranking: RepairedRanking = self._core().rank(
            query, texts, self.top_n if top_n is None else top_n
        )
        return ranking

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """The repaired ranker's scores: a core ``PairScorer``, for a ``SmoothedRanker``."""
        scores: list[float] = self._core().score(query, documents)
        return scores

    def _core(self) -> Any:
        """The core for the current settings, which ``model_copy(update=...)`` may have changed."""
        settings = {n: v for n, v in dict(self).items() if n not in ("top_n", "score_threshold")}
        if self._made is None or self._made[0] != settings:
            scorer = self.model
            if scorer is None or isinstance(scorer, str):
                scorer = load_pair_scorer(
                    scorer,
                    device=self.device,
                    tokens_a_batch=self.tokens_a_batch,
                    model_kwargs=self.model_kwargs,
                )
            core = repaired_ranker(scorer, self.patch, self.probes, self.repair_kwargs, self.top_n)
            self._made = (settings, core)
        return self._made[1]


def _annotated(document: Document, item: RepairedDocument, ranking: RepairedRanking) -> Document:
    details = item.to_dict()
    details["previous_score"] = document.metadata.get("relevance_score")
    details["measured"] = ranking.certificate.claim
    metadata = {
        **document.metadata,
        "relevance_score": item.score,
        "robust_ranking": details,
    }
    return document.model_copy(update={"metadata": metadata})
