"""Runs the plans of many texts side by side, so that their copies share the model's batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from robust_components.classification.asking import Asking
from robust_components.classification.plan import Finding, Plan
from robust_components.classification.votes import Failure, Vote

Stage = Callable[[str], str | None]
"""What is done to a masked copy before the model sees it; ``None`` abstains."""


class Voting:
    """Votes of masked copies: the stages, then the model; equal copies once.

    Args:
        asking: the model.
        stage: applied to each copy by itself, or ``None``.
        distinct: equal copies get one vote; ``False`` when the model draws at random.

    Attributes:
        usable, failed: copies with words that were, or were not, answered.
        last_error: of those that were not.
    """

    def __init__(self, asking: Asking, stage: Stage | None, *, distinct: bool) -> None:
        self.asking = asking
        self.stage = stage
        self.distinct = distinct
        self.usable = 0
        self.failed = 0
        self.last_error: Exception | None = None

    def votes(self, copies: Sequence[str | None]) -> list[Vote]:
        """One vote a copy; copies without words abstain."""
        staged: dict[str, str | Failure | None] = {}
        for copy in copies:
            if copy is not None and copy not in staged:
                staged[copy] = copy if self.stage is None else self._staged(self.stage, copy)
        shown = [None if copy is None else staged[copy] for copy in copies]
        texts = [one for one in shown if isinstance(one, str)]
        answers = iter(self.asking.votes(texts, distinct=self.distinct))
        self.last_error = self.asking.last_error or self.last_error
        found: list[Vote] = [next(answers) if isinstance(one, str) else one for one in shown]
        failed = sum(isinstance(vote, Failure) for vote in found)
        self.failed += failed
        self.usable += len(found) - failed - copies.count(None)
        return found

    def _staged(self, stage: Stage, copy: str) -> str | Failure | None:
        try:
            text = stage(copy)
        except Exception as error:  # a failing encoder is one of the things that happen
            self.last_error = error
            return Failure(f"{type(error).__name__}: {str(error)[:200]}")
        return text if text and text.strip() else None


def drive(plans: Sequence[Plan], voting: Voting) -> list[Finding]:
    """Run all plans to their end; what they ask for in one round goes to the model together."""
    found: dict[int, Finding] = {}
    wanted = {number: next(plan) for number, plan in enumerate(plans)}
    while wanted:
        together = [copy for copies in wanted.values() for copy in copies]
        votes = iter(voting.votes(together))
        following: dict[int, list[str | None]] = {}
        for number, copies in wanted.items():
            answer = [next(votes) for _ in copies]
            try:
                following[number] = plans[number].send(answer)
            except StopIteration as end:
                found[number] = end.value
        wanted = following
    return [found[number] for number in range(len(plans))]
