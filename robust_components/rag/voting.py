"""Majority voting over sources, and the largest number of hostile sources it withstands.

The certificate is exact: the certified budget is the largest for which no attack changes the
answer. It needs no model call. Ties go to the answer whose supporters the model is surer of, then
to the one whose first supporter ranks highest. A hostile passage may take any rank and make the
model as sure as it likes, so every tie is lost once an attacker votes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from robust_components.rag.scenarios import (
    PassageList,
    Scenario,
    by_source,
    scenarios,
)
from robust_components.threats import PassageInjection, PassageModification

MAX_SCENARIOS = 20_000
ANY_OTHER = "\x00any other answer"
"""Stands for an answer nobody gave yet; not a possible normalised answer."""


@dataclass(frozen=True)
class Ballot:
    """One normalised answer a passage (``None``: no vote), in the list an attacker sees.

    ``choices`` closes the set of answers; ``None`` leaves it open. ``probabilities`` are the
    model's own for each answer, 0 where it has none; they break ties and nothing else.
    """

    passages: PassageList
    answers: tuple[str | None, ...]
    choices: tuple[str, ...] | None = None
    probabilities: tuple[float, ...] | None = None

    def votes(self, kept: Sequence[int] | None = None) -> dict[str, str | None]:
        """Each source's one vote: what its passages agree on, else ``None``."""
        failed = self.passages.failed_sources
        if kept is None:
            kept = range(len(self.answers))
        votes: dict[str, str | None] = {}
        for source, members in by_source(self.passages.sources, kept).items():
            given = {self.answers[i] for i in members} - {None}
            agreed = len(given) == 1 and source not in failed
            votes[source] = given.pop() if agreed else None
        return votes

    def counts(self, kept: Sequence[int] | None = None) -> Counter[str]:
        return Counter(vote for vote in self.votes(kept).values() if vote is not None)

    def winner(self) -> str | None:
        """The answer with most votes, or ``None`` when no source votes."""
        votes = self.votes()
        counts = self.counts()
        first: dict[str, int] = {}
        weight: dict[str, float] = {}
        for position, source in enumerate(self.passages.sources):
            vote = votes[source]
            if vote is not None:
                first.setdefault(vote, position)
                if self.probabilities is not None and self.answers[position] is not None:
                    weight[vote] = weight.get(vote, 0.0) + self.probabilities[position]
        if not counts:
            return None
        return min(counts, key=lambda a: (-counts[a], -weight.get(a, 0.0), first[a], a))

    def rivals(self, winner: str) -> list[str]:
        """Every answer that could replace ``winner``; one stands for all nobody gave."""
        if self.choices is not None:
            return [choice for choice in self.choices if choice != winner]
        given = {answer for answer in self.answers if answer is not None}
        return [*sorted(given - {winner}), ANY_OTHER]


def withstands_modification(ballot: Ballot, budget: int) -> bool:
    """Whether no ``budget`` sources, rewritten or hostile already, could change the winner."""
    left = budget - len(ballot.passages.failed_sources)
    return 0 <= left < _least_modified(ballot)


def withstands_injection(ballot: Ballot, budget: int, passages_per_source: int) -> bool:
    """Whether no ``budget`` new sources, injected into the clean list, could change the winner."""
    left = budget - len(ballot.passages.failed_sources)
    return 0 <= left < _least_injected(ballot, passages_per_source)


def withstands(ballot: Ballot, threat: PassageInjection | PassageModification, budget: int) -> bool:
    """Whether the winner stays under ``threat`` with ``budget`` sources."""
    if isinstance(threat, PassageInjection):
        return withstands_injection(ballot, budget, threat.passages_per_source)
    return withstands_modification(ballot, budget)


def certified_budget(ballot: Ballot, threat: PassageInjection | PassageModification) -> int:
    """Largest number of hostile sources that cannot change the winner; 0 if there is none."""
    if isinstance(threat, PassageInjection):
        least = _least_injected(ballot, threat.passages_per_source)
    else:
        least = _least_modified(ballot)
    failed = len(ballot.passages.failed_sources)
    most = len(ballot.passages.slots) + 1
    return int(min(failed + least - 1, most)) if least > 0 else 0


