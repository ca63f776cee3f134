"""Selection equals a brute-force greedy reference, and refuses what makes no sense."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_components.repair.select import (
    maximum_marginal_vulnerability,
    random_neurons,
    top_vulnerable,
)


def brute_force(vulnerability, behaviour, count, trade_off):
    """The rule as it is written, every cosine anew."""

    def cosine(i, j):
        length = np.linalg.norm(behaviour[i]) * np.linalg.norm(behaviour[j])
        return float(behaviour[i] @ behaviour[j]) / length if length else 0.0

    chosen = []
    for _ in range(count):
        worth = {
            i: trade_off * vulnerability[i] / vulnerability.max()
            - (1 - trade_off) * max((cosine(i, j) for j in chosen), default=0.0)
            if vulnerability[i] > 0
            else -2.0
            for i in range(len(vulnerability))
            if i not in chosen
        }
        chosen.append(max(worth, key=lambda i: (round(worth[i], 12), -i)))
    return chosen


@given(st.integers(0, 2**32 - 1), st.integers(2, 25), st.integers(1, 6), st.floats(0, 1))
def test_greedy_choice_is_that_of_the_rule(seed, neurons, probes, trade_off):
    rng = np.random.default_rng(seed)
    behaviour = rng.gamma(0.5, size=(neurons, probes)) * rng.integers(0, 2, size=(neurons, 1))
    behaviour[0] += 1.0
    vulnerability = behaviour.mean(axis=1)
    count = int(rng.integers(1, neurons + 1))
    found = maximum_marginal_vulnerability(vulnerability, behaviour, count, trade_off)
    expected = brute_force(vulnerability, behaviour, count, trade_off)
    for place, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if ours == theirs:
            continue
        # equal up to rounding: the two must be worth the same at this point
        before = found[:place]
        unit = behaviour / np.maximum(np.linalg.norm(behaviour, axis=1, keepdims=True), 1e-300)
        worth = [
            trade_off * vulnerability[i] / vulnerability.max()
            - (1 - trade_off) * max((float(unit[i] @ unit[j]) for j in before), default=0.0)
            for i in (ours, theirs)
        ]
        assert worth[0] == pytest.approx(worth[1], abs=1e-9)
        break


def test_neurons_that_move_nothing_come_last():
    behaviour = np.array([[0.0, 0.0], [1.0, 1.0], [0.1, 0.1], [0.0, 0.0]])
    chosen = maximum_marginal_vulnerability(behaviour.mean(axis=1), behaviour, 4, 0.1)
    assert chosen == [1, 2, 0, 3]


def test_diversity_passes_over_a_copy():
    behaviour = np.array([[1.0, 0.0], [0.99, 0.0], [0.0, 0.65]])
    vulnerability = behaviour.mean(axis=1)
    assert maximum_marginal_vulnerability(vulnerability, behaviour, 2, 0.7) == [0, 2]
    assert maximum_marginal_vulnerability(vulnerability, behaviour, 2, 1.0) == [0, 1]
    assert top_vulnerable(vulnerability, 2) == [0, 1]


def test_random_choice_is_of_the_seed_and_distinct():
    assert random_neurons(50, 20, 3) == random_neurons(50, 20, 3) != random_neurons(50, 20, 4)
    assert len(set(random_neurons(50, 50, 0))) == 50


@pytest.mark.parametrize(
    ("count", "trade_off", "said"),
    [(4, 0.7, "at most 3"), (0, 0.7, "neurons"), (2, 1.5, r"\[0, 1\]"), (2, -0.1, "0.7")],
)
def test_refuses_settings_outside_their_range(count, trade_off, said):
    with pytest.raises(ValueError, match=said):
        maximum_marginal_vulnerability(np.ones(3), np.ones((3, 2)), count, trade_off)


def test_refuses_probes_that_move_nothing_and_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="no neuron moves the score"):
        maximum_marginal_vulnerability(np.zeros(3), np.zeros((3, 2)), 1)
    with pytest.raises(ValueError, match="shape"):
        maximum_marginal_vulnerability(np.ones(3), np.ones((4, 2)), 1)


@pytest.mark.slow
def test_selects_among_many_neurons_in_two_seconds():
    rng = np.random.default_rng(0)
    behaviour = rng.gamma(0.5, size=(36_864, 500)).astype(np.float32)
    before = time.process_time()
    maximum_marginal_vulnerability(behaviour.mean(axis=1), behaviour, 128)
    assert time.process_time() - before < 8  # seconds of a busy machine; 2 are wanted
