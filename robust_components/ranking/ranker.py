"""SmoothedRanker: ranks by a score that few edited words cannot move far, and says how far."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robust_components.certificate import text_hash
from robust_components.checks import (
    check_alpha,
    check_choice,
    check_margin,
    check_number,
    exact_decimal,
    positive_integer,
)
from robust_components.models.protocols import PairScorer
from robust_components.ranking import settings
from robust_components.ranking.analysis import Analysis, FixedAnalysis
from robust_components.ranking.certificates import (
    Context,
    DocumentCertificates,
    set_certificate,
)
from robust_components.ranking.fixed_bounds import CopyScores, quantise
from robust_components.ranking.result import RankedDocument, Ranking
from robust_components.ranking.robustmask import PublishedAnalysis, apply_rule, estimated_betas
from robust_components.ranking.sampling import Plan, Question, Sampler
from robust_components.ranking.scoring import Scoring, check_pointwise, check_score_map
from robust_components.smoothing import (
    BalancedMask,
    FixedMechanism,
    RandomMask,
    as_mechanism,
    split_words,
)
from robust_components.smoothing.mechanism import MaskedCopy
from robust_components.smoothing.term_coverage import TermCoverage
from robust_components.threats import WordEdits

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SmoothedRanker:
    """Ranks documents by scores of masked copies, with certificates for word edits.

    The score is the mean (or a quantile) over the copies or, beside a mean over fixed copies, in
    part the share of the query's words that the document has (``coverage``).

    Guarantee: with a fixed mechanism (:class:`BalancedMask`, :class:`HashBuckets`) the certificate
    is deterministic and belongs to the very ranking that is returned: within the certified radius,
    in edited words *a document* and in any number of documents of the scope, no edit changes which
    documents are in the top K. With :class:`RandomMask` it holds with confidence 1 - alpha, for the
    mean over all masks. Where it cannot be shown the radius is 0 and the certificate says why.
    The claim is about rank stability; it does not say that the top K are relevant.

    Sources: RobustMask (arXiv 2512.23307) for the idea; (de)randomized smoothing (Levine & Feizi
    2020) for fixed masks; the published RobustMask rule is ``method="robustmask"``, and heuristic.

    Args:
        model: any :class:`~robust_components.models.protocols.PairScorer`; folder or hub id of a
            cross-encoder or monoT5-style model; the embedded ranker when ``None``.
        mechanism: how masked copies are made, or the name of a mechanism with default settings.
        top_k: K, at least 1.
        threat: kind and budget of the edits; one edited word of the mechanism's kind by default.
            Radii beyond the budget are reported too.
        statement: ``"observed"`` (the list at hand may have been edited already) or
            ``"pre_attack"`` (it is clean, edits come later).
        scope: which documents are edited, see :mod:`robust_components.ranking.top_k`; an observed
            statement needs ``"any"``, the default (``"promotion"`` with ``method="robustmask"``).
        aggregation: ``"mean"``, or ``"quantile"`` for logits without bounds.
        quantile: which quantile, in (0, 1).
        coverage: words of the query as a share of the score beside the mean over masked copies: a
            :class:`TermCoverage` or its settings; ``"model"`` for what the model was trained
            beside, if anything (its attribute ``coverage``; the embedded ranker has one); ``None``
            for none. For fixed mechanisms and means: ``"model"`` gives none with others, with which
            a ranker trained beside coverage ranks worse.
        score_map: ``"identity"``, ``"sigmoid"`` or ``"sigmoid/4"``, applied to every score.
        numerical_margin: most by which two scores of the same text may differ (after the score
            map), for batching and hardware round differently; in [0, 0.5).
        alpha: 1 - confidence of sampled certificates, at least 1e-15.
        certify: ``"all"``, ``"boundary"`` (certificates for the top K and the K documents below) or
            ``"none"`` (only the certificate of the set).
        base_scores: also score the unmasked documents; one more pass a document.
        method: ``"smoothing"``, or ``"robustmask"``: a heuristic certificate of the set, radius 0
            and no certificate for single documents.
        bound: ``"betting"``, or ``"clopper_pearson"`` for scores that are 0 or 1 (not adaptive).
        adaptive: sample where the decision is open; otherwise every document gets all samples.
        pass_budget: most model passes a query when sampling; what is certified until then is
            returned.
        time_budget: the same in seconds, looked at between calls of the model.

    Raises:
        ValueError, TypeError: an argument is outside its range.
    """

    def __init__(
        self,
        model: PairScorer | str | Path | None = None,
        mechanism: FixedMechanism | RandomMask | str | None = None,
        *,
        top_k: int = 10,
        threat: WordEdits | None = None,
        statement: str = "observed",
        scope: str | None = None,
        aggregation: str = "mean",
        quantile: float = 0.5,
        coverage: TermCoverage | Mapping[str, Any] | str | None = "model",
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
        self.mechanism = BalancedMask() if mechanism is None else as_mechanism(mechanism)
        for name, value in (
            ("statement", statement),
            ("aggregation", aggregation),
            ("certify", certify),
            ("method", method),
            ("bound", bound),
        ):
            check_choice(name, value, settings.CHOICES[name])
        settings.check_mechanism(
            self.mechanism,
            aggregation=aggregation,
            method=method,
            bound=bound,
            pass_budget=pass_budget,
            time_budget=time_budget,
        )
        self.threat = settings.check_threat(threat, self.mechanism.operations)
        self.scope = settings.check_scope(scope, statement, method)
        check_score_map(score_map)
        check_number("quantile", quantile, 0.0, 1.0, "0.5 is the median")
        exact = exact_decimal("quantile", quantile, "in (0, 1)")
        self.alpha = check_alpha(alpha)
        if isinstance(model, str | Path):
            from robust_components.models import load_pair_scorer

            logits = settings.takes_logits(score_map, aggregation)
            model = load_pair_scorer(model, logits=logits)
        self.model = settings.check_model(model)
        self.top_k = positive_integer("top_k", top_k)
        self.statement = statement
        self.aggregation = aggregation
        self.quantile = exact if aggregation == "quantile" else None
        self.coverage = settings.check_coverage(coverage, self.mechanism, aggregation)
        self.score_map = score_map
        self.numerical_margin = check_margin(numerical_margin)
        self.certify = certify
        self.base_scores = base_scores
        self.method = method
        self.plan = Plan(
            adaptive=adaptive and bound == "betting",
            bound=bound,
            passes=None if pass_budget is None else positive_integer("pass_budget", pass_budget),
            seconds=time_budget
            if time_budget is None
            else check_number("time_budget", time_budget, 0.0, math.inf, "in seconds"),
        )
        settings.check_reach(
            self.mechanism,
            self.threat,
            scope=self.scope,
            quantile=self.quantile,
            alpha=self.alpha,
            method=method,
        )
        self._pointwise = False

    def warm_up(self) -> None:
        """Load the embedded model if no other was given. Called by :meth:`rank`."""
        if self.model is None:
            from robust_components.models import load_pair_scorer

            logits = settings.takes_logits(self.score_map, self.aggregation)
            self.model = load_pair_scorer(logits=logits)

    def rank(self, query: str, documents: Sequence[str], top_k: int | None = None) -> Ranking:
        """Rank ``documents`` for ``query``.

        Args:
            query: trusted.
            documents: texts, in retrieval order, which decides between equal scores. An empty list
                gives an empty ranking, whose certificate guarantees nothing.
            top_k: K of this call; cut to the number of documents.

        Raises:
            ValueError: the query is empty, ``top_k`` is out of range, or the model returned
                something that is no score.
            TypeError: query or a document is not text.
            ListwiseScorerError: the model is not point-wise.
        """
        began = time.monotonic()
        settings.check_texts(query, documents)
        k = min(positive_integer("top_k", self.top_k if top_k is None else top_k), len(documents))
        settings.check_pass_budget(self.plan.passes, len(documents), self.base_scores)
        self.warm_up()
        assert self.model is not None
        bounded = self.aggregation == "mean"
        if not self._pointwise:
            check_pointwise(self.model, query, self.numerical_margin, self.score_map)
            self._pointwise = True
        scoring = Scoring(self.model, self.score_map, bounded=bounded)
        words = [split_words(document) for document in documents]
        cut: set[int] = set()
        base = self._base_scores(scoring, query, documents, cut)
        analysis: Analysis
        extra: dict[str, Any] = {}
        if isinstance(self.mechanism, RandomMask):
            sampler = Sampler(self.mechanism, scoring, query, words, self.plan, began)
            if self.method == "robustmask":
                analysis = self._published(sampler, k)
            else:
                analysis = sampler.run(
                    Question(
                        threat=self.threat,
                        k=k,
                        scope=self.scope,
                        margin=self.numerical_margin,
                        alpha=self.alpha,
                        documents=self.certify != "none",
                    )
                )
            cut |= sampler.cut
            extra = {"samples": sampler.drawn, "stopped": sampler.stopped}
        else:
            analysis = self._score_copies(scoring, query, words, k, cut)
        cost = {
            "model_passes": scoring.passes,
            "seconds": round(time.monotonic() - began, 3),
            **extra,
        }
        return self._ranking(analysis, query, documents, base, cut, cost)

    def _published(self, sampler: Sampler, k: int) -> PublishedAnalysis:
        """The published rule for ranks K and K + 1, with fresh samples for beta."""
        lengths = [len(one) for one in sampler.words]
        analysis = PublishedAnalysis(sampler.means(), lengths, self.threat, k)
        if k < len(lengths):
            last, first = analysis.order[k - 1 : k + 1]
            copies, scores = sampler.fresh(first)
            analysis.rule = apply_rule(
                gap=int(analysis.score[last] - analysis.score[first]),
                words=lengths[first],
                shown=sampler.mechanism.shown(lengths[first]),
                betas=estimated_betas(copies, scores, lengths[first], sampler.generator),
                limit=analysis.limit(),
            )
        return analysis

    def _score_copies(
        self,
        scoring: Scoring,
        query: str,
        words: Sequence[tuple[str, ...]],
        k: int,
        cut: set[int],
    ) -> FixedAnalysis:
        mechanism, coverage = self.mechanism, self._term_coverage()
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
        return FixedAnalysis(
            copies=CopyScores(quantise(values), touchable),
            words=[len(one) for one in words],
            mechanism=mechanism,
            threat=self.threat,
            k=k,
            numerical_margin=self.numerical_margin,
            quantile=self.quantile,
            coverage=None if coverage is None else coverage.of(query, words),
        )

    def _term_coverage(self) -> TermCoverage | None:
        """The coverage in use."""
        return settings.coverage_in_use(self.coverage, self.model, self.mechanism)

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
            numerical_margin=self.numerical_margin,
            alpha=self.alpha,
            model={
                "name": str(getattr(self.model, "name", type(self.model).__name__)),
                "fingerprint": str(getattr(self.model, "fingerprint", "unknown")),
            },
            query=query,
            texts=[text_hash(document) for document in documents],
            cost=cost,
        )
        certified = {"all": len(documents), "boundary": 2 * analysis.k, "none": 0}[self.certify]
        if isinstance(analysis, PublishedAnalysis):
            certified = 0
        each = analysis.each
        radii = each.radii(self.scope)
        clean_radii = radii if self.scope == "promotion" else each.radii("promotion")
        best = each.best_ranks(self.threat.budget, alone=True)
        certificates = DocumentCertificates(each, context, radii)
        items = [
            RankedDocument(
                index=index,
                rank=place + 1,
                score=int(analysis.score[index]) / analysis.scale,
                base_score=None if base is None else base[index],
                radius=int(radii[index]),
                pre_attack_radius=int(clean_radii[index]),
                best_rank=int(best[index]),
                truncated=index in cut,
                certificate=certificates.of(index) if place < certified else None,
            )
            for place, index in enumerate(analysis.order)
        ]
        return Ranking(
            items=tuple(items),
            k=analysis.k,
            certificate=set_certificate(analysis, context),
            passes=int(cost["model_passes"]),
            analysis=analysis,
        )
