"""Majority voting over sources, and the largest number of hostile sources it withstands.

The certificate is exact: the certified budget is the largest for which no attack changes the
answer. It needs no model call. Ties go to the answer whose supporters the model is surer of, then
to the one whose first supporter ranks highest. A hostile passage may take any rank and make the
model as sure as it likes, so every tie is lost once an attacker votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from robust_components.rag.scenarios import (
    PassageList,
    Scenario,
    by_source,
    injection_scenarios,
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
    """Whether no ``budget`` sources, rewritten or hostile already, could change the winner.

    For each rival the worst attack removes the sources with the largest
    ``[votes winner] - [votes rival] + slots`` and gives every freed slot to the rival.
    """
    winner = ballot.winner()
    if winner is None:
        return False
    passages = ballot.passages
    left = budget - len(passages.failed_sources)
    if left < 0:
        return False
    votes, counts, slots = ballot.votes(), ballot.counts(), passages.slots
    freed_by_failures = sum(slots[source] for source in passages.failed_sources)
    healthy = [source for source in slots if source not in passages.failed_sources]
    room = passages.top_k - len(passages.sources)
    for rival in ballot.rivals(winner):
        gains = sorted(
            (
                (votes[source] == winner) - (votes[source] == rival) + slots[source]
                for source in healthy
            ),
            reverse=True,
        )
        worst = max(
            sum(gains[:removed]) + min(left - removed, room)
            for removed in range(min(left, len(gains)) + 1)
        )
        lead = counts[winner] - counts[rival] - freed_by_failures
        if lead <= worst:
            return False
    return True


def withstands_injection(ballot: Ballot, budget: int, passages_per_source: int) -> bool:
    """Whether no ``budget`` new sources, injected into the clean list, could change the winner."""
    winner = ballot.winner()
    if winner is None:
        return False
    possible = list(injection_scenarios(ballot.passages, budget, passages_per_source))
    for scenario in possible:
        counts = ballot.counts(scenario.kept)
        runner_up = max((counts[rival] for rival in ballot.rivals(winner)), default=0)
        if scenario.newcomers and counts[winner] - runner_up <= scenario.newcomers:
            return False
    return bool(possible)


def withstands(ballot: Ballot, threat: PassageInjection | PassageModification, budget: int) -> bool:
    """Whether the winner stays under ``threat`` with ``budget`` sources."""
    if isinstance(threat, PassageInjection):
        return withstands_injection(ballot, budget, threat.passages_per_source)
    return withstands_modification(ballot, budget)


def certified_budget(ballot: Ballot, threat: PassageInjection | PassageModification) -> int:
    """Largest number of hostile sources that cannot change the winner; 0 if there is none."""
    first = max(1, len(ballot.passages.failed_sources))
    radius = 0
    for budget in range(first, len(ballot.passages.slots) + 2):
        if not withstands(ballot, threat, budget):
            break
        radius = budget
    return radius


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
