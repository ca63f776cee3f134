"""Models by name: what is not there is said before a hub is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from robust_components import CluCertClassifier, SmoothedRanker
from robust_components.models import (
    load_classifier,
    load_pair_scorer,
    load_token_model,
)
from robust_components.models.named_files import check_there
from robust_components.smoothing import BalancedMask, HashBuckets


@pytest.mark.parametrize(
    "load",
    [load_classifier, load_pair_scorer, load_token_model, SmoothedRanker, CluCertClassifier],
)
@pytest.mark.parametrize("name", ["/no/such/folder", "./no/such", Path("no/such")])
def test_a_missing_folder_is_named(load, name):
    with pytest.raises(FileNotFoundError, match=r"such.* does not exist; pass an existing folder"):
        load(name)


def test_a_missing_gguf_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"model\.gguf does not exist"):
        load_token_model("model.gguf")


def test_hub_ids_and_existing_folders_pass(tmp_path):
    check_there("owner/name")
    check_there("bert-base-uncased")
    check_there(tmp_path)
    check_there(str(tmp_path))


def test_models_and_mechanisms_by_name_in_plain_python():
    weights = Path(__file__).parents[2] / "robust_components" / "models" / "weights"
    ranker = SmoothedRanker(weights / "ranker", "hash_buckets", top_k=1)
    assert ranker.mechanism == HashBuckets()
    assert ranker.rank("green tea", ["green tea", "rye bread"]).items[0].score > 0
    classifier = CluCertClassifier("topic", "balanced_mask")
    assert classifier.mechanism == BalancedMask()
    assert "Sports" in classifier.model.labels


@pytest.mark.parametrize("component", [SmoothedRanker, CluCertClassifier])
def test_other_mechanisms_are_refused(component):
    with pytest.raises(ValueError, match=r"mechanism must be one of .*got 'masks'"):
        component(mechanism="masks")
    with pytest.raises(TypeError, match=r"mechanism must be a BalancedMask.*got 10; pass"):
        component(mechanism=10)
