"""CluCertClassifier: certified text classification."""

from robust_components.classification.classifier import CluCertClassifier
from robust_components.classification.refine import KeepImportant, RefineCopies, RefineText
from robust_components.classification.result import Classification

__all__ = [
    "Classification",
    "CluCertClassifier",
    "KeepImportant",
    "RefineCopies",
    "RefineText",
]
