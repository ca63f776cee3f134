"""The arithmetic of secure decoding: every token leads, or is held back, in every scenario.

Evidence: ``scale`` (units in a probability of 1), ``eta`` (decimal text), ``margin`` (units),
``sources``, ``failed`` and ``responds`` (for each passage its source's number, and 0 or 1),
``voters`` (sets of passages of one source with one vote), and ``steps``: for each emitted token
the ``text`` it adds to the answer, its ``rule``, its ``radius``, and its ``duels``, each with one
integer a voter.

With eta = p/q a token stays in a scenario with voters B and e arbitrary sources if every duel's
``sum over B of (q*v - s*p*scale) - e*(q + s*p)*scale`` exceeds q*margin (rule "wins", s = 1), or
is at least q*margin (rule "holds", s = -1). If a source holds several passages, a passage that
takes a freed slot may join a listed source, where it moves a lead by up to 1 and raises no
threshold: under modification an arbitrary source then costs at least q*scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from robust_components.verification.claims import MAX_TEXT, common_problems
from robust_components.verification.passages import (
    MAX_PASSAGES,
    RankedList,
    injections,
    largest_budget,
)
from robust_components.verification.reading import (
    UnverifiableError,
    Work,
    entry,
    listing,
    rational,
    shown,
    text_or_null,
    whole,
)
from robust_components.verification.texts import abstains, normal_form

MAX_STEPS = 10_000
MAX_UNITS = 2**60
SCALE = 2**40
RULES = {"wins": 1, "holds": -1}


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a decoding certificate, one sentence each."""
    evidence = certificate["evidence"]
    listed, votes = _list(certificate), _Votes.read(evidence)
    answer = text_or_null(entry(evidence, "answer", "evidence"), "evidence['answer']")
    steps = listing(entry(evidence, "steps", "evidence"), "evidence['steps']", MAX_STEPS)
    yield from _setting_problems(certificate, votes, len(steps))
    radii, pieces = [], []
    work = Work()
    for place, step in enumerate(steps):
        if not isinstance(step, dict):
            raise UnverifiableError(f"evidence['steps'][{place}] must be an object.")
        radii.append(_step_radius(certificate["threat"], listed, votes, step, work))
        if step.get("radius") != radii[-1]:
            yield (
                f"Step {place + 1} states radius {shown(step.get('radius'))}, but {radii[-1]} "
                "follows from its duels."
            )
        pieces.append(text_or_null(entry(step, "text", "a step"), "the text of a step") or "")
    text = "".join(pieces)
    if len(text) > MAX_TEXT:
        raise UnverifiableError(f"The steps spell {len(text)} characters; too many to check.")
    spelled = None if abstains(text) else normal_form(text)
    if answer != spelled:
        yield f"evidence['answer'] is {shown(answer)}, but the steps spell {shown(text)}."
    radius = min(radii, default=0)
    yield from common_problems(certificate, listed, answer, radius)


def _setting_problems(certificate: Mapping[str, Any], votes: _Votes, steps: int) -> Iterator[str]:
    """Whether the evidence was made with the parameters."""
    parameters = certificate["parameters"]
    eta = rational(entry(parameters, "eta", "parameters"), "parameters['eta']")
    if eta != Fraction(votes.numerator, votes.denominator):
        yield f"parameters['eta'] is {eta}, but the evidence was made with another one."
    margin = rational(
        entry(parameters, "numerical_margin", "parameters"), "parameters['numerical_margin']"
    )
    if votes.margin < margin * votes.scale:
        yield f"The margin in the evidence is below {margin}, the one in the parameters."
    longest = entry(parameters, "max_tokens", "parameters")
    if steps > whole(longest, "parameters['max_tokens']", 1):
        yield f"There are {steps} steps, more than max_tokens."


def _list(certificate: Mapping[str, Any]) -> RankedList:
    evidence = certificate["evidence"]
    owners = [
        whole(owner, "a source's number", 0, MAX_PASSAGES)
        for owner in listing(entry(evidence, "sources", "evidence"), "sources", MAX_PASSAGES)
    ]
    count = max(owners, default=-1) + 1
    if set(owners) != set(range(count)):
        raise UnverifiableError("evidence['sources'] must number the sources from 0.")
    failed = {
        o for o, bad in zip(owners, _marks(evidence, "failed", len(owners)), strict=True) if bad
    }
    top_k = whole(entry(certificate["parameters"], "top_k", "parameters"), "parameters['top_k']")
    if top_k < len(owners) or evidence.get("top_k", top_k) != top_k:
        raise UnverifiableError(f"top_k is {top_k}, but the list holds {len(owners)} passages.")
    responds = _marks(evidence, "responds", len(owners))
    slots = tuple(owners.count(source) for source in range(count))
    return RankedList(tuple(owners), tuple(responds), frozenset(failed), slots, top_k - len(owners))


