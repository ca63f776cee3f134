"""All answers that an attack on secure decoding can bring about.

:func:`reachable_answers` follows, for one budget, every token an attacker can make decoding emit.
If all answers it finds are equal, no attack within the threat model changes the answer:
deterministic, and without a gold answer. When the search is not complete nothing is certified.
It certifies more than :mod:`robust_components.rag.certify_decoding_path`, at the price of model
calls.

It quantifies over :func:`robust_components.rag.scenarios.scenarios`: which passages stay, and how
many unknown sources join and say anything at any prefix. Failed passages count as hostile. In
a list where a source holds several passages, a passage that joins may belong to a listed source.

Source: Xiang et al. 2024 (arXiv 2405.15556), Algorithm 4, corrected and made exact: the threshold
counts *responding* sources, all reachable tokens are followed, an attacker is the same one along a
branch, and one who can bring in a token that nobody proposes is never certified against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.rag.certify_decoding_path import Threat
from robust_components.rag.decoding import IsolatedSources, decode, spelled
from robust_components.rag.decoding_step import Voter, reach
from robust_components.rag.scenarios import scenarios
from robust_components.threats import PassageInjection


def identity(text: str) -> str:
    """Answers are equal when their texts are."""
    return text


@dataclass(frozen=True, kw_only=True)
class ReachableAnswers:
    """What attacks within a budget can make of an answer.

    Attributes:
        certified: whether the reachable answers are all known and equal after the normaliser.
        answers: reachable answers, the clean one first, one for each normalised text.
        normalised: the same after the normaliser, ``None`` for the abstention.
        complete: whether ``answers`` are all of them.
        reason: why not certified, or ``None``.
        budget: hostile sources this was computed for.
        scenarios: distinct sets of surviving sources, each with its largest number of newcomers.
        branches: token sequences followed to their end.
        model_rows: next-token distributions asked of the model for this.
    """

    certified: bool
    answers: tuple[str, ...]
    normalised: tuple[str | None, ...]
    complete: bool
    reason: str | None
    budget: int
    scenarios: int
    branches: int
    model_rows: int

    @property
    def evidence(self) -> dict[str, Any]:
        """A record of the search. It can be checked for consistency, not repeated without the
        model; the guarantee is deterministic all the same."""
        return {
            "answers": list(self.answers),
            "complete": self.complete,
            "budget": self.budget,
            "scenarios": self.scenarios,
            "branches": self.branches,
        }


def reachable_answers(
    sources: IsolatedSources,
    *,
    threat: Threat,
    budget: int | None = None,
    max_branches: int = 64,
    max_scenarios: int = 20_000,
    exhaustive: bool = False,
    normalise: Callable[[str], str] = identity,
) -> ReachableAnswers:
    """All answers that secure decoding can give under an attack within ``threat``.

    If the result is ``certified``, no such attack changes the normalised answer; the list at hand
    is understood as in ``certify_path``.

    Args:
        sources: the question's passages; what :func:`decode` read is not read again.
        threat: what the attacker may do.
        budget: hostile sources, at least 1; the threat's own when ``None``.
        max_branches: more token sequences than this: not certified.
        max_scenarios: more sets of surviving sources than this: not certified.
        exhaustive: go on after a second answer, to have all of them.
        normalise: two answers are the same when this maps them to the same text.

    Raises:
        RuntimeError: the clean answer is not among the reachable ones. The session then did not
            answer the same prefix twice in the same way, and nothing can be certified.
        ValueError, TypeError: a budget is below its minimum or no integer.
    """
    limits = _Limits(
        budget=positive_integer("budget", threat.budget if budget is None else budget),
        branches=positive_integer("max_branches", max_branches),
        scenarios=positive_integer("max_scenarios", max_scenarios),
        exhaustive=exhaustive,
    )
    asked = sources.model_rows
    clean = decode(sources)
    expected = None if clean.abstained else normalise(clean.text)
    failed = None
    while failed != sources.passages.failed_sources:  # a row may fail on a branch: start again
        failed = sources.passages.failed_sources
        search = _Search(sources, limits, normalise, answers={expected: clean.text})
        search.run(threat)
    if search.stopped is None and expected not in search.reached:
        raise RuntimeError(
            f"the clean answer {clean.text!r} is not among the reachable ones; "
            "use a deterministic model and do not change the session"
        )
    answers = tuple(search.answers.values())
    several = f"{len(answers)} different answers are reachable" if len(answers) > 1 else None
    return ReachableAnswers(
        certified=search.stopped is None and several is None,
        answers=answers,
        normalised=tuple(search.answers),
        complete=search.stopped is None,
        reason=search.stopped or several,
        budget=limits.budget,
        scenarios=search.scenarios,
        branches=search.branches,
        model_rows=sources.model_rows - asked,
    )


@dataclass(frozen=True)
class _Limits:
    budget: int
    branches: int
    scenarios: int
    exhaustive: bool


class _StoppedError(Exception):
    """The search ends before it is complete; the message says why."""


@dataclass
class _Search:
    """One walk through the tree of reachable tokens."""

    sources: IsolatedSources
    limits: _Limits
    normalise: Callable[[str], str]
    answers: dict[str | None, str]
    reached: set[str | None] = field(default_factory=set)
    scenarios: int = 0
    branches: int = 0
    stopped: str | None = None

    joins: bool = False

    def run(self, threat: Threat) -> None:
        modified = not isinstance(threat, PassageInjection)
        self.joins = modified and self.sources.passages.chunked
        try:
            self._walk(self._pairs(threat))
        except _StoppedError as why:
            self.stopped = str(why)

    def _pairs(self, threat: Threat) -> dict[tuple[Voter, ...], int]:
        """Sets of surviving voters, each with its largest number of newcomers.

        Fewer newcomers reach nothing more, except that without any voter and newcomer there is
        nothing to decode.
        """
        passages = self.sources.passages
        pairs: dict[tuple[Voter, ...], int] = {}
        for count, scenario in enumerate(scenarios(passages, threat, self.limits.budget)):
            if count == self.limits.scenarios:
                raise _StoppedError(
                    f"budget exceeded: more than {count} sets of surviving sources; "
                    "raise max_scenarios"
                )
            kept = self.sources.voters_among(scenario.kept)
            pairs[kept] = max(pairs.get(kept, 0), min(scenario.newcomers, passages.top_k))
        self.scenarios = len(pairs)
        if not pairs:
            raise _StoppedError(
                f"{len(passages.failed_sources)} sources failed, more than the budget "
                f"of {self.limits.budget}"
            )
        if () in pairs:
            self._add(())
            if pairs.pop(()):
                raise _StoppedError("no honest source may be left: every token is reachable")
        return pairs

    def _walk(self, pairs: dict[tuple[Voter, ...], int]) -> None:
        """Depth first, the token of the list at hand first.

        The hostile sources of a scenario are the same along a branch, so a scenario that does not
        allow a token is out from there on; what they say after different prefixes is free.
        """
        self._voters = sorted({voter for kept in pairs for voter in kept})
        at = {voter: column for column, voter in enumerate(self._voters)}
        self._member = np.zeros((len(pairs), len(self._voters)), dtype=np.int64)
        for row, kept in enumerate(pairs):
            self._member[row, [at[voter] for voter in kept]] = 1
        self._newcomers = np.array(list(pairs.values()), dtype=np.int64)
        open_branches: list[tuple[tuple[int, ...], NDArray[np.intp]]] = []
        if pairs:
            open_branches.append(((), np.arange(len(pairs))))
        end, longest = self.sources.session.eos, self.sources.settings.max_tokens
        while open_branches:
            prefix, alive = open_branches.pop()
            if prefix and (prefix[-1] == end or len(prefix) == longest):
                self.branches += 1
                self._add(prefix)
                continue
            following = list(self._next(prefix, alive))
            if self.branches + len(open_branches) + len(following) > self.limits.branches:
                raise _StoppedError(
                    f"budget exceeded: more than {self.limits.branches} branches; "
                    "raise max_branches"
                )
            open_branches.extend(reversed(following))

    def _next(
        self, prefix: tuple[int, ...], alive: NDArray[np.intp]
    ) -> Iterator[tuple[tuple[int, ...], NDArray[np.intp]]]:
        """Longer prefixes, with the scenarios among ``alive`` in which each is reachable."""
        table, settings = self.sources.table(prefix), self.sources.settings
        mass, rest = table.votes(self._voters)
        member = self._member[alive]
        outcome = reach(
            member @ mass,
            np.minimum(member @ rest, table.rest_total),
            voters=member.sum(axis=1),
            newcomers=self._newcomers[alive],
            eta=settings.exact_eta,
            margin=settings.margin,
            joins=self.joins,
        )
        if outcome.unbounded.any():
            so_far = self.sources.session.text(prefix)
            raise _StoppedError(f"after {so_far!r} every token is reachable")
        allowed = {
            int(table.tokens[column]): outcome.wins[:, column]
            for column in np.flatnonzero(outcome.wins.any(axis=0))
        }
        if outcome.falls_back.any():
            token = self.sources.fallback(prefix)
            allowed[token] = allowed.get(token, False) | outcome.falls_back
        for token in sorted(allowed, key=lambda token: (token != table.emitted, token)):
            yield (*prefix, token), alive[allowed[token]]

    def _add(self, tokens: tuple[int, ...]) -> None:
        answer = spelled(self.sources, tokens)
        key = None if answer is None else self.normalise(answer)
        self.reached.add(key)
        self.answers.setdefault(key, self.sources.settings.abstention if answer is None else answer)
        if len(self.answers) > 1 and not self.limits.exhaustive:
            clean, other = list(self.answers.values())[:2]
            raise _StoppedError(f"{other!r} is reachable beside {clean!r}")
