"""Haystack components that generate answers with a robustness certificate."""

from haystack_integrations.components.generators.robust_components.robust_rag_generator import (
    RobustRAGGenerator,
)

__all__ = ["RobustRAGGenerator"]