def _marks(evidence: Mapping[str, Any], name: str, length: int) -> list[int]:
    marks = listing(entry(evidence, name, "evidence"), f"evidence[{name!r}]", MAX_PASSAGES)
    if len(marks) != length:
        raise UnverifiableError(f"evidence[{name!r}] must have one entry a passage.")
    return [whole(mark, f"an entry of evidence[{name!r}]", 0, 1) for mark in marks]


@dataclass(frozen=True)
class _Votes:
    """Settings of the threshold, and the place of each voter in a duel."""

    scale: int
    numerator: int
    denominator: int
    margin: int
    places: dict[tuple[int, ...], int]

    @classmethod
    def read(cls, evidence: Mapping[str, Any]) -> _Votes:
        eta = rational(entry(evidence, "eta", "evidence"), "evidence['eta']")
        if not eta < 1:
            raise UnverifiableError(f"evidence['eta'] must be below 1, got {eta}.")
        voters = listing(entry(evidence, "voters", "evidence"), "evidence['voters']", MAX_PASSAGES)
        places = {
            tuple(
                whole(i, "a voter's passage", 0, MAX_PASSAGES)
                for i in listing(v, "a voter", MAX_PASSAGES)
            ): at
            for at, v in enumerate(voters)
        }
        if len(places) != len(voters):
            raise UnverifiableError("evidence['voters'] must not name a voter twice.")
        return cls(
            whole(entry(evidence, "scale", "evidence"), "evidence['scale']", SCALE, SCALE),
            eta.numerator,
            eta.denominator,
            whole(entry(evidence, "margin", "evidence"), "evidence['margin']", 0, MAX_UNITS),
            places,
        )

    def of(self, listed: RankedList, length: int) -> dict[int, int]:
        """The place of each voting source's voter when the first ``length`` passages stay."""
        members: dict[int, list[int]] = {}
        for passage in range(length):
            owner = listed.owners[passage]
            if listed.responses[passage] and owner not in listed.failed:
                members.setdefault(owner, []).append(passage)
        try:
            return {owner: self.places[tuple(chosen)] for owner, chosen in members.items()}
        except KeyError as voter:
            raise UnverifiableError(f"evidence['voters'] lacks the passages {voter}.") from None


def _step_radius(
    threat: Mapping[str, Any],
    listed: RankedList,
    votes: _Votes,
    step: Mapping[str, Any],
    work: Work,
) -> int:
    rule = step.get("rule")
    if rule not in RULES:
        raise UnverifiableError(f"The rule {shown(rule)} is unknown.")
    shift = RULES[rule] * votes.numerator * votes.scale
    cost = votes.denominator * votes.scale + shift
    if listed.chunked and threat["kind"] == "passage_modification":
        cost = max(cost, votes.denominator * votes.scale)
    least = votes.denominator * votes.margin + (rule == "wins")
    totals = []
    for duel in listing(entry(step, "duels", "a step"), "a step's duels", MAX_PASSAGES):
        if len(listing(duel, "a duel", MAX_PASSAGES)) != len(votes.places):
            raise UnverifiableError("A duel must have one number a voter.")
        work.spend(len(duel) * (len(listed.owners) + 1))
        values = [
            whole(v, "a number of a duel", -votes.scale, votes.scale) * votes.denominator - shift
            for v in duel
        ]
        if threat["kind"] == "passage_injection":
            totals.append(_left_after_injection(listed, votes, values))
        else:
            totals.append(_left_after_removal(listed, votes, values, cost))
    if not totals:
        raise UnverifiableError("A step must have at least one duel.")

    def stays(budget: int) -> bool:
        if threat["kind"] == "passage_injection":
            return all(
                total[length] - arbitrary * cost >= least
                for length, arbitrary in injections(listed, budget, threat["passages_per_source"])
                for total in totals
            )
        left = budget - len(listed.failed)
        return all(
            value - min(left - hostile, listed.room) * cost >= least
            for total in totals
            for hostile, value in enumerate(total[: left + 1])
        )

    return largest_budget(listed, stays)


def _left_after_injection(listed: RankedList, votes: _Votes, values: Sequence[int]) -> list[int]:
    """A duel's total when only the first 0, 1, 2, ... passages stay."""
    return [
        sum(values[place] for place in votes.of(listed, length).values())
        for length in range(len(listed.owners) + 1)
    ]


def _left_after_removal(
    listed: RankedList, votes: _Votes, values: Sequence[int], cost: int
) -> list[int]:
    """A duel's least total when 0, 1, 2, ... healthy sources are hostile.

    A hostile source takes its value along, and each slot it held goes to an arbitrary source.
    """
    places = votes.of(listed, len(listed.owners))
    given_up = cost * sum(listed.slots[source] for source in listed.failed)
    least = [sum(values[place] for place in places.values()) - given_up]
    for source in listed.healthy:
        loss = (values[places[source]] if source in places else 0) + cost * listed.slots[source]
        hostile = [total - loss for total in least]
        least = [
            least[0],
            *(min(pair) for pair in zip(least[1:], hostile, strict=False)),
            hostile[-1],
        ]
    return least
