"""Secure decoding as a plan: decode, certify each token on the way, keep the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from robust_components.answers import normalise_answer, normalised_contains_gold
from robust_components.checks import positive_integer
from robust_components.rag.certify_decoding import reachable_answers
from robust_components.rag.certify_decoding_path import (
    PathCertificate,
    RunningCertificate,
    Threat,
)
from robust_components.rag.decoding import Decoding, IsolatedSources, Spelling, stream
from robust_components.rag.decoding_step import SCALE, DecodingSettings, StepTable
from robust_components.rag.outcome import Isolated, Outcome, Reachable
from robust_components.rag.plan import Plan
from robust_components.rag.result import TokenResult

DEFAULT_GAMMA = "0.99"
OnToken = Callable[[TokenResult], None]


class DecodingAggregator:
    """Token by token from the sources' summed distributions (Algorithm 2).

    Args:
        gamma: a passage abstains from this probability of "I don't know" on; the model's own
            ``abstention_threshold``, or 0.99, when ``None``.
        max_branches: more token sequences than this in a search: not certified.
        settings: the remaining parameters, for :class:`DecodingSettings`.
    """

    method = "decoding"
    reads_tokens = True

    def __init__(self, *, gamma: Any, max_branches: int, **settings: Any) -> None:
        self.gamma = gamma
        self.max_branches = positive_integer("max_branches", max_branches)
        self.settings = DecodingSettings(
            gamma=DEFAULT_GAMMA if gamma is None else gamma, **settings
        )

    def load(self) -> None:
        """Nothing to load."""

    def parameters(self) -> dict[str, Any]:
        settings = self.settings.to_dict()
        del settings["abstention"], settings["gamma"]
        return {**settings, "max_branches": self.max_branches}

    def certify(
        self,
        query: str,
        isolated: Isolated,
        threat: Threat,
        statement: str,
        gold: Sequence[str] | None = None,
        on_token: OnToken | None = None,
    ) -> Plan[Outcome]:
        yield from ()
        session = isolated.session
        if session is None:
            failures = [reading.failure for reading in isolated.readings if reading.failure]
            return self._unread(isolated, failures[0] if failures else "there are no passages")
        settings = self.settings
        if self.gamma is None and isolated.abstention_threshold is not None:
            settings = replace(settings, gamma=isolated.abstention_threshold)
        sources = IsolatedSources(session, isolated.passages, settings)
        decoding, path = _decode(sources, threat, on_token)
        evidence = {**path.evidence, "gamma": settings.gamma, "answer": _answer(decoding)}
        radius, reason, reached = path.radius, path.reason, None
        if gold is not None:
            reached = self._reached(sources, decoding, threat, path.radius)
            evidence["gold"] = list(gold)
            evidence["tau"] = reached.lowest(partial(normalised_contains_gold, gold=gold))
        return Outcome(
            answer=None if decoding.abstained else decoding.text,
            radius=radius,
            reason=reason,
            evidence=evidence,
            votes=tuple(_votes(sources, decoding)),
            tokens=tuple(map(TokenResult, decoding.pieces, path.token_radii)),
            responded=tuple(
                any(i in voter for voter in sources.voters) for i in range(len(isolated.readings))
            ),
            failures=tuple(sources.failures),
            model_rows=sources.model_rows,
            reachable=reached,
        )

    def _unread(self, isolated: Isolated, reason: str) -> Outcome:
        listed, size = isolated.passages, len(isolated.readings)
        names = list(listed.slots)
        return Outcome(
            answer=None,
            radius=0,
            reason=reason,
            evidence={
                "scale": SCALE,
                "eta": str(self.settings.eta),
                "margin": self.settings.margin,
                "top_k": listed.top_k,
                "sources": [names.index(source) for source in listed.sources],
                "failed": [int(failed) for failed in listed.failed],
                "responds": [0] * size,
                "voters": [],
                "steps": [],
                "gamma": self.settings.gamma,
                "answer": None,
            },
            votes=((None, None),) * size,
        )

    def _reached(
        self, sources: IsolatedSources, decoding: Decoding, threat: Threat, radius: int
    ) -> Reachable:
        clean = _answer(decoding)
        if radius >= threat.budget >= len(sources.passages.failed_sources):
            return Reachable((clean,))
        if not decoding.steps:
            return Reachable((clean,), "no source responds: any answer can be reached")
        found = reachable_answers(
            sources,
            threat=threat,
            max_branches=self.max_branches,
            exhaustive=True,
            normalise=normalise_answer,
        )
        return Reachable(found.normalised, None if found.complete else found.reason)


def _decode(
    sources: IsolatedSources, threat: Threat, on_token: OnToken | None
) -> tuple[Decoding, PathCertificate]:
    """Decode and certify; with ``on_token``, hand over each token once it is certified."""
    running, spelling = RunningCertificate(sources, threat), Spelling(sources.session)
    steps: list[StepTable] = []
    for step in stream(sources):
        steps.append(step)
        certified = running.add(step)
        if on_token is not None and step.emitted != sources.session.eos:
            on_token(TokenResult(spelling.add(step.emitted), certified.radius))
    decoding = Decoding.of(sources, steps)
    return decoding, running.path(decoding.pieces)


def _answer(decoding: Decoding) -> str | None:
    return None if decoding.abstained else normalise_answer(decoding.text)


def _votes(sources: IsolatedSources, decoding: Decoding) -> list[tuple[str | None, bool | None]]:
    """A source supports the answer if every emitted token is its own first choice."""
    votes: dict[int, tuple[str | None, bool | None]] = {}
    for voter in () if decoding.abstained else sources.voters:
        supports = True
        for step in decoding.steps:
            mass, rest = step.votes([voter])
            best = int(mass[0].argmax())
            supports &= step.tokens[best] == step.emitted and mass[0, best] >= rest[0]
        for passage in voter:
            votes[passage] = (_answer(decoding) if supports else None, bool(supports))
    return [votes.get(i, (None, None)) for i in range(len(sources.failures))]
