"""Random edit scripts: what an edit does not touch stays string-identical, copy for copy."""

from __future__ import annotations

import itertools
import random

import pytest

from robust_components.smoothing import BalancedMask, HashBuckets, split_words
from robust_components.threats import WordEdits

WORDS = [
    "the",
    "The",
    "the,",
    "river",
    "de\u0301j\u00e0",
    "\u4e16\u754c",
    "!!!",
    "\U0001f600",
    "\ud800",
    "\u200b",
    "a",
]
COST = {"insert": 1, "delete": 1, "move": 1, "substitute": 2}


def apply(operation, words, generator):
    """One edit at a random place; the words themselves where there is nothing to edit."""
    words = list(words)
    new = generator.choice([*WORDS, f"w{generator.randrange(50)}"])
    if operation == "insert":
        words.insert(generator.randint(0, len(words)), new)
    elif words:
        place = generator.randrange(len(words))
        if operation == "substitute":
            words[place] = new
        else:
            word = words.pop(place)
            if operation == "move":
                words.insert(generator.randint(0, len(words)), word)
    return tuple(words)


def document(generator):
    pool = [*WORDS, *(f"w{i}" for i in range(generator.randint(1, 50)))]
    return tuple(generator.choices(pool, k=generator.choice([0, 1, 2, 5, 20, 40])))


def touched_copies(mechanism, before, after):
    """For each partition, how many copies are other strings."""
    old, new = mechanism.copies(before), mechanism.copies(after)
    assert len(old) == len(new) == mechanism.blocks * mechanism.partitions
    assert [copy.partition for copy in old] == [copy.partition for copy in new]
    counts = [0] * mechanism.partitions
    for one, other in zip(old, new, strict=True):
        changed = one.text != other.text
        assert one.touchable or not changed
        counts[one.partition] += changed
    return counts


@pytest.mark.parametrize("seed", range(50))
def test_scripts_touch_no_more_buckets_than_they_cost(seed):
    """5,000 scripts of up to six edits of all kinds, on texts of up to 40 words."""
    generator = random.Random(seed)
    mechanism = HashBuckets(
        generator.choice([2, 3, 10, 20]), generator.choice([1, 3]), seed=generator.randrange(9)
    )
    kinds = set()
    for _ in range(100):
        before = after = document(generator)
        cost = 0
        for _ in range(generator.randint(0, 6)):
            operation = generator.choice(list(COST))
            kinds.add(operation)
            cost += COST[operation]
            after = apply(operation, after, generator)
        limit = mechanism.touched(WordEdits(max(1, cost), "any"))
        assert max(touched_copies(mechanism, before, after)) <= min(limit, cost)
        assert split_words(" ".join(after)) == after
    assert kinds == set(COST)


@pytest.mark.parametrize("seed", range(20))
def test_substitutions_touch_as_many_copies_as_said(seed):
    """2,000 scripts of substitutions alone: two buckets each, or one block each."""
    generator = random.Random(seed)
    size = generator.choice([2, 3, 10])
    partitions = generator.choice([1, 2])
    for mechanism in (
        HashBuckets(size, partitions, seed=seed),
        BalancedMask(size, partitions, span=generator.choice([1, 3, None]), seed=seed),
        BalancedMask(size, partitions, mask_token="[MASK]", seed=seed),
    ):
        for _ in range(33):
            before = after = document(generator)
            edits = generator.randint(1, 5)
            for _ in range(edits):
                after = apply("substitute", after, generator)
            limit = mechanism.touched(WordEdits(edits, "substitute"))
            assert max(touched_copies(mechanism, before, after)) <= limit


def test_a_substitution_can_touch_two_buckets_and_a_move_one():
    """The limits are reached: they could not be smaller."""
    generator = random.Random(0)
    mechanism = HashBuckets(10)
    seen = {"substitute": set(), "move": set(), "insert": set(), "delete": set()}
    for _ in range(300):
        before = tuple(generator.choices([f"w{i}" for i in range(60)], k=40))
        for operation, counts in seen.items():
            counts.update(touched_copies(mechanism, before, apply(operation, before, generator)))
    assert max(seen["substitute"]) == 2
    assert [max(seen[one]) for one in ("move", "insert", "delete")] == [1, 1, 1]


