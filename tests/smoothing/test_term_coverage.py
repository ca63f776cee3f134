"""The words of a query that a document has: what counts as the same word, weights, and bounds."""

from __future__ import annotations

import itertools
import pickle
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from robust_components.smoothing import TermCoverage
from robust_components.smoothing.term_coverage import UNIT, _key, common_words, coverage_named

PLAIN = TermCoverage("0.5", language=None, weights={"a": 1, "b": 2, "c": 5})


def test_stems_case_and_punctuation_do_not_matter():
    coverage = TermCoverage()
    for one, other in (
        ("Lamps", "lamp"),
        ("(colours)?", "colour"),
        ("it\u2019s", "it's"),
        ("STRASSE", "stra\xdfe"),
        ("Running,", "runs"),
    ):
        assert coverage.key(one) == coverage.key(other) != ""
    for word in ("?!", "...", "", "\u2026"):
        assert coverage.key(word) == ""
    assert coverage.key("lamp-red") != coverage.key("lamp")
    assert TermCoverage(language=None).key("lamps") != TermCoverage(language=None).key("lamp")
    assert TermCoverage(language="german").key("Lampen") == "lamp"


def test_threads_do_not_mix_up_their_words():
    """Wrong stems would be remembered, and the same document scored otherwise ever after."""
    endings = ("s", "ing", "ization", "ational", "fulness", "izers", "ousness", "ement")
    words = [f"{stem}{end}" for stem in ("river", "nation", "general", "opera") for end in endings]
    key = _key.__wrapped__
    expected = [key(word, "english") for word in words]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            runs = [
                pool.submit(lambda: [key(word, "english") for word in words * 10]) for _ in range(4)
            ]
            assert all(run.result() == expected * 10 for run in runs)
    finally:
        sys.setswitchinterval(before)


def test_long_words_are_compared_quickly():
    began = time.process_time()
    assert TermCoverage().key("?" * 50_000 + "a" + "!" * 200_000 + "a" + "?" * 50_000)
    assert TermCoverage().key("!" * 200_000) == ""
    assert time.process_time() - began < 2


def test_rarer_words_weigh_more_and_common_ones_little():
    coverage = TermCoverage().of("What is the colour of the zeppelin", [()])
    words = ["what", "is", "the", "colour", "of", "zeppelin"]
    keys = sorted({TermCoverage().key(word) for word in words})
    weight = dict(zip(keys, coverage.weights.tolist(), strict=True))
    assert weight["zeppelin"] > 0.3 * UNIT > 20 * weight["the"]
    assert UNIT - len(keys) <= sum(weight.values()) <= UNIT


def test_a_word_said_twice_counts_once():
    coverage = PLAIN.of("a b c", [("a",), ("a",) * 9, ("b", "c"), ("x",), ()])
    shares = [Fraction(n, UNIT) for n in (1, 1, 7, 0, 0)]
    assert [Fraction(int(s), UNIT) for s in coverage.score()] == [s * UNIT / 8 for s in shares]
    assert coverage.counts.tolist() == [[1, 0, 0], [3, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_words_nobody_named_weigh_as_much_as_the_heaviest():
    coverage = PLAIN.of("c d", [("c",), ("d",)])
    assert coverage.score().tolist() == [UNIT // 2, UNIT // 2]


def test_queries_without_words_cover_nothing():
    coverage = TermCoverage().of("?! ...", [("a", "b"), ()])
    assert coverage.terms == 0
    assert coverage.score().tolist() == [0, 0]
    assert coverage.gain(3).tolist() == [0, 0] == coverage.loss(3).tolist()


@pytest.mark.parametrize("seed", range(30))
def test_gain_and_loss_bound_every_edit(seed):
    """Substitutions, insertions and deletions, one to three of them; gains are attained."""
    generator = random.Random(seed)
    letters = "abcx"
    document = tuple(generator.choices(letters, k=generator.randint(0, 4)))
    query = " ".join(generator.sample("abc", 3))

    def covered(words):
        return int(PLAIN.of(query, [words]).score()[0])

    coverage = PLAIN.of(query, [document])
    forms, substituted = {document}, {document}
    for edits in (1, 2, 3):
        substituted = {
            (*one[:i], new, *one[i + 1 :])
            for one in substituted
            for i in range(len(one))
            for new in letters
        } | substituted
        forms = forms | {
            form
            for one in forms
            for i in range(len(one) + 1)
            for form in (
                *((*one[:i], new, *one[i:]) for new in letters),
                *((*one[:i], *one[i + 1 :]),),
            )
        }
        low, high = (
            covered(document) - coverage.loss(edits),
            covered(document) + coverage.gain(edits),
        )
        assert low[0] <= min(map(covered, forms | substituted))
        assert high[0] == max(map(covered, forms))
        room = covered(document) + coverage.gain(edits, [len(document)])
        assert room[0] >= max(map(covered, substituted))


def test_bounds_grow_with_edits_and_end_with_the_terms():
    generator = random.Random(0)
    documents = [generator.choices("abcdxyz", k=9) for _ in range(20)]
    coverage = TermCoverage().of("a b c d", documents)
    for bound in (coverage.gain, coverage.loss):
        steps = [bound(edits) for edits in range(coverage.terms + 3)]
        assert all((low <= high).all() for low, high in itertools.pairwise(steps))
        assert (steps[coverage.terms] == steps[-1]).all()
    assert np.array_equal(coverage.score() + coverage.gain(9), np.full(20, coverage.weights.sum()))
    assert (coverage.score() == coverage.loss(9)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, r"share must be in \(0, 1\) with at most three decimals, got 0"),
        ({"share": 1}, "leave coverage out|got 1"),
        ({"share": "0.3333"}, "three decimals, got '0.3333'"),
        ({"share": True}, "share must be a number"),
        ({"share": "much"}, "share must be a number"),
        ({"language": "klingon"}, "language must be None or one of .*'english'"),
        ({"weights": {"a": -1}}, r"weights\['a'\] must be a finite number"),
        ({"weights": {"a": float("nan")}}, "finite number"),
        ({"weights": {"a": True}}, "finite number"),
        ({"weights": {3: 1.0}}, r"weights\[3\]"),
        ({"weights": {"a": 0}}, "weights are all 0"),
        ({"shares": "0.3"}, "coverage has no setting shares; it has share, language, weights"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        coverage_named(settings)


def test_plain_settings_and_back():
    for coverage in (TermCoverage(), PLAIN, TermCoverage(0.25, "german")):
        assert coverage_named(coverage.to_dict()) == coverage
        assert pickle.loads(pickle.dumps(coverage)) == coverage
        assert hash(coverage) == hash(coverage_named(coverage.to_dict()))
    assert coverage_named(None) is None
    assert coverage_named(PLAIN) is PLAIN


def test_the_common_words_are_words():
    words = common_words()
    assert len(words) == len(set(words)) == 3000
    assert words[:3] == ("a", "i", "the")
    assert all(word.isalpha() and word.islower() for word in words)
