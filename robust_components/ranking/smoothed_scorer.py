"""The smoothed score as a scorer: what an attacker of a SmoothedRanker gets to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robust_components.models.protocols import PairScorer
from robust_components.ranking.fixed_bounds import UNIT, quantise
from robust_components.ranking.scoring import Scoring
from robust_components.ranking.settings import check_coverage, coverage_in_use
from robust_components.smoothing import BalancedMask, FixedMechanism, TermCoverage, split_words


class SmoothedScorer:
    """Scores a document as SmoothedRanker ranks it: by masked copies and, if asked, term coverage.

    It gives the score alone, without bounds or certificates: a victim for attacks, or a scorer for
    other components.

    Args:
        model: any point-wise scorer.
        mechanism: how masked copies are made.
        coverage, score_map: see :class:`~robust_components.ranking.SmoothedRanker`.
    """

    def __init__(
        self,
        model: PairScorer,
        mechanism: FixedMechanism | None = None,
        *,
        coverage: TermCoverage | Mapping[str, Any] | str | None = "model",
        score_map: str = "identity",
    ) -> None:
        self.mechanism = BalancedMask() if mechanism is None else mechanism
        self.name = f"{getattr(model, 'name', type(model).__name__)}, smoothed"
        self.fingerprint = str(getattr(model, "fingerprint", "unknown"))
        wanted = check_coverage(coverage, self.mechanism, "mean")
        self._coverage = coverage_in_use(wanted, model, self.mechanism)
        self._scoring = Scoring(model, score_map, bounded=True)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Smoothed scores in [0, 1], one a document, in order.

        Raises:
            ValueError: the model returned something that is no score in [0, 1].
        """
        if not documents:
            return []
        words = [split_words(document) for document in documents]
        copies = [self.mechanism.copies(one) for one in words]
        texts = [copy.text for made in copies for copy in made]
        values = quantise(self._scoring.score(query, texts)).reshape(len(documents), -1)
        totals, scale = values.sum(axis=1), UNIT * values.shape[1]
        if self._coverage is not None:
            terms = self._coverage.of(query, words)
            totals = terms.mixed(totals, terms.score(), values.shape[1])
            scale *= terms.share.denominator
        return [int(total) / scale for total in totals]
