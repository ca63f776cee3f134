"""Keyword aggregation as a plan: the final calls, the certified budget, the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from robust_components.answers import normalise_answer, normalised_contains_gold
from robust_components.models.protocols import Reading
from robust_components.rag.keyword_aggregation import (
    KeywordResponses,
    KeywordSet,
    Reachable,
    Threshold,
    reachable_keyword_sets,
)
from robust_components.rag.outcome import (
    Isolated,
    Outcome,
    Threat,
    passages_evidence,
)
from robust_components.rag.outcome import Reachable as ReachableAnswers
from robust_components.rag.plan import CombineRequest, Plan
from robust_components.rag.surface import as_written

FINAL_CALLS_AT_ONCE = 8


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
        nothing: tuple[KeywordSet | None, ...] = (None, frozenset())
        for wordless in nothing:
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

    method = "keyword"
    reads_tokens = False

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
        isolated: Isolated,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
        on_token: Any = None,
    ) -> Plan[Outcome]:
        found = [self._keywords(reading) for reading in isolated.readings]
        failures = tuple(
            reading.failure or (str(words) if isinstance(words, Exception) else None)
            for reading, words in zip(isolated.readings, found, strict=True)
        )
        responses = KeywordResponses(
            replace(isolated.passages, failed=tuple(why is not None for why in failures)),
            tuple(None if isinstance(words, Exception) else words for words in found),
            self.threshold,
        )
        final = _FinalAnswers(query, self.max_final_calls)
        kept = responses.kept_keywords()
        answered = yield from final.ask([kept])
        answer = final.answers.get(kept) if answered else None
        radius, reason = 0, final.failure
        sets: list[KeywordSet | None] = []
        if answered:
            radius, reason, sets = yield from self._largest_budget(responses, threat, kept, final)
        evidence = self._evidence(responses, kept, answer, sets)
        reached = None
        if gold is not None:
            reached = yield from self._reached(responses, threat, final, answered)
            evidence["gold"] = list(gold)
            evidence["tau"] = reached.lowest(partial(normalised_contains_gold, gold=gold))
        merged = responses.of_sources()
        written: dict[str, str] = {}
        for source, reading in zip(isolated.passages.sources, isolated.readings, strict=True):
            if merged[source] and reading.answer is not None:
                written.setdefault(source, reading.answer)
        return Outcome(
            answer=None if answer is None else as_written(answer, written.values()),
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
            failures=failures,
            reachable=reached,
        )

    def _keywords(self, reading: Reading) -> KeywordSet | Exception | None:
        """Keywords of one response; an exception where the extractor fails on it."""
        if reading.answer is None:
            return None
        try:
            words = frozenset(self.extractor.extract(reading.answer))
        except Exception as error:  # this response counts as hostile
            return ValueError(f"keyword extraction failed: {type(error).__name__}: {error}"[:200])
        if not all(isinstance(word, str) for word in words):
            return ValueError("keyword extraction returned something other than text")
        return words

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
        return radius, reason or "larger budgets are not examined", certified

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
                    given = "no answer" if final.answers[words] is None else "another answer"
                    given = "an answer" if expected is None else given
                    return f"the keywords [{shown}] are reachable and give {given}"
        return None

    def _reached(
        self, responses: KeywordResponses, threat: Threat, final: _FinalAnswers, answered: bool
    ) -> Plan[ReachableAnswers]:
        """Answers of the final prompt over all reachable keyword sets."""
        if not responses.keywords:
            return ReachableAnswers((None,), "there are no passages")
        reachable = self._reachable(responses, threat, threat.budget)
        reason = final.failure if not answered else reachable.reason
        if reason is None:
            answered = yield from final.ask(reachable.sets)
            reason = None if answered else final.failure
        asked = (words for words in reachable.sets if words in final.answers)
        answers = dict.fromkeys(_comparable(final.answers[words]) for words in asked)
        return ReachableAnswers(tuple(answers), reason)

    def _evidence(
        self,
        responses: KeywordResponses,
        kept: KeywordSet | None,
        answer: str | None,
        sets: Sequence[KeywordSet | None],
    ) -> dict[str, Any]:
        words = sorted({word for found in responses.keywords for word in found or ()})
        index = {word: i for i, word in enumerate(words)}
        listed = [
            None if found is None else sorted(index[w] for w in found)
            for found in responses.keywords
        ]
        return {
            **passages_evidence(responses.passages, listed),
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
