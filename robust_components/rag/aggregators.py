"""Voting and keyword aggregation as plans: aggregate, find the certified budget, keep evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from robust_components.answers import contains_gold, normalise_answer
from robust_components.models.protocols import Reading
from robust_components.rag.keyword_aggregation import (
    KeywordResponses,
    KeywordSet,
    Reachable,
    Threshold,
    reachable_keyword_sets,
)
from robust_components.rag.keywords import SpacyKeywords
from robust_components.rag.plan import CombineRequest, Plan
from robust_components.rag.scenarios import PassageList
from robust_components.rag.voting import ANY_OTHER, Ballot, certified_budget, reachable_answers
from robust_components.threats import PassageInjection, PassageModification

Threat = PassageInjection | PassageModification
FINAL_CALLS_AT_ONCE = 8


class IsolatedResponses(Protocol):
    """The list that was read, and one reading for each of its passages."""

    @property
    def passages(self) -> PassageList: ...

    @property
    def readings(self) -> tuple[Reading, ...]: ...


@dataclass(frozen=True)
class Outcome:
    """An aggregated answer and what is certified about it.

    Attributes:
        answer: the answer as written, or ``None`` for an abstention.
        radius: largest certified budget.
        reason: why the next budget is not certified.
        evidence: for the certificate.
        votes: for each passage read, its source's normalised vote and whether it supports.
        keywords: kept keywords.
        extra_readings: readings made for the final calls.
    """

    answer: str | None
    radius: int
    reason: str | None
    evidence: dict[str, Any]
    votes: tuple[tuple[str | None, bool | None], ...]
    keywords: tuple[str, ...] = ()
    extra_readings: tuple[Reading, ...] = ()


class Aggregator(Protocol):
    def load(self) -> None: ...

    def parameters(self) -> dict[str, Any]: ...

    def certify(
        self,
        query: str,
        isolated: IsolatedResponses,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
    ) -> Plan[Outcome]: ...


def make_aggregator(aggregation: str, **options: Any) -> Aggregator:
    """The aggregator of that name.

    Raises:
        ValueError: no such aggregation, or an option outside its range.
    """
    threshold = Threshold.from_decimals(options["alpha"], options["beta"])
    if aggregation == "voting":
        return VotingAggregator(options["choices"])
    if aggregation == "keyword":
        return KeywordAggregator(
            threshold,
            options["keyword_extractor"] or SpacyKeywords(),
            options["max_optional_keywords"],
            options["max_final_calls"],
        )
    raise ValueError(
        f"aggregation must be 'voting' or 'keyword', got {aggregation!r}; choose one"
    )


class VotingAggregator:
    """One vote a source for its normalised answer; the majority wins."""

    def __init__(self, choices: Sequence[str] | None = None) -> None:
        if isinstance(choices, str) or (
            choices is not None and len({normalise_answer(c) for c in choices}) < 2
        ):
            raise ValueError(
                f"choices must be at least 2 different answers, got {choices!r}; "
                "pass a list, or None for open answers"
            )
        self.choices = None if choices is None else tuple(dict.fromkeys(map(normalise_answer, choices)))

    def load(self) -> None:
        """Nothing to load."""

    def parameters(self) -> dict[str, Any]:
        return {} if self.choices is None else {"choices": list(self.choices)}

    def certify(
        self,
        query: str,
        isolated: IsolatedResponses,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
    ) -> Plan[Outcome]:
        yield from ()
        ballot = Ballot(isolated.passages, self._answers(isolated.readings), self.choices)
        winner = ballot.winner()
        radius = certified_budget(ballot, threat)
        counts = ballot.counts()
        evidence = {
            **_passages_evidence(isolated.passages, ballot.answers),
            "answer": winner,
            "votes": dict(counts.most_common()),
            "honest_support": max(0, counts[winner] - max(radius, threat.budget)) if winner else 0,
        }
        if gold is not None:
            reached = reachable_answers(ballot, threat, threat.budget)
            evidence["gold"] = list(gold)
            evidence["tau"] = min(
                0.0 if answer in (None, ANY_OTHER) else contains_gold(answer, gold)
                for answer in reached
            )
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
        )

    def _answers(self, readings: Sequence[Reading]) -> tuple[str | None, ...]:
        answers = [None if r.answer is None else normalise_answer(r.answer) for r in readings]
        if self.choices is None:
            return tuple(answers)
        return tuple(answer if answer in self.choices else None for answer in answers)


def _surface(
    winner: str | None, ballot: Ballot, readings: Sequence[Reading]
) -> str | None:
    """The winning answer as its highest-ranked supporter wrote it."""
    if winner is None:
        return None
    votes = ballot.votes()
    for source, answer, reading in zip(
        ballot.passages.sources, ballot.answers, readings, strict=True
    ):
        if answer == winner == votes[source]:
            return reading.answer
    return winner


def _voting_reason(ballot: Ballot, winner: str | None, radius: int) -> str:
    failed = len(ballot.passages.failed_sources)
    if not ballot.answers:
        return "there are no passages"
    if winner is None:
        return "no source votes: all abstain, fail or contradict themselves"
    counts = ballot.counts()
    second = max((n for answer, n in counts.items() if answer != winner), default=0)
    lost = f" and {failed} failed" if failed else ""
    return (
        f"{counts[winner]} sources say {winner!r}, the runner-up has {second}{lost}: "
        f"{radius + 1} hostile could decide it"
    )


def _passages_evidence(
    passages: PassageList, responses: Sequence[Any]
) -> dict[str, Any]:
    """Sources, and for each passage [source index, response, failed], best rank first."""
    names = list(passages.slots)
    return {
        "sources": names,
        "passages": [
            [names.index(source), response, int(failed)]
            for source, response, failed in zip(
                passages.sources, responses, passages.failed, strict=True
            )
        ],
    }


@dataclass
class _FinalAnswers:
    """Answers of the final prompt by keyword set; each distinct set is asked once."""

    query: str
    max_calls: int
    answers: dict[KeywordSet | None, str | None] = field(default_factory=dict)
    readings: list[Reading] = field(default_factory=list)
    failure: str | None = None

    def ask(self, sets: Sequence[KeywordSet | None]) -> Plan[bool]:
        """Ask what is not known yet; false when a call fails or the budget of calls is spent."""
        for wordless in (None, frozenset()):
            self.answers.setdefault(wordless, None)
        new = [words for words in dict.fromkeys(sets) if words not in self.answers]
        if len(self.readings) + len(new) > self.max_calls:
            self.failure = (
                f"budget exceeded: more than {self.max_calls} distinct keyword sets; "
                "raise max_final_calls"
            )
            return False
        if not new:
            return True
        prompts = tuple(tuple(sorted(words)) for words in new if words)
        readings = yield CombineRequest(self.query, prompts)
        self.readings.extend(readings)
        for words, reading in zip(new, readings, strict=True):
            if reading.failure is not None:
                self.failure = f"the final call failed: {reading.failure}"
                return False
            self.answers[words] = reading.answer
        return True


class KeywordAggregator:
    """Keywords of enough sources make the final prompt (Algorithm 1)."""

    def __init__(
        self,
        threshold: Threshold,
        extractor: Any,
        max_optional_keywords: int,
        max_final_calls: int,
    ) -> None:
        self.threshold = threshold
        self.extractor = extractor
        self.max_optional_keywords = max_optional_keywords
        self.max_final_calls = max_final_calls

    def load(self) -> None:
        if hasattr(self.extractor, "load"):
            self.extractor.load()

    def parameters(self) -> dict[str, Any]:
        return {
            "alpha": str(self.threshold.alpha),
            "beta": str(self.threshold.beta),
            "max_optional_keywords": self.max_optional_keywords,
            "extractor": getattr(self.extractor, "description", type(self.extractor).__name__),
        }

    def certify(
        self,
        query: str,
        isolated: IsolatedResponses,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
    ) -> Plan[Outcome]:
        responses = KeywordResponses(
            isolated.passages,
            tuple(
                None if r.answer is None else frozenset(self.extractor.extract(r.answer))
                for r in isolated.readings
            ),
            self.threshold,
        )
        final = _FinalAnswers(query, self.max_final_calls)
        kept = responses.kept_keywords()
        answered = yield from final.ask([kept])
        answer = final.answers.get(kept) if answered else None
        radius, reason, sets = 0, final.failure, [kept]
        if answered:
            radius, reason, sets = yield from self._largest_budget(responses, threat, kept, final)
        evidence = self._evidence(responses, kept, answer, sets)
        if gold is not None:
            evidence["gold"] = list(gold)
            evidence["tau"] = yield from self._tau(responses, threat, final, gold, answered)
        merged = responses.of_sources()
        return Outcome(
            answer=answer,
            radius=radius,
            reason=reason,
            evidence=evidence,
            votes=tuple(
                _keyword_vote(reading, merged[source], kept)
                for reading, source in zip(
                    isolated.readings, isolated.passages.sources, strict=True
                )
            ),
            keywords=tuple(sorted(kept or ())),
            extra_readings=tuple(final.readings),
        )

    def _largest_budget(
        self,
        responses: KeywordResponses,
        threat: Threat,
        kept: KeywordSet | None,
        final: _FinalAnswers,
    ) -> Plan[tuple[int, str | None, list[KeywordSet | None]]]:
        if not responses.keywords:
            return 0, "there are no passages", [kept]
        certified: list[KeywordSet | None] = [kept]
        radius, reason = 0, None
        expected = _comparable(final.answers[kept])
        first = max(1, len(responses.passages.failed_sources))
        for budget in range(first, len(responses.passages.slots) + 2):
            reachable = self._reachable(responses, threat, budget)
            if reachable.reason is not None:
                reason = reachable.reason
                break
            reason = yield from self._all_equal(reachable, final, expected)
            if reason is not None:
                break
            radius = budget
            certified = list(dict.fromkeys([*certified, *reachable.sets]))
        return radius, reason, certified

    def _reachable(self, responses: KeywordResponses, threat: Threat, budget: int) -> Reachable:
        return reachable_keyword_sets(responses, threat, budget, self.max_optional_keywords)

    def _all_equal(
        self, reachable: Reachable, final: _FinalAnswers, expected: str | None
    ) -> Plan[str | None]:
        """Ask a few sets at a time, stopping at the first different answer."""
        for at in range(0, len(reachable.sets), FINAL_CALLS_AT_ONCE):
            chunk = reachable.sets[at : at + FINAL_CALLS_AT_ONCE]
            answered = yield from final.ask(chunk)
            if not answered:
                return final.failure
            for words in chunk:
                if _comparable(final.answers[words]) != expected:
                    shown = ", ".join(sorted(words or ())) or "none"
                    return f"the keywords [{shown}] are reachable and give another answer"
        return None

    def _tau(
        self,
        responses: KeywordResponses,
        threat: Threat,
        final: _FinalAnswers,
        gold: Sequence[str],
        answered: bool,
    ) -> Plan[float]:
        reachable = self._reachable(responses, threat, threat.budget)
        if not answered or reachable.reason is not None or not responses.keywords:
            return 0.0
        answered = yield from final.ask(reachable.sets)
        if not answered:
            return 0.0
        return min(contains_gold(final.answers[words], gold) for words in reachable.sets)

    def _evidence(
        self,
        responses: KeywordResponses,
        kept: KeywordSet | None,
        answer: str | None,
        sets: Sequence[KeywordSet | None],
    ) -> dict[str, Any]:
        words = sorted({word for found in responses.keywords for word in found or ()})
        index = {word: i for i, word in enumerate(words)}
        listed = [None if found is None else sorted(index[w] for w in found) for found in responses.keywords]
        return {
            **_passages_evidence(responses.passages, listed),
            "keywords": words,
            "kept": None if kept is None else sorted(index[w] for w in kept),
            "answer": _comparable(answer),
            "same_answer": [
                None if chosen is None else sorted(index[w] for w in chosen) for chosen in sets
            ],
        }


def _comparable(answer: str | None) -> str | None:
    return None if answer is None else normalise_answer(answer)


def _keyword_vote(
    reading: Reading, merged: KeywordSet | None, kept: KeywordSet | None
) -> tuple[str | None, bool | None]:
    if merged is None or reading.answer is None:
        return None, None
    return normalise_answer(reading.answer), bool(merged & (kept or frozenset()))
