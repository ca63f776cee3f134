"""YAML round trips, without any allowlist flag."""

from __future__ import annotations

import inspect
from decimal import Decimal
from fractions import Fraction

import pytest

pytest.importorskip("haystack")

import numpy as np
from haystack import Pipeline
from haystack.components.generators.chat import FallbackChatGenerator, MockChatGenerator
from haystack.components.generators.utils import print_streaming_chunk

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator


def keywords(text: str) -> list[str]:
    """A keyword extractor of the user's own."""
    return text.split()


COMMON = {
    "corruption_size": 2,
    "top_k": 10,
    "on_uncertified": "abstain",
    "abstention": "No answer.",
    "source_key": ["source_id", "host:url"],
    "max_concurrency": 3,
    "timeout": 5.0,
    "retries": 0,
    "retry_delay": 0.25,
    "streaming_callback": print_streaming_chunk,
}
PROMPTS = {
    "memo": True,
    "isolated_prompt": "{passage} {query}",
    "keyword_prompt": "{keywords} {query}",
}
CHANGED = {
    "voting": {**COMMON, **PROMPTS, "choices": ["yes", "no"]},
    "keyword": {
        **COMMON,
        **PROMPTS,
        "alpha": 0.4,
        "beta": 2.0,
        "keyword_extractor": print_streaming_chunk,
        "long_form": True,
        "max_optional_keywords": 5,
        "max_final_calls": 32,
    },
    "decoding": {
        **COMMON,
        "gamma": 0.5,
        "eta": "0.125",
        "max_tokens": 16,
        "numerical_margin": 0.001,
        "max_branches": 8,
    },
}
TOKEN_MODEL = {
    "token_model": "models/tiny",
    "token_model_kwargs": {
        "device": "cpu",
        "dtype": "bfloat16",
        "max_passage_tokens": 64,
        "template": {"abstention": "No idea", "examples": []},
    },
}


def round_trip(component):
    pipeline = Pipeline()
    pipeline.add_component("rag", component)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.to_dict()["components"] == pipeline.to_dict()["components"]
    return loaded.get_component("rag")


def test_with_the_embedded_reader():
    restored = round_trip(RobustRAGGenerator())
    assert isinstance(restored, RobustRAGGenerator)
    assert restored.chat_generator is None


@pytest.mark.parametrize("aggregation", CHANGED)
def test_every_parameter_is_kept(aggregation):
    changed = {"aggregation": aggregation, **CHANGED[aggregation]}
    inner = None if aggregation == "decoding" else MockChatGenerator("Paris")
    component = RobustRAGGenerator(inner, **changed)
    restored = round_trip(component)
    assert {name: getattr(restored, name) for name in changed} == changed
    names = set(inspect.signature(RobustRAGGenerator.__init__).parameters) - {"self"}
    assert set(component.to_dict()["init_parameters"]) == names
    every = {name for changes in CHANGED.values() for name in changes}
    assert names == {*every, *TOKEN_MODEL, "aggregation", "chat_generator"}


def test_an_extractor_of_ones_own_is_kept_by_name():
    component = RobustRAGGenerator(aggregation="keyword", keyword_extractor=keywords)
    stored = component.to_dict()
    assert stored["init_parameters"]["keyword_extractor"].endswith("test_serialisation.keywords")


def test_a_token_model_is_kept_by_name():
    restored = round_trip(RobustRAGGenerator(aggregation="decoding", **TOKEN_MODEL))
    assert {name: getattr(restored, name) for name in TOKEN_MODEL} == TOKEN_MODEL
    assert restored.chat_generator is None


@pytest.mark.parametrize(
    "inner",
    [MockChatGenerator("Paris"), FallbackChatGenerator([MockChatGenerator("Paris")])],
    ids=lambda inner: type(inner).__name__,
)
def test_with_a_nested_chat_generator(inner, documents):
    restored = round_trip(RobustRAGGenerator(inner))
    assert type(restored.chat_generator) is type(inner)
    result = restored.run(query="What is the capital of France?", documents=documents)
    assert result["answers"][0].data == "Paris"


def test_numpy_values_become_plain():
    common = {
        "corruption_size": np.int64(2),
        "top_k": np.int32(10),
        "max_concurrency": np.int64(8),
        "timeout": np.float64(60),
        "retries": np.int64(1),
        "retry_delay": np.float32(0.5),
    }
    keyword = {
        "alpha": np.float64(0.4),
        "beta": np.float32(3),
        "max_optional_keywords": np.int64(12),
        "max_final_calls": np.int64(256),
    }
    decoding = {
        "gamma": np.float64(0.5),
        "eta": np.int64(0),
        "max_tokens": np.int64(16),
        "numerical_margin": np.float32(0.001),
        "max_branches": np.int64(8),
    }
    for component in (
        RobustRAGGenerator(choices=np.array(["yes", "no"]), **common),
        RobustRAGGenerator(aggregation="keyword", **common, **keyword),
        RobustRAGGenerator(aggregation="decoding", **common, **decoding),
    ):
        values = component.to_dict()["init_parameters"].values()
        assert {type(value).__module__ for value in values} == {"builtins"}
        round_trip(component)


@pytest.mark.parametrize("alpha", ["0.3", Decimal("0.3"), np.float32(0.3), Fraction(3, 10), 0.3])
def test_thresholds_stay_exact(generator, alpha, documents):
    pytest.importorskip("spacy")
    component = RobustRAGGenerator(generator, "keyword", alpha=alpha, beta="3")
    parameters = component.to_dict()["init_parameters"]
    restored = RobustRAGGenerator(generator, "keyword", alpha=parameters["alpha"], beta="3")
    for each in (component, restored):
        certificate = each.run(query="What is the capital?", documents=documents)["certificate"]
        assert certificate["parameters"]["alpha"] == "3/10"
