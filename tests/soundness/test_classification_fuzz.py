"""More than 100,000 random elections, each attacked in every way the radius is said to withstand.

A case is a text of up to six words, a family of masked copies and random votes. For every set of
words as large as the certified radius, and for every rival, all copies that show one of them are
given to the rival, and to nobody; then the election is held anew. One edit more than the radius
must be able to change the label where the rule is exact.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from robust_components.classification.fixed_rule import AllMasks, SeenCopies, certified_radius
from robust_components.classification.plan import Subject, fixed_reach
from robust_components.classification.votes import UNIT, Ballots, Failure
from robust_components.smoothing import BalancedMask, HashBuckets
from robust_components.threats import WordEdits

LABELS = ("neg", "neutral", "pos")


def random_votes(generator, number, soft):
    """Votes that lean towards one label, with abstentions, failures and near ties."""
    lean, favourite = generator.choice([0.3, 0.6, 0.9, 1.0]), generator.randrange(3)
    votes = []
    for _ in range(number):
        label = favourite if generator.random() < lean else generator.randrange(3)
        if generator.random() > 0.97:
            votes.append(Failure("no response") if generator.random() < 0.5 else None)
        elif soft:
            left, row = UNIT, [0, 0, 0]
            for place in (label, (label + 1) % 3, (label + 2) % 3):
                row[place] = generator.choice([left, left // 2, generator.randint(0, left)])
                left -= row[place]
            votes.append(tuple(row))
        else:
            votes.append(LABELS[label])
    return votes


def elected(totals, order):
    """First of the labels with most votes in each row; -1 where nobody has any."""
    ranked = totals[:, order]
    winners = np.asarray(order)[ranked.argmax(axis=1)]
    return np.where(ranked.max(axis=1) > 0, winners, -1)


def attacks(seen, words, touched, budget):
    """Which copies an attacker can change, one row an attack."""
    if touched is not None:
        partitions, blocks, each = touched
        rows = []
        for chosen in itertools.product(
            list(itertools.combinations(range(blocks), min(blocks, each * budget))),
            repeat=partitions,
        ):
            row = np.zeros(partitions * blocks, dtype=bool)
            for partition, places in enumerate(chosen):
                row[[partition * blocks + place for place in places]] = True
            rows.append(row)
        return np.array(rows)
    sets = itertools.combinations(range(words), min(budget, words))
    return np.array([seen[list(one)].any(axis=0) for one in sets])


def breaks(ballots, rows, changed, winner):
    """Whether some attack elects another label, or none, or one never seen."""
    scale = ballots.scale
    kept = ~changed[:, :, None] * ballots.counts[None]
    totals = kept.sum(axis=1)
    open_copies = (changed | ballots.failed).sum(axis=1) * scale
    never = np.zeros((len(totals), 1), dtype=np.int64)
    for rival in range(len(ballots.labels)):
        if rival != winner:
            after = totals.copy()
            after[:, rival] += open_copies
            if (elected(after, rows) != winner).any():
                return True
    if (elected(totals, rows) != winner).any():
        return True
    if ballots.closed:
        return False
    # A new label may come first by name.
    after = np.hstack([totals, never + open_copies[:, None]])
    return bool((elected(after, [len(ballots.labels), *rows]) != winner).any())


def one_case(generator):
    """Returns whether it claimed anything, and whether the radius was checked to be exact."""
    words = generator.randint(1, 6)
    text = tuple(f"w{i}" for i in range(words))
    kind = generator.choice(["balanced", "partitions", "masks", "buckets", "important"])
    soft, touched, seen = generator.random() < 0.5, None, None
    closed = soft or generator.random() < 0.5
    if kind == "masks":
        shown = generator.randint(1, min(3, words))
        places = list(itertools.combinations(range(words), shown))
        reach = SeenCopies(places, words, AllMasks(words, shown))
        votes, number = random_votes(generator, len(places), soft), len(places)
    else:
        partitions = generator.choice([2, 3]) if kind == "partitions" else 1
        blocks = generator.randint(2, 7 if partitions == 1 else 4)
        if kind == "buckets":
            mechanism = HashBuckets(blocks, seed=generator.randrange(99))
        else:
            span = generator.choice([1, 2, None])
            seed = generator.randrange(99)
            mechanism = BalancedMask(blocks, partitions, span=span, seed=seed)
        operations = generator.choice(["any", "substitute"]) if kind == "buckets" else "substitute"
        kept = tuple(range(words)) if kind == "important" else None
        copies = mechanism.copies(text)
        reach = fixed_reach(copies, Subject(text, kept), mechanism, WordEdits(1, operations))
        number = len(copies)
        votes = random_votes(generator, number, soft)
        votes = [vote if c.visible else None for vote, c in zip(votes, copies, strict=True)]
        places = [copy.visible for copy in copies]
        if kind in ("buckets", "important"):
            each = 2 if kind == "important" or operations == "substitute" else 1
            touched = (partitions, blocks, each)
    ballots = Ballots.count(votes, LABELS if closed else None, soft=soft)
    winner = ballots.winner
    if winner is None:
        return False, False
    seen = np.zeros((words, number), dtype=bool)
    for copy, visible in enumerate(places):
        seen[list(visible), copy] = True
    radius = certified_radius(ballots, reach, 0)
    order = list(range(len(ballots.labels)))
    if radius and breaks(ballots, order, attacks(seen, words, touched, radius), winner):
        raise AssertionError((kind, text, votes, radius))
    exact = touched is None and radius < words
    if exact:
        more = attacks(seen, words, touched, radius + 1)
        assert breaks(ballots, order, more, winner), (kind, text, votes, radius)
    return radius > 0, exact


def fuzz(cases, seed):
    generator = random.Random(seed)
    results = [one_case(generator) for _ in range(cases)]
    claims, exact = (sum(column) for column in zip(*results, strict=True))
    assert claims > cases // 20
    assert exact > cases // 4


def test_a_few_random_elections():
    fuzz(1500, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_random_elections(seed):
    fuzz(26_000, seed=100 + seed)
