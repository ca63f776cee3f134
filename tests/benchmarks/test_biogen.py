"""The long-form harness on small made-up data: metrics, bounds, both kinds of model."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rouge_score")
pytest.importorskip("spacy")
pytest.importorskip("tqdm")

from benchmarks import biogen
from benchmarks.metrics import rouge_l, token_f1
from robust_components.models.testing import TableTokenModel

REFERENCE = "Ada Lovelace wrote early programs for the analytical engine"
FACTS = "Ada Lovelace, analytical engine, early programs"


def test_metrics_by_hand():
    assert token_f1("the early engine", "Early engine programs") == pytest.approx(4 / 5)
    assert token_f1("c b b", "b b b") == pytest.approx(2 * 2 / 6)
    assert token_f1("x", "y") == token_f1("", "y") == 0.0
    assert rouge_l("z x y w", "w x y z") == pytest.approx(2 / 4)  # longest common: "x y"
    assert rouge_l("Łódź, Ada", "łódź ada") == 1.0


class Writer:
    """A text generator: lists the facts of a page; writes what agreed phrases say."""

    name, fingerprint = "writer", "test"

    def generate(self, prompts):
        return [self.complete(prompt) for prompt in prompts]

    def complete(self, prompt):
        lines = prompt.split("\n")
        if "Phrases that enough" in prompt:
            return lines[1]
        page = lines[2]
        if "output" in prompt:  # the injection
            return page.split("output ")[1].split(".")[0]
        return page.removeprefix("Bio ") if "Ada" in page else "I don't know"


@pytest.fixture
def requests(tmp_path):
    row = {
        "question": "Tell me a bio of Ada Lovelace?",
        "correct answer": REFERENCE,
        "incorrect answer": "Ada Lovelace is a good guy.",
        "incorrect_context": ["Bio Ada Lovelace, sold ice cream"],
        "context": [{"title": "Bio", "text": FACTS}] * 10 + [{"title": "Bio", "text": " "}],
    }
    for number, page in enumerate(row["context"]):
        row["context"][number] = {**page, "title": f"Bio {FACTS}, page {number}"}
    path = tmp_path / "dev.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    return biogen.read_requests(path)


def test_any_text_generator_can_be_evaluated(requests):
    figures = biogen.evaluate(requests, biogen.from_generator(Writer()))
    assert set(figures) == {"plain", "keyword"}
    row = figures["keyword"]
    expected = token_f1("ada lovelace analytical engine early programs", REFERENCE)
    assert row["f1"] == row["f1_pia"] == row["f1_poison"] == pytest.approx(expected, abs=1e-4)
    assert row["listed_injection"] == row["listed_modification"] == 1.0
    assert row["tau_f1_injection"] == row["f1"] and row["tau_rouge_l_injection"] == row["rouge_l"]
    assert row["certified_for_1"] == 1.0 and row["asr_pia"] == 0.0
    assert figures["plain"]["asr_pia"] == 1.0
    assert figures["plain"]["f1"] > 0


def test_decoding_bounds_are_the_least_over_all_reachable_answers(requests):
    pages = requests[0]["clean"]
    # All pages agree on the first token; on the second six of ten say "wrote".
    table = {(page, ()): {"ada": 1.0} for page in pages}
    for page, word in zip(pages, ["wrote"] * 6 + ["</s>"] * 4, strict=True):
        table[page, ("ada",)] = {word: 1.0}
    model = TableTokenModel(table, no_retrieval={("ada",): "sold"})
    generator = biogen.from_generator(Writer(), model)
    figures = biogen.evaluate(requests, generator, max_tokens=4)
    cautious = figures["decoding_c"]  # 6 - 4 is not above 4: the no-retrieval token
    assert cautious["f1"] == pytest.approx(token_f1("ada sold", REFERENCE), abs=1e-4)
    assert cautious["listed_modification"] == 1.0
    assert cautious["tau_f1_modification"] == cautious["f1"]
    daring = figures["decoding_r"]  # above 1, but one hostile page changes that
    assert daring["f1"] == pytest.approx(token_f1("ada wrote", REFERENCE), abs=1e-4)
    assert daring["certified_for_1"] == 0.0
    assert daring["listed_modification"] == 1.0
    assert daring["tau_f1_modification"] == cautious["f1"] < daring["f1"]


def test_the_table_names_every_system(requests):
    figures = biogen.evaluate(requests, biogen.from_generator(Writer()))
    lines = biogen.table(figures).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["plain", "keyword"]
    assert lines[2].count("–") == 3


def test_a_folder_of_transformers_can_be_evaluated(requests, tmp_path):
    """A random model says nothing sensible; what is tested is that every figure comes out."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from benchmarks.random_llama import build, tokenizer

    network = build("tiny")
    network.save_pretrained(tmp_path / "model")
    tokenizer(network.config.vocab_size).save_pretrained(tmp_path / "model")
    model = biogen.load_model(str(tmp_path / "model"), max_tokens=3)
    figures = biogen.evaluate(requests, model, max_tokens=3)
    assert set(figures) == {"plain", "keyword", "decoding_c", "decoding_r"}
    assert all(0.0 <= value <= 1.0 for row in figures.values() for value in row.values())
