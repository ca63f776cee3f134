"""Settings and input that the LangChain generator refuses, by name."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from pydantic import ValidationError

from langchain_robust import RobustRAGGenerator
from robust_components.models.testing import TableTokenModel

DECODING: dict[str, Any] = {"aggregation": "decoding"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"corruption_size": 0}, "corruption_size must be >= 1, got 0"),
        ({"top_k": 0}, "top_k must be >= 1"),
        ({"aggregation": "keyword", "alpha": 1.5}, "alpha must be in (0, 1], got 1.5"),
        ({"aggregation": "keyword", "beta": 0}, "beta must be"),
        ({"aggregation": "mean"}, "aggregation must be"),
        ({"on_uncertified": "shrug"}, "on_uncertified must be"),
        ({**DECODING, "gamma": 0}, "gamma must be in (0, 1], got 0"),
        ({**DECODING, "eta": 1}, "eta must be in [0, 1), got 1"),
        ({**DECODING, "max_tokens": 0}, "max_tokens must be >= 1, got 0"),
        ({**DECODING, "numerical_margin": 0.5}, "numerical_margin must be in [0, 0.1], got 0.5"),
        ({**DECODING, "max_branches": 0}, "max_branches must be >= 1, got 0"),
        ({"output": "xml"}, "'message' or 'dict'"),
        ({"timeout": -1}, "timeout must be > 0"),
        ({"retries": -1}, "retries must be >= 0"),
        ({"max_concurrency": 0}, "max_concurrency must be >= 1"),
        ({"choices": ["yes"]}, "choices must be at least 2"),
        ({"source_key": "host:"}, "source_key must name"),
        ({"source_key": ()}, "source_key must name"),
        ({"llm": 3}, "llm: "),
        ({"corruption_sizes": 1}, "corruption_sizes"),
    ],
)
def test_bad_settings_are_refused_by_name(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RobustRAGGenerator(**setting)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("text", TypeError, "must be a dict with 'question' and 'context'"),
        ({"question": "q"}, ValueError, "'context'"),
        ({"question": " ", "context": []}, ValueError, "query must not be empty"),
        ({"question": 3, "context": []}, TypeError, "query must be text"),
        ({"question": "q", "context": "text"}, TypeError, "put it in a list"),
        ({"question": "q", "context": Document("text")}, TypeError, "put it in a list"),
        ({"question": "q", "context": [(Document("t"), 0.5)]}, TypeError, "without scores"),
        ({"question": "q", "context": None}, TypeError, "got NoneType"),
    ],
)
async def test_bad_input_is_refused(
    paris: Any, given: Any, error: type[Exception], words: str
) -> None:
    generator = RobustRAGGenerator(llm=paris)
    with pytest.raises(error) as caught:
        generator.invoke(given)
    assert words in str(caught.value)
    with pytest.raises(error):
        await generator.ainvoke(given)
    assert paris.prompts == []


def test_models_that_do_not_suit_the_aggregation_are_refused(paris: Any) -> None:
    with pytest.raises(ValidationError, match=r"llm: .*next-token probabilities.*TableChatModel"):
        RobustRAGGenerator(llm=paris, aggregation="decoding")
    with pytest.raises(ValidationError, match=r"llm: .*read\(\) and combine\(\)"):
        RobustRAGGenerator(llm=TableTokenModel({}))
