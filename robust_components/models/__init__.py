"""Models: protocols, adapters, test doubles, and the embedded models."""

from robust_components.models.embedded import load_reader

__all__ = ["load_reader"]
