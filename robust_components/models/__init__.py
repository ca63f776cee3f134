"""Models: protocols, adapters, test doubles, and the embedded models."""

from robust_components.models.classifier_models import load_classifier
from robust_components.models.embedded import load_ranker, load_reader
from robust_components.models.pair_models import load_pair_scorer
from robust_components.models.sentence_encoder import load_encoder
from robust_components.models.token_models import load_token_model

__all__ = [
    "load_classifier",
    "load_encoder",
    "load_pair_scorer",
    "load_ranker",
    "load_reader",
    "load_token_model",
]
