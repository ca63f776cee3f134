"""The certified budget of voting against its definition, budget by budget and attack by attack."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robust_components.rag.scenarios import PassageList, injection_scenarios
from robust_components.rag.voting import (
    Ballot,
    certified_budget,
    withstands_injection,
    withstands_modification,
)
from robust_components.threats import PassageInjection, PassageModification


def defined_modification(ballot: Ballot, budget: int) -> bool:
    """For each rival and number of removed sources, the worst attack."""
    winner, passages = ballot.winner(), ballot.passages
    left = budget - len(passages.failed_sources)
    if winner is None or left < 0:
        return False
    votes, counts, slots = ballot.votes(), ballot.counts(), passages.slots
    healthy = [source for source in slots if source not in passages.failed_sources]
    room = passages.top_k - len(passages.sources)
    for rival in ballot.rivals(winner):
        gains = sorted(
            ((votes[s] == winner) - (votes[s] == rival) + slots[s] for s in healthy), reverse=True
        )
        worst = max(
            sum(gains[:removed]) + min(left - removed, room)
            for removed in range(min(left, len(gains)) + 1)
        )
        given_up = sum(slots[source] for source in passages.failed_sources)
        if counts[winner] - counts[rival] - given_up <= worst:
            return False
    return True


def defined_injection(ballot: Ballot, budget: int, each: int) -> bool:
    """For each number of injected passages, the votes of those that stay."""
    winner = ballot.winner()
    if winner is None:
        return False
    possible = list(injection_scenarios(ballot.passages, budget, each))
    for scenario in possible:
        counts = ballot.counts(scenario.kept)
        runner_up = max((counts[rival] for rival in ballot.rivals(winner)), default=0)
        if scenario.newcomers and counts[winner] - runner_up <= scenario.newcomers:
            return False
    return bool(possible)


def defined_budget(ballot: Ballot, holds) -> int:
    radius = 0
    for budget in range(
        max(1, len(ballot.passages.failed_sources)), len(ballot.passages.slots) + 2
    ):
        if not holds(budget):
            break
        radius = budget
    return radius


@st.composite
def ballots(draw: st.DrawFn) -> Ballot:
    size = draw(st.integers(0, 9))
    names = draw(st.integers(1, 9))
    sources = draw(st.lists(st.integers(0, names - 1), min_size=size, max_size=size))
    answers = draw(st.lists(st.sampled_from([*"aaabc", None]), min_size=size, max_size=size))
    failed = draw(st.lists(st.sampled_from([False] * 5 + [True]), min_size=size, max_size=size))
    listed = PassageList(
        tuple(f"s{source}" for source in sources),
        tuple(failed),
        size + draw(st.sampled_from([0, 0, 1, 2, 5])),
    )
    given = tuple(None if bad else answer for answer, bad in zip(answers, failed, strict=True))
    return Ballot(listed, given, draw(st.sampled_from([None, ("a", "b", "c", "d")])))


@settings(max_examples=1000, deadline=None)
@given(ballots(), st.integers(1, 4))
def test_the_budget_is_the_defined_one(ballot: Ballot, each: int):
    for budget in range(len(ballot.passages.sources) + 4):
        assert withstands_modification(ballot, budget) == defined_modification(ballot, budget)
        assert withstands_injection(ballot, budget, each) == defined_injection(ballot, budget, each)
    found = certified_budget(ballot, PassageModification(1))
    assert found == defined_budget(ballot, lambda k: defined_modification(ballot, k))
    found = certified_budget(ballot, PassageInjection(1, each))
    assert found == defined_budget(ballot, lambda k: defined_injection(ballot, k, each))


@pytest.mark.parametrize("size", [60, 90])
@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("room", [0, 7])
def test_longer_lists(size, chunk, room):
    draw = random.Random(size + chunk + room)
    for share in (0.5, 0.8):
        answers = tuple("a" if draw.random() < share else draw.choice("bcd") for _ in range(size))
        sources = tuple(f"s{i // chunk}" for i in range(size))
        listed = PassageList(sources, (False,) * (size - 1) + (True,), size + room)
        ballot = Ballot(listed, (*answers[:-1], None))
        found = certified_budget(ballot, PassageModification(1))
        assert found == defined_budget(ballot, lambda k, b=ballot: defined_modification(b, k))
        for each in (1, 2):
            found = certified_budget(ballot, PassageInjection(1, each))
            assert found == defined_budget(
                ballot, lambda k, b=ballot, each=each: defined_injection(b, k, each)
            )


@pytest.mark.parametrize("threat", [PassageModification(1), PassageInjection(1, 3)])
def test_a_thousand_passages_take_no_time(threat):
    """The definition takes most of a minute."""
    draw = random.Random(0)
    answers = tuple("a" if draw.random() < 0.7 else str(draw.random()) for _ in range(1000))
    listed = PassageList(tuple(f"s{i // 2}" for i in range(1000)), (False,) * 1000, 1000)
    began = time.perf_counter()
    certified_budget(Ballot(listed, answers), threat)
    assert time.perf_counter() - began < 5
