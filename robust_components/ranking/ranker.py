"""SmoothedRanker: ranks by a score that few edited words cannot move far, and says how far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_components.models.protocols import PairScorer
from robust_components.ranking import settings
from robust_components.ranking.analysis import Analysis, FixedAnalysis
from robust_components.ranking.certificates import Context, document_certificate, set_certificate
from robust_components.ranking.fixed_bounds import CopyScores, quantise
from robust_components.ranking.result import RankedDocument, Ranking
from robust_components.ranking.sampling import Plan, Sampler
from robust_components.ranking.scoring import Scoring, check_pointwise, check_score_map
from robust_components.smoothing import BalancedMask, FixedMechanism, RandomMask, split_words
from robust_components.smoothing.mechanism import MaskedCopy
from robust_components.threats import WordEdits

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SmoothedRanker:
    """Ranks documents by the mean score of masked copies, with certificates for word edits.

    Guarantee: with a fixed mechanism (:class:`BalancedMask`, :class:`HashBuckets`) the certificate
    is deterministic and belongs to the very ranking that is returned: within the certified radius,
    in edited words *a document* and in any number of documents of the scope, no edit changes which
    documents are in the top K. With :class:`RandomMask` it holds with confidence 1 - alpha, for the
    mean over all masks. Where it cannot be shown the radius is 0 and the certificate says why.
    The claim is about rank stability; it does not say that the top K are relevant.

    Sources: RobustMask (arXiv 2512.23307) for the idea; (de)randomized smoothing (Levine & Feizi
    2020) for fixed masks; the published RobustMask rule is ``method="robustmask"``, and heuristic.

    Args:
        model: any :class:`~robust_components.models.protocols.PairScorer`; the embedded ranker when
            ``None``.
        mechanism: how masked copies are made.
        top_k: K, at least 1.
        threat: kind and budget of the edits; one edited word of the mechanism's kind by default.
        statement: ``"observed"`` (the list at hand may have been edited already) or
            ``"pre_attack"`` (it is clean, edits come later).
        scope: which documents are edited, see :mod:`robust_components.ranking.top_k`; an observed
            statement needs ``"any"``, the default.
        aggregation: ``"mean"``, or ``"quantile"`` for logits without bounds.
        quantile: which quantile, in (0, 1).
        score_map: ``"identity"``, ``"sigmoid"`` or ``"sigmoid/4"``, applied to every score.
        numerical_margin: largest numerical error of one score.
        alpha: 1 - confidence of sampled certificates.
        certify: ``"all"``, ``"boundary"`` (certificates for the top K and the K documents below) or
            ``"none"`` (only the certificate of the set).
        base_scores: also score the unmasked documents; one more pass a document.
        method: ``"smoothing"`` or ``"robustmask"``.
        bound: ``"betting"``, or ``"clopper_pearson"`` for scores that are 0 or 1.
        adaptive: sample where the decision is open; otherwise every document gets all samples.
        pass_budget: most model passes a query when sampling.
        time_budget: most seconds a query when sampling; what is certified until then is returned.

    Raises:
        ValueError, TypeError: an argument is outside its range.
    """

    def __init__(
        self,
        model: PairScorer | None = None,
        mechanism: FixedMechanism | RandomMask | None = None,
        *,
        top_k: int = 10,
        threat: WordEdits | None = None,
        statement: str = "observed",
        scope: str | None = None,
        aggregation: str = "mean",
        quantile: float = 0.5,
        score_map: str = "identity",
        numerical_margin: float = 1e-5,
        alpha: float = 0.05,
        certify: str = "all",
        base_scores: bool = True,
        method: str = "smoothing",
        bound: str = "betting",
        adaptive: bool = True,
        pass_budget: int | None = None,
        time_budget: float | None = None,
    ) -> None:
        self.mechanism = BalancedMask() if mechanism is None else mechanism
        self.threat = threat or WordEdits(1, self.mechanism.operations)
        settings.check_choice("statement", statement)
        settings.check_choice("aggregation", aggregation)
        settings.check_choice("certify", certify)
        settings.check_choice("method", method)
        settings.check_choice("bound", bound)
        settings.check_mechanism(self.mechanism, aggregation, method)
        self.scope = settings.check_scope(scope, statement)
        check_score_map(score_map)
        settings.check_numbers(top_k, quantile, numerical_margin, alpha, pass_budget, time_budget)
        settings.check_reach(self.mechanism, self.threat, alpha)
        self.model = model
        self.top_k = top_k
        self.statement = statement
        self.aggregation = aggregation
        self.quantile = float(quantile)
        self.score_map = score_map
        self.numerical_margin = float(numerical_margin)
        self.alpha = float(alpha)
        self.certify = certify
        self.base_scores = base_scores
        self.method = method
        self.plan = Plan(
            adaptive=adaptive and bound == "betting",
            bound=bound,
            passes=pass_budget,
            seconds=time_budget,
        )
        self._pointwise = False

    def warm_up(self) -> None:
        """Load the embedded model if no other was given. Called by :meth:`rank`."""
        if self.model is None:
            from robust_components.models import load_ranker

            self.model = load_ranker()

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> Ranking:
        """Rank ``documents`` for ``query``.

        Args:
            query: trusted.
            documents: texts, in retrieval order, which decides between equal scores.
            top_k: K of this call; cut to the number of documents.

        Raises:
            ValueError: the query is empty, ``top_k`` is out of range, or the model returned
                something that is no score.
            TypeError: query or a document is not text.
            ListwiseScorerError: the model is not point-wise.
        """
        began = time.monotonic()
        settings.check_texts(query, documents)
        k = settings.check_top_k(self.top_k if top_k is None else top_k, len(documents))
        self.warm_up()
        assert self.model is not None
        if not self._pointwise:
            check_pointwise(self.model, query, self._raw_margin())
            self._pointwise = True
        scoring = Scoring(self.model, self.score_map, bounded=self.aggregation == "mean")
        words = [split_words(document) for document in documents]
        cut: set[int] = set()
        analysis: Analysis
        extra: dict[str, Any] = {}
        if isinstance(self.mechanism, RandomMask):
            sampler = Sampler(self.mechanism, scoring, query, words, self.plan)
            analysis = sampler.run(
                self.threat, k, self.scope, self.numerical_margin, self.alpha, began
            )
            cut = sampler.cut
            extra = {"samples": sampler.drawn, "stopped": sampler.stopped}
        else:
            analysis = self._score_copies(scoring, query, words, k, cut)
        base = self._base_scores(scoring, query, documents, cut)
        cost = {
            "model_passes": scoring.passes,
            "seconds": round(time.monotonic() - began, 3),
            **extra,
        }
        return self._ranking(analysis, query, documents, base, cut, cost)

    def _raw_margin(self) -> float:
        return self.numerical_margin if self.score_map == "identity" else 1e-2

    def _score_copies(
        self,
        scoring: Scoring,
        query: str,
        words: Sequence[tuple[str, ...]],
        k: int,
        cut: set[int],
    ) -> FixedAnalysis:
        mechanism = self.mechanism
        assert not isinstance(mechanism, RandomMask)
        seen: dict[tuple[str, ...], list[MaskedCopy]] = {}
        for one in words:
            if one not in seen:
                seen[one] = mechanism.copies(one)
        texts = [copy.text for one in words for copy in seen[one]]
        shape = (len(words), mechanism.partitions, mechanism.blocks)
        values = scoring.score(query, texts).reshape(shape)
        touchable: NDArray[np.bool_] = np.array(
            [copy.touchable for one in words for copy in seen[one]], dtype=bool
        ).reshape(shape)
        each = mechanism.blocks * mechanism.partitions
        cut.update(i for i in range(len(words)) if scoring.cut(texts[i * each : (i + 1) * each]))
        mean = self.aggregation == "mean"
        return FixedAnalysis(
            copies=CopyScores(quantise(values), touchable),
            mechanism=mechanism,
            threat=self.threat,
            k=k,
            numerical_margin=self.numerical_margin,
            quantile=None if mean else self.quantile,
        )

    def _base_scores(
        self, scoring: Scoring, query: str, documents: Sequence[str], cut: set[int]
    ) -> list[float] | None:
        if not self.base_scores:
            return None
        scores = [float(score) for score in scoring.score(query, documents)]
        cut.update(i for i, document in enumerate(documents) if scoring.cut([document]))
        return scores

    def _ranking(
        self,
        analysis: Analysis,
        query: str,
        documents: Sequence[str],
        base: list[float] | None,
        cut: set[int],
        cost: dict[str, Any],
    ) -> Ranking:
        context = Context(
            threat=self.threat,
            statement=self.statement,
            scope=self.scope,
            mechanism=self.mechanism.to_dict(),
            score_map=self.score_map,
            model={
                "name": str(getattr(self.model, "name", type(self.model).__name__)),
                "fingerprint": str(getattr(self.model, "fingerprint", "unknown")),
            },
            alpha=self.alpha,
            query=query,
            cost=cost,
        )
        certified = {"all": len(documents), "boundary": 2 * analysis.k, "none": 0}[self.certify]
        each = analysis.each
        items = []
        for place, index in enumerate(analysis.order):
            items.append(
                RankedDocument(
                    index=index,
                    rank=place + 1,
                    score=float(analysis.score[index]) / analysis.scale,
                    base_score=None if base is None else base[index],
                    radius=each.document_radius(index, self.scope),
                    pre_attack_radius=each.document_radius(index, "promotion"),
                    best_rank=each.best_rank(index, self.threat.budget, alone=True),
                    truncated=index in cut,
                    certificate=None
                    if place >= certified
                    else document_certificate(each, context, index, documents[index]),
                )
            )
        return Ranking(
            items=tuple(items),
            k=analysis.k,
            certificate=set_certificate(analysis, context, documents),
            passes=int(cost["model_passes"]),
            analysis=analysis,
        )
