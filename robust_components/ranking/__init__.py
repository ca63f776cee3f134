"""SmoothedRanker: certified top-K ranking."""

from robust_components.ranking.ranker import SmoothedRanker
from robust_components.ranking.result import RankedDocument, Ranking

__all__ = ["RankedDocument", "Ranking", "SmoothedRanker"]