def _least_modified(ballot: Ballot) -> float:
    """Fewest hostile sources, besides failed ones, that can change the winner; ``inf`` if none can.

    For each rival the worst attack takes the sources with the largest ``[votes winner] - [votes
    rival] + slots``, gives every freed slot to the rival, and while the list has room adds sources
    at 1 each. Rivals whose supporters hold equally many slots are looked at once.
    """
    winner = ballot.winner()
    if winner is None:
        return 0
    passages, votes, slots = ballot.passages, ballot.votes(), ballot.passages.slots
    failed = passages.failed_sources
    gains = Counter({1: passages.top_k - len(passages.sources)})
    backing = 0
    supporters: dict[str | None, list[int]] = {}
    for source in slots.keys() - failed:
        vote = votes[source]
        gains[slots[source] + (vote == winner)] += 1
        backing += vote == winner
        supporters.setdefault(vote, []).append(slots[source])
    lead = backing - sum(slots[source] for source in failed)
    profiles = {tuple(sorted(supporters.get(rival, ()))) for rival in ballot.rivals(winner)}
    return min(
        (_fewest(gains, profile, lead - len(profile)) for profile in profiles), default=math.inf
    )


def _fewest(gains: Counter[int], supporters: Sequence[int], lead: int) -> float:
    """Fewest sources that make up for ``lead``.

    Args:
        gains: how many sources gain how much.
        supporters: slots of the rival's own, who gain one less.
    """
    own = gains.copy()
    for held in supporters:
        own[held] -= 1
        own[held - 1] += 1
    taken = 0
    for gain in sorted(own, reverse=True):
        if lead <= 0 or gain == 0:
            break
        number = min(own[gain], -(-lead // gain))
        lead -= number * gain
        taken += number
    return taken if lead <= 0 else math.inf


def _least_injected(ballot: Ballot, passages_per_source: int) -> float:
    """Fewest new sources that can change the winner; ``inf`` if none can.

    Goes through the number of passages pushed out of the list. While there is room none is.
    """
    winner = ballot.winner()
    if winner is None:
        return 0
    passages = ballot.passages
    length, room = len(passages.sources), passages.top_k - len(passages.sources)
    least = math.inf
    for kept, (lead, failed) in enumerate(_surviving(ballot, winner)):
        missing = max(lead, 1) - failed  # without an arbitrary source nothing was injected
        injected = room + length - kept
        if missing <= injected:
            needed = -(-injected // passages_per_source) if kept < length else 0
            least = min(least, max(needed, missing, 0))
    return least


def _surviving(ballot: Ballot, winner: str) -> Iterator[tuple[int, int]]:
    """Lead over the strongest rival, and failed sources, in the first 0, 1, 2, ... passages."""
    rivals, failing = set(ballot.rivals(winner)), ballot.passages.failed_sources
    said: dict[str, set[str]] = {}
    failed: set[str] = set()
    counts: Counter[str] = Counter()
    sizes: Counter[int] = Counter()  # how many rivals have how many votes
    first = 0

    def add(answer: str, votes: int) -> None:
        nonlocal first
        sizes[counts[answer]] -= answer in rivals
        counts[answer] += votes
        sizes[counts[answer]] += answer in rivals
        if answer in rivals:
            first = max(first, counts[answer])
        while first and not sizes[first]:
            first -= 1

    yield 0, 0
    for source, answer in zip(ballot.passages.sources, ballot.answers, strict=True):
        if source in failing:
            failed.add(source)
        elif answer is not None:
            given = said.setdefault(source, set())
            if answer not in given:
                if len(given) == 1:
                    add(next(iter(given)), -1)
                elif not given:
                    add(answer, 1)
                given.add(answer)
        yield counts[winner] - first, len(failed)


def reachable_answers(
    ballot: Ballot, threat: PassageInjection | PassageModification, budget: int
) -> frozenset[str | None]:
    """Every answer some attack within ``budget`` leads to: R of the paper's Definition 1.

    ``ANY_OTHER`` stands for all answers nobody gave, ``None`` for abstention. Enumerates the
    removal subsets; where they are too many, any answer counts as reachable.
    """
    reached: set[str | None] = {ballot.winner()}
    if withstands(ballot, threat, budget):
        return frozenset(reached)
    for count, scenario in enumerate(scenarios(ballot.passages, threat, budget)):
        if count == MAX_SCENARIOS:
            return frozenset({*reached, ANY_OTHER})
        reached.update(_reachable_in(ballot, scenario))
        modified = not isinstance(threat, PassageInjection)
        if modified and ballot.counts(scenario.kept).total() <= scenario.newcomers:
            reached.add(None)  # each newcomer is one more passage of a voter, and contradicts it
    return frozenset(reached)


def _reachable_in(ballot: Ballot, scenario: Scenario) -> Iterable[str | None]:
    if not scenario.newcomers:
        return
    counts = ballot.counts(scenario.kept)
    if not counts:
        yield None
    candidates = set(counts) | set(ballot.choices if ballot.choices is not None else [ANY_OTHER])
    for answer in candidates:
        others = max((n for rival, n in counts.items() if rival != answer), default=0)
        if counts[answer] + scenario.newcomers >= others:
            yield answer
