"""Hugging Face models for decoding in the LangChain generator, by name and as objects."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.load import dumps
from pydantic import ValidationError

from langchain_robust import RobustRAGGenerator
from robust_components import Certificate
from robust_components.models import load_token_model, token_models

GIVEN = {
    "question": "What is the colour of the lamp?",
    "context": ["The lamp is red.", "Red is its colour.", "The bridge is green."],
}
SETTINGS: dict[str, Any] = {"aggregation": "decoding", "gamma": 1, "max_tokens": 4}
PLAIN = {"dtype": "float32", "max_passage_tokens": 32}


@pytest.fixture(scope="module")
def folder(tiny_models: Any, tmp_path_factory: Any) -> str:
    return str(tiny_models.saved(tmp_path_factory.mktemp("tiny"), chat=True))


def comparable(message: Any) -> dict[str, Any]:
    data = dict(message.response_metadata["certificate"])
    assert Certificate.from_dict(data).verify()
    return {name: value for name, value in data.items() if name not in ("cost", "digest")}


async def test_by_name_and_as_an_object(folder: str) -> None:
    named = RobustRAGGenerator(token_model=folder, token_model_kwargs=PLAIN, **SETTINGS)
    model = load_token_model(folder, max_answer_tokens=SETTINGS["max_tokens"], **PLAIN)
    given = RobustRAGGenerator(llm=model, **SETTINGS)
    one, other, awaited = named.invoke(GIVEN), given.invoke(GIVEN), await named.ainvoke(GIVEN)
    assert one.content == other.content == awaited.content
    assert comparable(one) == comparable(other) == comparable(awaited)
    assert comparable(one)["model"]["name"] == folder
    chunks = list(named.stream(GIVEN))
    assert "".join(chunk.content for chunk in chunks) == one.content
    assert folder in dumps(named)


def test_it_loads_once(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = token_models.load_token_model

    def counting(*args: Any, **options: Any) -> Any:
        loaded.append(options)
        return load(*args, **options)

    monkeypatch.setattr(token_models, "load_token_model", counting)
    generator = RobustRAGGenerator(token_model=folder, **SETTINGS)
    assert loaded == []
    messages = generator.batch([GIVEN] * 3)
    assert len({message.content for message in messages}) == 1
    assert loaded == [{"max_answer_tokens": 4}]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token_model": "m"}, "serves aggregation='decoding' alone, got 'voting'"),
        ({"token_model": ""}, "serves aggregation='decoding' alone"),
        ({"token_model": "", **SETTINGS}, "token_model must be a Hugging Face id or folder"),
        ({"token_model_kwargs": {"a": 1}}, "needs a token_model"),
        ({"token_model": "m", "token_model_kwargs": {"a": object()}, **SETTINGS}, "plain values"),
        ({"token_model": "m", "llm": 3, **SETTINGS}, "token_model and llm exclude each other"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RobustRAGGenerator(**settings)
    assert words in str(caught.value)


def test_a_model_that_is_not_there_is_an_error(tiny_models: Any) -> None:
    generator = RobustRAGGenerator(token_model="./nowhere", **SETTINGS)
    with pytest.raises(OSError, match="nowhere"):
        generator.invoke(GIVEN)
