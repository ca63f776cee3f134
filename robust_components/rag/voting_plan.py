"""Voting as a plan: count the votes, find the certified budget, keep the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from robust_components.answers import is_abstention, normalise_answer, normalised_contains_gold
from robust_components.models.protocols import Reading
from robust_components.rag.outcome import Isolated, Outcome, Reachable, Threat, passages_evidence
from robust_components.rag.plan import Plan
from robust_components.rag.voting import ANY_OTHER, Ballot, certified_budget, reachable_answers


class VotingAggregator:
    """One vote a source for its normalised answer; the majority wins."""

    method = "voting"
    reads_tokens = False

    def __init__(self, choices: Sequence[str] | None = None) -> None:
        self.choices = None if choices is None else _checked_choices(choices)

    def load(self) -> None:
        """Nothing to load."""

    def parameters(self) -> dict[str, Any]:
        return {} if self.choices is None else {"choices": list(self.choices)}

    def certify(
        self,
        query: str,
        isolated: Isolated,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
        on_token: Any = None,
    ) -> Plan[Outcome]:
        yield from ()
        ballot = Ballot(
            isolated.passages,
            self._answers(isolated.readings),
            self.choices,
            tuple(reading.probability or 0.0 for reading in isolated.readings),
        )
        winner = ballot.winner()
        radius, reachable = certified_budget(ballot, threat), None
        counts = ballot.counts()
        evidence = {
            **passages_evidence(isolated.passages, ballot.answers),
            "answer": winner,
            "votes": dict(counts.most_common()),
            "honest_support": max(0, counts[winner] - max(radius, threat.budget)) if winner else 0,
        }
        if gold is not None:
            reachable = _reachable(ballot, threat)
            evidence["gold"] = list(gold)
            evidence["tau"] = reachable.lowest(partial(normalised_contains_gold, gold=gold))
        votes = ballot.votes()
        return Outcome(
            answer=_surface(winner, ballot, isolated.readings),
            radius=radius,
            reason=_voting_reason(ballot, winner, radius),
            evidence=evidence,
            votes=tuple(
                (vote, None if vote is None else vote == winner)
                for vote in (votes[source] for source in isolated.passages.sources)
            ),
            reachable=reachable,
        )

    def _answers(self, readings: Sequence[Reading]) -> tuple[str | None, ...]:
        answers = [None if r.answer is None else normalise_answer(r.answer) for r in readings]
        if self.choices is None:
            return tuple(answers)
        return tuple(answer if answer in self.choices else None for answer in answers)


def _reachable(ballot: Ballot, threat: Threat) -> Reachable:
    """Reachable answers; one that no source gives stands for all such and ends the list."""
    reached, winner = reachable_answers(ballot, threat, threat.budget), ballot.winner()
    answers = tuple(
        sorted(reached - {ANY_OTHER}, key=lambda answer: (answer != winner, answer or ""))
    )
    if len(ballot.passages.failed_sources) > threat.budget:
        return Reachable(answers, "more sources failed than the budget allows")
    if ANY_OTHER in reached:
        return Reachable(answers, "an answer that no source gives can win")
    return Reachable(answers)


def _checked_choices(choices: Any) -> tuple[str, ...]:
    """The normalised choices; raises naming what is wrong with them."""
    listed = list(choices) if isinstance(choices, Iterable) and not isinstance(choices, str) else []
    texts = [str(choice) for choice in listed if isinstance(choice, str) and choice.strip()]
    normalised = tuple(dict.fromkeys(map(normalise_answer, texts)))
    if len(texts) < len(listed) or len(normalised) < 2:
        raise ValueError(
            f"choices must be at least 2 different answers, got {choices!r}; "
            "pass strings in a list, or None for open answers"
        )
    silent = [text for text in texts if is_abstention(text)]
    if silent:
        raise ValueError(
            f"choices must not hold {silent[0]!r}, which counts as an abstention; rename it"
        )
    return normalised


def _surface(winner: str | None, ballot: Ballot, readings: Sequence[Reading]) -> str | None:
    """The winning answer as most of its supporters write it; of several, the best-ranked."""
    if winner is None:
        return None
    votes = ballot.votes()
    written = {
        source: reading.answer
        for source, answer, reading in zip(
            ballot.passages.sources, ballot.answers, readings, strict=True
        )
        if answer == winner == votes[source]
    }
    return Counter(written.values()).most_common(1)[0][0]


def _voting_reason(ballot: Ballot, winner: str | None, radius: int) -> str:
    failed = len(ballot.passages.failed_sources)
    if not ballot.answers:
        return "there are no passages"
    if winner is None:
        return "no source votes: all abstain, fail or contradict themselves"
    counts = ballot.counts()
    first = counts.pop(winner)
    second = counts.most_common(1)
    others = "none says anything else"
    if second:
        others = f"{second[0][1]} {'says' if second[0][1] == 1 else 'say'} {second[0][0]!r}"
    lost = f" and {failed} failed" if failed else ""
    hostile = max(radius + 1, failed)
    return (
        f"{first} source{'s say' if first > 1 else ' says'} {winner!r}, {others}{lost}: "
        f"{hostile} hostile source{'s' if hostile > 1 else ''} could change the answer"
    )
