"""NeuronRepairedRanker as a LangChain document compressor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from langchain_core.documents import Document
from pydantic import Field, PrivateAttr, SkipValidation, model_validator

from langchain_robust.document_ranker import DocumentRanker, texts_of
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair.result import RepairedRanking
from robust_components.repair.settings import check_source, repaired_ranker


class NeuronRepairedRanker(DocumentRanker):
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
    device: str = "cpu"
    tokens_a_batch: int = Field(default=2048, ge=1)
    model_kwargs: dict[str, Any] | None = None

    _made: tuple[dict[str, Any], Any] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_source(self.patch, self.probes, self.repair_kwargs)
        return self

    def rank(
        self, query: str, documents: Sequence[Document | str], top_n: int | None = None
    ) -> RepairedRanking:
        """The core's ranking, with the empirical certificate."""
        ranking: RepairedRanking = self._core().rank(
            query, texts_of(documents), self.top_n if top_n is None else top_n
        )
        return ranking

    def _of_list(self, ranking: RepairedRanking) -> dict[str, Any]:
        return {"measured": ranking.certificate.claim}

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
