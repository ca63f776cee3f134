"""Haystack components that classify texts with a robustness certificate."""

from haystack_integrations.components.classifiers.robust_components.clucert_classifier import (
    CluCertClassifier,
)

__all__ = ["CluCertClassifier"]
