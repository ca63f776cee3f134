"""Robust components for retrieval-augmented applications, with certificates that hold."""

from typing import TYPE_CHECKING, Any

from robust_components.certificate import Certificate
from robust_components.classification.classifier import CluCertClassifier
from robust_components.classification.result import Classification
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.ranking.ranker import SmoothedRanker

if TYPE_CHECKING:
    from robust_components.repair import NeuronRepairedRanker

__all__ = [
    "Certificate",
    "Classification",
    "CluCertClassifier",
    "NeuronRepairedRanker",
    "Passage",
    "RobustRAGGenerator",
    "SmoothedRanker",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """NeuronRepairedRanker needs torch, which is loaded when it is asked for."""
    if name == "NeuronRepairedRanker":
        from robust_components.repair import NeuronRepairedRanker

        return NeuronRepairedRanker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
