"""Values the Haystack component refuses, by name and at construction."""

from __future__ import annotations

import pytest

pytest.importorskip("haystack")

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator

DECODING = {"aggregation": "decoding", "chat_generator": None}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"corruption_size": 0}, ValueError, "corruption_size must be >= 1, got 0"),
        ({"corruption_size": 1.5}, TypeError, "corruption_size must be an integer"),
        ({"top_k": 0}, ValueError, "top_k must be >= 1, got 0"),
        ({"aggregation": "mean"}, ValueError, "aggregation must be"),
        ({"aggregation": "keyword", "alpha": 1.5}, ValueError, "alpha"),
        ({"aggregation": "keyword", "beta": 0}, ValueError, "beta"),
        ({"choices": ["yes"]}, ValueError, "choices must be at least 2"),
        ({**DECODING, "gamma": 0}, ValueError, r"gamma must be in \(0, 1\], got 0"),
        ({**DECODING, "eta": 1}, ValueError, r"eta must be in \[0, 1\), got 1"),
        ({**DECODING, "max_tokens": 0}, ValueError, "max_tokens must be >= 1, got 0"),
        ({**DECODING, "numerical_margin": 0.5}, ValueError, "numerical_margin must be"),
        ({**DECODING, "max_branches": 0}, ValueError, "max_branches must be >= 1"),
        ({"aggregation": "decoding"}, TypeError, "next-token probabilities.*MockChatGenerator"),
        ({"aggregation": "decoding", "token_model": "m"}, ValueError, "exclude each other"),
        ({"token_model_kwargs": {"a": 1}}, ValueError, "needs a token_model"),
        ({"on_uncertified": "shrug"}, ValueError, "on_uncertified must be"),
        ({"source_key": ""}, ValueError, "source_key must name"),
        ({"source_key": "host:"}, ValueError, "source_key must name"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be >= 1"),
        ({"timeout": -1}, ValueError, "timeout must be > 0"),
        ({"retries": -1}, ValueError, "retries must be >= 0"),
        ({"chat_generator": "gpt"}, TypeError, "must be a Haystack ChatGenerator"),
    ],
)
def test_bad_values_surface_at_construction(generator, options, error, message):
    with pytest.raises(error, match=message):
        RobustRAGGenerator(**{"chat_generator": generator, **options})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"token_model": "m"}, ValueError, "serves aggregation='decoding' alone, got 'voting'"),
        ({"token_model": ""}, TypeError, "token_model must be a Hugging Face id or folder"),
        ({"token_model": 3}, TypeError, r"token_model must be .* got 3; pass it as text"),
        ({"token_model": "m", "token_model_kwargs": "cpu"}, TypeError, "must be a dict, got 'cpu'"),
        (
            {"token_model": "m", "token_model_kwargs": {"dtype": object}},
            TypeError,
            "must hold plain values",
        ),
    ],
)
def test_bad_token_models_surface_at_construction(options, error, message):
    aggregation = "voting" if "alone" in message else "decoding"
    with pytest.raises(error, match=message):
        RobustRAGGenerator(aggregation=aggregation, **options)
