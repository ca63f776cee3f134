"""Robust components for retrieval-augmented applications, with certificates that hold."""

from robust_components.certificate import Certificate
from robust_components.classification.classifier import CluCertClassifier
from robust_components.classification.result import Classification
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.ranking.ranker import SmoothedRanker

__all__ = [
    "Certificate",
    "Classification",
    "CluCertClassifier",
    "RobustRAGGenerator",
    "SmoothedRanker",
]
__version__ = "0.1.0"
