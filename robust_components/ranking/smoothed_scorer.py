"""The smoothed score as a scorer: what an attacker of a SmoothedRanker gets to see."""

from __future__ import annotations

from collections.abc import Sequence

from robust_components.models.protocols import PairScorer
from robust_components.ranking.fixed_bounds import UNIT, quantise
from robust_components.ranking.scoring import Scoring
from robust_components.smoothing import BalancedMask, FixedMechanism, split_words


class SmoothedScorer:
    """Scores a document by the mean over its masked copies, as SmoothedRanker ranks it.

    It gives the score alone, without bounds or certificates: a victim for attacks, or a scorer for
    other components.

    Args:
        model: any point-wise scorer.
        mechanism: how masked copies are made.
        score_map: see :class:`~robust_components.ranking.SmoothedRanker`.
    """

    def __init__(
        self,
        model: PairScorer,
        mechanism: FixedMechanism | None = None,
        *,
        score_map: str = "identity",
    ) -> None:
        self.mechanism = BalancedMask() if mechanism is None else mechanism
        self.name = f"{getattr(model, 'name', type(model).__name__)}, smoothed"
        self.fingerprint = str(getattr(model, "fingerprint", "unknown"))
        self._scoring = Scoring(model, score_map, bounded=True)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Smoothed scores in [0, 1], one a document, in order.

        Raises:
            ValueError: the model returned something that is no score in [0, 1].
        """
        if not documents:
            return []
        copies = [self.mechanism.copies(split_words(document)) for document in documents]
        texts = [copy.text for made in copies for copy in made]
        values = quantise(self._scoring.score(query, texts)).reshape(len(documents), -1)
        return [float(total) / (UNIT * values.shape[1]) for total in values.sum(axis=1)]