def test_mask_tokens_would_tell_the_other_buckets_how_many_words_are_hidden():
    """Why hidden words are deleted: with a token for each, one insertion changes every copy."""
    before, after = ("a", "b", "c"), ("a", "b", "c", "d")
    masked = BalancedMask(2, mask_token="[MASK]")
    assert [c.text for c in masked.copies(before)] != [c.text for c in masked.copies(after)][:2]
    assert sum(touched_copies(HashBuckets(2), before, after)) == 1


def test_every_word_is_visible_in_exactly_one_copy_of_each_partition():
    generator = random.Random(1)
    for _ in range(200):
        words = document(generator)
        for mechanism in (
            HashBuckets(4, 3, seed=generator.randrange(99)),
            BalancedMask(4, 3, span=2, seed=generator.randrange(99)),
            BalancedMask(generator.choice([1, 4, 9]), 3, span=None),
        ):
            for partition in range(3):
                shown = [
                    place
                    for copy in mechanism.copies(words)
                    if copy.partition == partition
                    for place in copy.visible
                ]
                assert sorted(shown) == list(range(len(words)))


def test_blocks_depend_on_the_number_of_words_and_never_on_the_words():
    mechanism = BalancedMask(3, 2, span=2, seed=7)
    for count in range(12):
        places = {
            tuple(copy.visible for copy in mechanism.copies([f"{letter}{i}" for i in range(count)]))
            for letter in "abc"
        }
        assert len(places) == 1
        (one,) = places
        sizes = [len(block) for block in one]
        if count:
            assert max(sizes) - min(sizes) <= 3


@pytest.mark.parametrize("partitions", [1, 2, 3, 16])
@pytest.mark.parametrize("blocks", [2, 3, 7, 11])
def test_pieces_are_neighbouring_words_cut_evenly(blocks, partitions):
    """On the circle of words every copy is one run; only shifted cuts use that the ends meet."""
    for count in range(40):
        copies = BalancedMask(blocks, partitions, span=None).copies(["w"] * count)
        cuts = []
        for partition in range(partitions):
            places = [c.visible for c in copies if c.partition == partition]
            assert sorted(sum(places, ())) == list(range(count))
            sizes = [len(one) for one in places if one]
            assert len(sizes) == min(blocks, count)
            assert not count or max(sizes) - min(sizes) <= 1
            for number, one in enumerate(places):
                jumps = [here + 1 for here, there in itertools.pairwise(one) if there > here + 1]
                assert not jumps or (partition > 0 and number == 0)
                assert len(jumps) <= 1
            cuts.append({min(one) for one in places[1:] if one})
        if count >= blocks * partitions:
            assert len({frozenset(one) for one in cuts}) == partitions


def test_shifted_cuts_lie_a_part_of_a_piece_earlier():
    shown = [copy.visible for copy in BalancedMask(2, 2, span=None).copies("abcdefgh")]
    assert shown[:2] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert shown[2:] == [(0, 1, 6, 7), (2, 3, 4, 5)]
    seeds = [BalancedMask(3, 2, span=None, seed=seed).copies("abcdefgh") for seed in (0, 1)]
    assert seeds[0] == seeds[1]


def test_exactly_the_first_blocks_can_be_touched():
    """The verifier tells from the number of words which copies an edit can change."""
    for span in (1, 2, 5, None):
        for blocks in (2, 3, 7):
            for count in range(25):
                copies = BalancedMask(blocks, 2, span=span).copies(["w"] * count)
                full = min(blocks, -(-count // (span or 1)))
                expected = ([True] * full + [False] * (blocks - full)) * 2
                assert [copy.touchable for copy in copies] == expected
                assert [bool(copy.visible) for copy in copies] == expected
