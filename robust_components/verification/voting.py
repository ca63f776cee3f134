"""The arithmetic of majority voting: one vote a source, every tie lost to an attacker.

Evidence: ``sources`` (names), ``passages`` (rows [source, normalised answer or null, failed], best
rank first), ``answer``, ``votes`` (answer: number of sources) and ``honest_support``, the sources
that must be honest supporters if no more than the larger of radius and budget are hostile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from robust_components.verification.claims import common_problems
from robust_components.verification.passages import (
    MAX_PASSAGES,
    RankedList,
    injections,
    largest_budget,
    ranked_list,
)
from robust_components.verification.reading import (
    UnverifiableError,
    Work,
    distinct_texts,
    entry,
    shown,
    text_or_null,
)

Rival = str | None
"""An answer that could replace the winner; ``None`` is one that nobody gave so far."""


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a voting certificate, one sentence each."""
    evidence = certificate["evidence"]
    listed = ranked_list(certificate, text_or_null)
    choices = _choices(certificate["parameters"], listed)
    votes = votes_of(listed, len(listed.owners))
    counts = Counter(votes.values())
    winner = text_or_null(entry(evidence, "answer", "evidence"), "evidence['answer']")
    leaders = _leaders(counts)
    if winner not in leaders and (leaders or winner is not None):
        yield f"evidence['answer'] is {shown(winner)}, but {shown(sorted(leaders))} lead."
    if not _same_counts(entry(evidence, "votes", "evidence"), counts):
        yield "evidence['votes'] differs from the votes of the passages."
    radius = 0 if winner is None else _radius(certificate["threat"], listed, winner, choices)
    hostile = max(certificate["radius"], certificate["threat"]["budget"])
    support = max(0, counts[winner] - hostile) if winner is not None else 0
    stated = entry(evidence, "honest_support", "evidence")
    if isinstance(stated, bool) or stated != support:
        yield f"evidence['honest_support'] is {shown(stated)}, but {support} sources are left."
    yield from common_problems(certificate, listed, winner, radius)


def _choices(parameters: Mapping[str, Any], listed: RankedList) -> list[str] | None:
    if parameters.get("choices") is None:
        return None
    choices = distinct_texts(parameters["choices"], "parameters['choices']", MAX_PASSAGES)
    if len(choices) < 2:
        raise UnverifiableError("parameters['choices'] must hold at least 2 answers.")
    if not set(listed.responses) <= {*choices, None}:
        raise UnverifiableError(
            "evidence['passages'] holds an answer that is not among the choices."
        )
    return choices


def votes_of(listed: RankedList, length: int) -> dict[int, str]:
    """The vote of each source that has one, from the first ``length`` passages.

    A source votes for what all its answering passages say; a failed source does not vote.
    """
    said: dict[int, set[str]] = {}
    for owner, answer in zip(listed.owners[:length], listed.responses, strict=False):
        if answer is not None and owner not in listed.failed:
            said.setdefault(owner, set()).add(answer)
    return {owner: min(answers) for owner, answers in said.items() if len(answers) == 1}


def _leaders(counts: Counter[str]) -> set[str]:
    """The answers with most votes. Whichever of several is chosen, its radius is 0."""
    most = max(counts.values(), default=0)
    return {answer for answer, count in counts.items() if count == most}


def _same_counts(stated: Any, counts: Counter[str]) -> bool:
    return (
        isinstance(stated, dict)
        and stated == dict(counts)
        and all(type(count) is int for count in stated.values())
    )


def _radius(
    threat: Mapping[str, Any], listed: RankedList, winner: str, choices: list[str] | None
) -> int:
    if threat["kind"] == "passage_injection":
        each, left = threat["passages_per_source"], _surviving_leads(listed, winner, choices)
        return largest_budget(listed, lambda k: _withstands_injection(listed, left, k, each))
    least = list(_least_leads(listed, winner, choices))
    return largest_budget(listed, lambda k: _withstands_modification(listed, least, k))


def _rivals(winner: str, votes: Mapping[int, str], choices: list[str] | None) -> set[Rival]:
    rivals: set[Rival] = {*votes.values(), None} if choices is None else {*choices}
    return rivals - {winner}


def _surviving_leads(listed: RankedList, winner: str, choices: list[str] | None) -> list[int]:
    """The winner's lead over its strongest rival when only the first 0, 1, 2, ... passages stay."""
    leads = []
    for length in range(len(listed.owners) + 1):
        votes = votes_of(listed, length)
        counts: Counter[Rival] = Counter(votes.values())
        leads.append(counts[winner] - max(counts[r] for r in _rivals(winner, votes, choices)))
    return leads


def _withstands_injection(listed: RankedList, leads: list[int], budget: int, each: int) -> bool:
    """All arbitrary sources vote for the strongest rival of what survives.

    Without an arbitrary source nothing was injected and the answer is the one at hand.
    """
    return all(
        leads[length] > arbitrary or not arbitrary
        for length, arbitrary in injections(listed, budget, each)
    )


def _least_leads(listed: RankedList, winner: str, choices: list[str] | None) -> Iterator[list[int]]:
    """For each rival, the winner's least lead when 0, 1, 2, ... healthy sources are hostile.

    A hostile source takes its vote along, and each slot it held votes for the rival. The lead is a
    sum over sources, so the least one for j hostile among the first i sources is the lesser of
    those where source i is honest (j among i - 1) and where it is hostile (j - 1 among i - 1).
    Rivals whose supporters hold equally many slots have equal leads and are looked at once.
    """
    votes, work, seen = votes_of(listed, len(listed.owners)), Work(), set()
    given_up = sum(listed.slots[source] for source in listed.failed)
    for rival in _rivals(winner, votes, choices):
        supporters = [source for source, vote in votes.items() if vote == rival]
        profile = tuple(sorted(listed.slots[source] for source in supporters))
        if profile in seen:
            continue
        seen.add(profile)
        backing = sum(vote == winner for vote in votes.values())
        least = [backing - len(supporters) - given_up]
        for source in listed.healthy:
            work.spend(len(least))
            vote = votes.get(source)
            cost = listed.slots[source]
            if vote is not None:
                cost += (vote == winner) - (vote == rival)
            hostile = [lead - cost for lead in least]
            least = [
                least[0],
                *(min(pair) for pair in zip(least[1:], hostile, strict=False)),
                hostile[-1],
            ]
        yield least


def _withstands_modification(listed: RankedList, leads: list[list[int]], budget: int) -> bool:
    """Budget not spent on sources in the list brings one more source each while there is room."""
    left = budget - len(listed.failed)
    return all(
        lead > min(left - hostile, listed.room)
        for least in leads
        for hostile, lead in enumerate(least[: left + 1])
    )
