"""Mechanisms: settings, odd texts, and what a masked copy looks like."""

from __future__ import annotations

import random
import time
import warnings
from fractions import Fraction

import numpy as np
import pytest

from robust_components.bounds import overlap_probability
from robust_components.smoothing import (
    BalancedMask,
    FixedMechanism,
    HashBuckets,
    RandomMask,
    join_words,
    split_words,
)
from robust_components.smoothing.balanced_mask import CACHED_WORDS, partition_positions
from robust_components.threats import WordEdits

ODD_TEXTS = [
    "",
    " \n\t ",
    "one",
    "!!! ... ??",
    "\u4e16\u754c \u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f600 \U0001f600",
    "a\u00a0b\u2003c\u3000d",
    "\ud800 lone",
    "zero\u200bwidth",
    "x " * 1000,
]


# ------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: BalancedMask(0), ValueError, "blocks must be >= 1, got 0"),
        (lambda: BalancedMask(2.0), TypeError, "blocks must be an integer"),
        (lambda: BalancedMask(True), TypeError, "blocks must be an integer"),
        (lambda: BalancedMask(partitions=0), ValueError, "partitions must be >= 1"),
        (lambda: BalancedMask(span=-1), ValueError, "span must be >= 1, got -1"),
        (lambda: BalancedMask(span="pieces"), TypeError, "span must be an integer"),
        (lambda: BalancedMask(seed=1.5), TypeError, "seed must be an integer, got 1.5; use 0"),
        (lambda: BalancedMask(seed=None), TypeError, "seed must be an integer"),
        (lambda: BalancedMask(mask_token=""), ValueError, "mask_token must be one word"),
        (lambda: BalancedMask(mask_token="a b"), ValueError, "mask_token must be one word"),
        (lambda: BalancedMask(mask_token=" [MASK]"), ValueError, "without spaces"),
        (lambda: BalancedMask(mask_token=7), ValueError, "mask_token must be one word"),
        (lambda: HashBuckets(0), ValueError, "buckets must be >= 1, got 0"),
        (lambda: HashBuckets("10"), TypeError, "buckets must be an integer"),
        (lambda: HashBuckets(partitions=0), ValueError, "partitions must be >= 1"),
        (lambda: HashBuckets(seed="a"), TypeError, "seed must be an integer"),
        (lambda: RandomMask(0), ValueError, "mask_rate must be in (0, 1), got 0"),
        (lambda: RandomMask(1), ValueError, "mask_rate must be in (0, 1), got 1"),
        (lambda: RandomMask(float("nan")), ValueError, "mask_rate must be a number in (0, 1)"),
        (lambda: RandomMask(True), ValueError, "mask_rate must be a number in (0, 1)"),
        (lambda: RandomMask("most"), ValueError, "mask_rate must be a number in (0, 1)"),
        (lambda: RandomMask(samples=0), ValueError, "samples must be >= 1, got 0"),
        (lambda: RandomMask(samples=10.0), TypeError, "samples must be an integer"),
        (lambda: RandomMask(seed="a"), TypeError, "seed must be an integer"),
        (lambda: RandomMask(mask_token="a b"), ValueError, "mask_token must be one word"),
    ],
)
def test_settings_out_of_range_are_refused(make, error, words):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


def test_settings_become_plain_values():
    made = BalancedMask(np.int64(5), np.int32(2), np.int8(1), seed=np.uint8(3))
    assert made == BalancedMask(5, 2, 1, seed=3)
    assert {type(value) for value in made.to_dict().values()} <= {str, int, type(None)}
    hashed = HashBuckets(np.int64(5), np.int32(2), seed=np.int64(-4))
    assert {type(value) for value in hashed.to_dict().values()} <= {str, int}
    drawn = RandomMask(np.float64(0.5), np.int64(9), seed=np.int64(1))
    assert type(drawn.mask_rate) is float
    assert type(drawn.samples) is type(drawn.seed) is int
    assert RandomMask("0.5").mask_rate == 0.5


@pytest.mark.parametrize("make", [lambda: BalancedMask(1), lambda: HashBuckets(1)])
def test_one_block_warns_at_the_callers_line(make):
    with pytest.warns(UserWarning, match="=1 shows every word in one copy") as caught:
        make()
    assert caught[0].filename == __file__


def test_useful_settings_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(BalancedMask(2), FixedMechanism)
        assert isinstance(HashBuckets(2), FixedMechanism)
        assert not isinstance(RandomMask(), FixedMechanism)


# ---------------------------------------------------------------------------- words and copies


def test_words_are_what_stands_between_white_space():
    assert split_words(" a\tb\n c\u00a0d\u3000e ") == ("a", "b", "c", "d", "e")
    assert split_words("") == split_words(" \n") == ()
    assert split_words("a\u200bb") == ("a\u200bb",)
    with pytest.raises(TypeError, match="a text must be a string, got NoneType"):
        split_words(None)


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_words_survive_joining(text):
    words = split_words(text)
    assert split_words(join_words(words)) == words


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
@pytest.mark.parametrize(
    "mechanism",
    [
        BalancedMask(3),
        BalancedMask(3, 2, 2),
        BalancedMask(3, 2, None),
        BalancedMask(3, mask_token="<m>"),
        HashBuckets(3, 2),
    ],
    ids=repr,
)
def test_copies_show_their_visible_words_in_order(mechanism, text):
    words = split_words(text)
    copies = mechanism.copies(words)
    assert len(copies) == mechanism.blocks * mechanism.partitions
    token = getattr(mechanism, "mask_token", None)
    for number, copy in enumerate(copies):
        assert copy.partition == number // mechanism.blocks
        assert list(copy.visible) == sorted(set(copy.visible))
        shown = [words[place] for place in copy.visible]
        if token is not None:
            shown = [w if i in copy.visible else token for i, w in enumerate(words)]
        assert copy.text == " ".join(shown)


