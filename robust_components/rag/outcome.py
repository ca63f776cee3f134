"""What an aggregation hands to the generator: an answer, its certified budget, the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from robust_components.models.protocols import Reading, TokenSession
from robust_components.rag.plan import Plan
from robust_components.rag.result import TokenResult
from robust_components.rag.scenarios import PassageList
from robust_components.threats import PassageInjection, PassageModification

Threat = PassageInjection | PassageModification


@dataclass(frozen=True)
class Reachable:
    """The answers attacks within a budget can lead to: R of the paper's Definition 1.

    Attributes:
        answers: the answer at hand first, each after
            :func:`robust_components.answers.normalise_answer`; ``None`` is the abstention.
        reason: why these may not be all of them, or ``None`` when they are.
    """

    answers: tuple[str | None, ...]
    reason: str | None = None

    @property
    def complete(self) -> bool:
        return self.reason is None

    def lowest(self, metric: Callable[[str], float]) -> float:
        """tau: the smallest value of ``metric`` over all reachable answers.

        0 where these are not all known, and for an abstention, so metrics must not be negative.

        Args:
            metric: takes a normalised answer.
        """
        if not self.complete:
            return 0.0
        return min(0.0 if answer is None else metric(answer) for answer in self.answers)


@dataclass(frozen=True)
class Isolated:
    """The list that was read: one reading for each passage, and for decoding a session.

    Attributes:
        passages: sources, failures and length of the list.
        readings: one for each passage.
        inputs: SHA-256 of the question and of each passage, and the sources; for the evidence.
        session: token distributions of all passages; ``None`` where nothing was opened.
        abstention_threshold: the model's own threshold for "I don't know", if it has one.
    """

    passages: PassageList
    readings: tuple[Reading, ...]
    inputs: dict[str, Any]
    session: TokenSession | None = None
    abstention_threshold: float | None = None


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
        tokens: emitted tokens with their certified budgets.
        responded: for each passage read, whether it took part; ``None``: as its reading says.
        failures: for each passage read, why it counts as hostile; ``None``: as its reading says.
        model_rows: next-token distributions asked of the model.
        reachable: answers that attacks lead to, where they were asked for.
    """

    answer: str | None
    radius: int
    reason: str | None
    evidence: dict[str, Any]
    votes: tuple[tuple[str | None, bool | None], ...]
    keywords: tuple[str, ...] = ()
    extra_readings: tuple[Reading, ...] = ()
    tokens: tuple[TokenResult, ...] = ()
    responded: tuple[bool, ...] | None = None
    failures: tuple[str | None, ...] | None = None
    model_rows: int = 0
    reachable: Reachable | None = None


class Aggregator(Protocol):
    method: str
    reads_tokens: bool

    def load(self) -> None: ...

    def parameters(self) -> dict[str, Any]: ...

    def certify(
        self,
        query: str,
        isolated: Isolated,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
        on_token: Callable[[TokenResult], None] | None = None,
    ) -> Plan[Outcome]: ...


def passages_evidence(passages: PassageList, responses: Sequence[Any]) -> dict[str, Any]:
    """Sources, and for each passage [source index, response, failed], best rank first."""
    number = {name: i for i, name in enumerate(passages.slots)}
    return {
        "sources": list(number),
        "passages": [
            [number[source], response, int(failed)]
            for source, response, failed in zip(
                passages.sources, responses, passages.failed, strict=True
            )
        ],
    }
