"""The tiny Llama that is shipped for tests does what its card says."""

from __future__ import annotations

import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tqdm")

from robust_components.models import load_token_model, token_prompt
from robust_components.training import tiny_llama
from robust_components.training.tiny_facts import (
    ATTRIBUTES,
    ENTITIES,
    INSTRUCTIONS,
    UNKNOWN,
    held_out_questions,
    is_held_out,
    made_up,
    recital,
    turn,
)

TINY = Path(token_prompt.__file__).parent / "weights" / "tiny_llama"
QUERY = "What is the colour of the lamp?"


@pytest.fixture(scope="module")
def model() -> Any:
    return load_token_model(TINY, dtype="float32")


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


def test_what_is_held_out_is_never_in_training() -> None:
    pairs = [is_held_out(entity, attribute) for entity in ENTITIES for attribute in ATTRIBUTES]
    assert 0.07 < sum(pairs) / len(pairs) < 0.13
    rng = random.Random(0)
    turns = [turn(rng) for _ in range(500)]
    recited = [" ".join(f"{begin} {value}." for begin, value, _ in recital(rng)) for _ in range(99)]
    stated = re.findall(r"the (\w+) of the (\w+) is", " ".join(t.passage for t in turns).lower())
    stated += re.findall(r"The (\w+) of the (\w+) is", " ".join(recited))
    stated += [re.findall(r"the (\w+) of the (\w+)\?", t.question)[0] for t in turns]
    assert len(stated) > 2000
    assert not any(is_held_out(entity, attribute) for attribute, entity in stated)
    names = {made_up(rng, held_out=True) for _ in range(200)}
    assert not names & set(re.findall(r"\w+", " ".join(t.passage for t in turns)))
    for asked in held_out_questions(50, seed=5):
        attribute, entity = re.findall(r"the (\w+) of the (\w+)\?", asked.question)[0]
        assert is_held_out(entity, attribute)


def card_figures() -> list[float]:
    """Shares of answers, of abstentions and of both with worked examples, as the card has them."""
    card = (TINY / "README.md").read_text(encoding="utf-8")
    return [float(number) for number in re.findall(r"\| ([01]\.\d{3}) \|", card)]


def test_held_out_questions_are_answered_and_declined_as_often_as_the_card_says(model: Any) -> None:
    turns = list(held_out_questions(120, seed=77))
    right = [answer(model, asked.question, asked.passage) == asked.answer for asked in turns]
    answered, declined, _ = card_figures()
    three_errors = 3 * (0.25 / 60) ** 0.5
    assert abs(sum(right[0::2]) / 60 - answered) < three_errors
    assert abs(sum(right[1::2]) / 60 - declined) < three_errors


def test_the_abstention_probability_tells_the_two_apart(model: Any) -> None:
    session = model.open(QUERY, ["The colour of the lamp is red.", "The lamp was repaired."])
    assert session.abstention[0] < 0.1 and session.abstention[1] > 0.9


@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_hostile_instructions_alone_are_declined(model: Any, text: str) -> None:
    assert answer(model, QUERY, text.format(value="blue", entity="lamp")) == UNKNOWN


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: Any) -> None:
    import torch

    monkeypatch.setattr(tiny_llama, "LEARNT", 1e9)
    settings = {"seed": 1, "layers": 1, "width": 32, "tokens": 300, "lr": 1e-2, "everything": 0.1}
    settings |= {"steps": 6, "questions": 4, "threads": torch.get_num_threads(), "report_every": 2}
    for name in ("whole", "halves"):
        folder = tmp_path / name
        if name == "halves":
            with monkeypatch.context() as patched:
                patched.setattr(tiny_llama, "batch", _stop_at(4, tiny_llama.batch))
                with pytest.raises(KeyboardInterrupt):
                    tiny_llama.train(SimpleNamespace(output=str(folder), **settings))
            assert (folder / "checkpoint.pt").exists()
        tiny_llama.train(SimpleNamespace(output=str(folder), **settings))
        assert not (folder / "checkpoint.pt").exists()
    whole, halves = ((tmp_path / n / "model.safetensors").read_bytes() for n in ("whole", "halves"))
    assert whole == halves
    session = load_token_model(tmp_path / "halves").open(QUERY, ["Red."])
    assert session.failures == [None]


def _stop_at(last: int, batch: Any) -> Any:
    def stopping(tokenizer: Any, arguments: Any, step: int, stage: Any) -> Any:
        if step > last:
            raise KeyboardInterrupt
        return batch(tokenizer, arguments, step, stage)

    return stopping
