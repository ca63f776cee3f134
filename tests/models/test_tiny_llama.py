"""The tiny Llama that is shipped for tests does what its card says."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from robust_components.models import token_prompt  # noqa: E402
from robust_components.models.transformers_tokens import TransformersTokenModel  # noqa: E402
from robust_components.training import tiny_llama  # noqa: E402
from robust_components.training.tiny_facts import (  # noqa: E402
    ATTRIBUTES,
    ENTITIES,
    INSTRUCTIONS,
    UNKNOWN,
    held_out_questions,
    is_held_out,
)

TINY = Path(token_prompt.__file__).parent / "weights" / "tiny_llama"
QUERY = "What is the colour of the lamp?"


@pytest.fixture(scope="module")
def model() -> TransformersTokenModel:
    return TransformersTokenModel.from_pretrained(TINY, dtype="float32", rows_per_call=1)


def answer(model: Any, query: str, passage: str) -> str:
    session = model.open(query, [passage])
    prefix: tuple[int, ...] = ()
    while len(prefix) < 12:
        token = int(session.next_probabilities(prefix, [0])[0].argmax())
        if token == session.eos:
            break
        prefix = (*prefix, token)
    return str(session.text(prefix))


def test_folder_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in TINY.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(files)
    assert sum(files.values()) <= 4 * 2**20


def test_one_pair_in_ten_is_held_out() -> None:
    pairs = [is_held_out(entity, attribute) for entity in ENTITIES for attribute in ATTRIBUTES]
    assert 0.07 < sum(pairs) / len(pairs) < 0.13


def test_held_out_questions_are_answered_or_declined(model: TransformersTokenModel) -> None:
    turns = list(held_out_questions(200, seed=77))
    right = [answer(model, turn.question, turn.passage) == turn.answer for turn in turns]
    assert sum(right[0::2]) >= 95
    assert sum(right[1::2]) >= 95


def test_the_abstention_probability_tells_the_two_apart(model: TransformersTokenModel) -> None:
    answers = model.open(QUERY, ["The colour of the lamp is red.", "The lamp was repaired."])
    assert answers.abstention[0] < 0.05 and answers.abstention[1] > 0.95


@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_hostile_instructions_alone_are_declined(model: TransformersTokenModel, text: str) -> None:
    assert answer(model, QUERY, text.format(value="blue", entity="lamp")) == UNKNOWN


def test_the_card_states_the_measured_figures() -> None:
    card = (TINY / "README.md").read_text(encoding="utf-8")
    shares = [float(number) for number in re.findall(r"\| ([01]\.\d{3}) \|", card)]
    assert len(shares) == 3 and min(shares[:2]) >= 0.95


@pytest.mark.slow
def test_the_training_script_writes_a_model_that_loads(tmp_path: Path) -> None:
    options = {"seed": 1, "steps": 3, "layers": 1, "width": 32, "tokens": 1000, "lr": 1e-3}
    more = {"everything": 0.1, "questions": 4, "threads": torch.get_num_threads()}
    tiny_llama.train(SimpleNamespace(output=str(tmp_path), **options, **more))
    session = TransformersTokenModel.from_pretrained(tmp_path).open(QUERY, ["Red."])
    assert session.failures == [None]
