"""Models: protocols, adapters, test doubles, and the embedded models."""

from robust_components.models.embedded import load_ranker, load_reader

__all__ = ["load_ranker", "load_reader"]