def test_copies_are_the_same_in_every_process():
    """A changed hash or order would make the scores of stored certificates irreproducible."""
    words = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    balanced = [copy.visible for copy in BalancedMask(3).copies(words)]
    hashed = [copy.text for copy in HashBuckets(3).copies(words)]
    assert balanced == [(3, 6, 8), (1, 4, 7), (0, 2, 5)]
    pieces = [copy.text for copy in BalancedMask(4, 2, span=None).copies(words)]
    assert pieces[:4] == ["the quick brown", "fox jumps", "over the", "lazy dog"]
    assert pieces[4:] == ["the quick dog", "brown fox", "jumps over", "the lazy"]
    assert hashed == ["the jumps the dog", "quick fox", "brown over lazy"]


def test_seeds_and_partitions_give_other_copies():
    words = [f"w{i}" for i in range(40)]
    for kind in (BalancedMask, HashBuckets):
        made = {tuple(c.text for c in kind(4, seed=seed).copies(words)) for seed in range(20)}
        assert len(made) == 20
        both = kind(4, 2).copies(words)
        assert [c.text for c in both[:4]] != [c.text for c in both[4:]]
        assert [c.text for c in both[:4]] == [c.text for c in kind(4).copies(words)]


def test_touched_copies_are_counted_and_capped():
    assert [BalancedMask(3).touched(WordEdits(r)) for r in (1, 2, 3, 99)] == [1, 2, 3, 3]
    assert [HashBuckets(5).touched(WordEdits(r, "any")) for r in (1, 4, 9)] == [1, 4, 5]
    assert [HashBuckets(5).touched(WordEdits(r)) for r in (1, 2, 3)] == [2, 4, 5]


@pytest.mark.parametrize("mechanism", [BalancedMask(3), RandomMask()], ids=repr)
def test_masks_by_position_refuse_insertions(mechanism):
    threat = WordEdits(1, "any")
    with pytest.raises(ValueError, match="covers substitutions, got operations='any'; use Hash"):
        mechanism.delta(9, threat) if isinstance(mechanism, RandomMask) else mechanism.touched(
            threat
        )


def test_long_texts_are_cut_into_blocks_quickly_and_not_kept():
    words = [f"w{i}" for i in range(50_000)]
    began = time.process_time()
    for mechanism in (BalancedMask(10, 2), BalancedMask(10, 2, None), HashBuckets(10, 2)):
        assert sum(len(copy.visible) for copy in mechanism.copies(words)) == 100_000
    assert time.process_time() - began < 10
    assert partition_positions(9, 3, 1, 0, 0) is partition_positions(9, 3, 1, 0, 0)
    long = CACHED_WORDS + 1
    assert partition_positions(long, 3, 1, 0, 0) is not partition_positions(long, 3, 1, 0, 0)


# ------------------------------------------------------------------------------- random masks


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.5, 0.9, 0.999])
def test_random_masks_show_the_number_of_words_the_bound_counts_with(rate):
    mechanism = RandomMask(rate, seed=0)
    for count in range(30):
        words = [f"w{i}" for i in range(count)]
        shown = mechanism.shown(count)
        assert shown == min(count, max(1, count - round(Fraction(str(rate)) * count)))
        for copy in mechanism.sample(words, 5, mechanism.generator()):
            assert len(copy.visible) == shown
            assert copy.text.split().count("[MASK]") == count - shown


def test_random_masks_are_uniform():
    """Every one of the C(5, 2) masks about equally often: chi-square with 9 degrees of freedom."""
    from collections import Counter

    from scipy.stats import chisquare

    mechanism = RandomMask(0.6, seed=5)
    copies = mechanism.sample("abcde", 5000, mechanism.generator())
    counts = Counter(copy.visible for copy in copies)
    assert len(counts) == 10
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_a_seed_repeats_the_draw_and_none_does_not():
    words = [f"w{i}" for i in range(30)]

    def draw(seed):
        mechanism = RandomMask(seed=seed)
        return [copy.text for copy in mechanism.sample(words, 20, mechanism.generator())]

    assert draw(3) == draw(3) != draw(4)
    assert draw(None) != draw(None)


def test_delta_is_exact_and_quick():
    mechanism = RandomMask(0.9)
    assert mechanism.delta(0, WordEdits(3)) == 0
    assert mechanism.delta(1, WordEdits(1)) == 1
    assert mechanism.delta(10, WordEdits(1)) == Fraction(1, 10)
    assert mechanism.delta(10, WordEdits(99)) == 1
    began = time.process_time()
    for edits in (1, 10, 40_000):
        assert 0 < mechanism.delta(50_000, WordEdits(edits)) <= 1
    assert time.process_time() - began < 5


def test_overlap_is_the_same_from_both_sides():
    """Fewer factors are taken, whichever they are."""
    generator = random.Random(0)
    for _ in range(300):
        words = generator.randint(1, 40)
        shown, edits = generator.randint(0, words), generator.randint(0, words)
        assert overlap_probability(words, shown, edits) == overlap_probability(words, edits, shown)
    with pytest.raises(ValueError, match="need words >= 1"):
        overlap_probability(0, 0, 0)
