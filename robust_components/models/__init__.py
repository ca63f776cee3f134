"""Models: protocols, adapters, test doubles, and the embedded models."""

from robust_components.models.embedded import load_reader, load_token_model

__all__ = ["load_reader", "load_token_model"]
