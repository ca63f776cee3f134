"""Robust components for retrieval-augmented applications, with certificates that hold."""

from robust_components.certificate import Certificate
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.ranking.ranker import SmoothedRanker

__all__ = ["Certificate", "RobustRAGGenerator", "SmoothedRanker"]
__version__ = "0.1.0"
