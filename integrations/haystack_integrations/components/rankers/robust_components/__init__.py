"""Haystack components that rank documents with a robustness certificate."""

from haystack_integrations.components.rankers.robust_components.neuron_repaired_ranker import (
    NeuronRepairedRanker,
)
from haystack_integrations.components.rankers.robust_components.smoothed_ranker import (
    SmoothedRanker,
)

__all__ = ["NeuronRepairedRanker", "SmoothedRanker"]
