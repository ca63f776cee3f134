"""SmoothedRanker: certified top-K ranking."""

from robust_components.ranking.ranker import SmoothedRanker
from robust_components.ranking.result import RankedDocument, Ranking
from robust_components.ranking.smoothed_scorer import SmoothedScorer

__all__ = ["RankedDocument", "Ranking", "SmoothedRanker", "SmoothedScorer"]
