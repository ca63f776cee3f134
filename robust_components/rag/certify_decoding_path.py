"""The certificate of secure decoding that comes with decoding, at no further model call.

If :func:`certify_path` returns radius r, no attack within the threat model by up to r sources
changes any token of the answer. Deterministic; it needs no gold answer, and asks the model nothing
but, now and then, a no-retrieval token. It is exact for eta = 0, up to different tokens that spell
the same answer; for eta > 0 :func:`robust_components.rag.certify_decoding.reachable_answers` may
certify more.

It quantifies over :func:`robust_components.rag.scenarios.scenarios`: which passages stay, and how
many unknown sources join and say anything at any prefix. Failed passages count as hostile. A
passage that joins belongs to a source of its own; in a list where a source holds several passages
it may also belong to a listed source. It then moves every lead by at most 1, as a mean of
distributions, and raises no threshold: for eta = 0 and steps whose rule is "wins" that is no more
than a source of its own can do, for "holds" it costs eta more.

Source: Xiang et al. 2024 (arXiv 2405.15556), Algorithm 4 for one answer, with the number of
responding sources in the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robust_components.rag.decoding import Decoding, IsolatedSources
from robust_components.rag.decoding_step import SCALE, Integers, StepTable
from robust_components.rag.scenarios import injection_scenarios
from robust_components.threats import PassageInjection, PassageModification

Threat = PassageInjection | PassageModification


@dataclass(frozen=True, kw_only=True)
class PathCertificate:
    """The largest budget under which decoding takes the same steps.

    ``evidence`` is plain data with integers only, from which every radius follows by exact
    arithmetic. Probabilities are in units of 1 / ``scale``, as decoding itself uses them: nothing
    was rounded for the certificate.

    * ``scale``, ``eta`` (text), ``margin`` (units), ``top_k``;
    * ``sources``, ``failed``, ``responds``: for each passage its source's number, and 0 or 1;
    * ``voters``: sets of passages of one source, each with one vote. A scenario keeps some
      passages of sources without failures; the kept passages that respond, grouped by source,
      are its voters B, and e is its largest number of newcomers;
    * ``steps``: for each emitted token its name ``token``, the ``text`` it adds to the answer,
      ``rule``, ``radius``, and ``duels``: lists with one integer v for each entry of ``voters``.
      The token stays in a scenario if for each duel
      ``sum of v over B - s*eta*scale*|B| - e*(1 + s*eta)*scale`` exceeds ``margin`` (rule
      "wins", s = 1: the token leads each rival by more than the threshold), or is at least
      ``margin`` (rule "holds", s = -1: it is the no-retrieval token, and no other token can
      lead); where a source holds several passages and the threat is modification, a newcomer
      costs at least ``scale``. Duels that do not decide the radius are merged into their minimum
      for each voter.

    Attributes:
        radius: the smallest of ``token_radii``; 0 when nothing was decoded.
        token_radii: for each emitted token, the largest budget under which it stays, given the
            tokens before it.
        reason: what limits the radius.
        evidence: as above.
    """

    radius: int
    token_radii: tuple[int, ...]
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepCertificate:
    """The largest budget under which one token stays, with its part of the evidence."""

    token: str
    rule: str
    radius: int
    duels: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        duels = [list(duel) for duel in self.duels]
        return {"token": self.token, "rule": self.rule, "radius": self.radius, "duels": duels}


class PathCertifier:
    """Certifies steps one at a time, for instance while they are streamed.

    Args:
        sources: the question's passages; failures known by now count as hostile.
        threat: what the attacker may do; its budget plays no part.
    """

    def __init__(self, sources: IsolatedSources, threat: Threat) -> None:
        self.sources = sources
        self.threat = threat
        self.passages = sources.passages
        size = len(self.passages.sources)
        lists = [range(size)]
        if isinstance(threat, PassageInjection):
            lists = [range(left) for left in range(size, 0, -1)]
        self.voters = list(dict.fromkeys(v for kept in lists for v in sources.voters_among(kept)))
        self._at = {voter: at for at, voter in enumerate(self.voters)}
        self._known_columns: dict[tuple[int, ...], list[int]] = {}
        failed = self.passages.failed_sources
        self._first_budget = max(1, len(failed))
        self._healthy = [v for v in sources.voters if self.passages.sources[v[0]] not in failed]

    def certify(self, step: StepTable) -> StepCertificate:
        """The largest budget under which the step's token stays."""
        mass, rest = step.votes(self.voters)
        mass = np.vstack([mass.T, rest])  # the last row bounds all tokens not tracked
        token = int(np.searchsorted(step.tokens, step.emitted))
        tracked = token < len(step.tokens) and step.tokens[token] == step.emitted
        others = np.delete(np.arange(len(mass)), token) if tracked else np.arange(len(mass))
        options = [("holds", self._two_blockers(mass)[others])]
        if tracked:
            options.insert(0, ("holds", (mass[token] - mass)[others]))
        if not step.fell_back:
            options.insert(0, ("wins", (mass[token] - mass)[others]))
        radii = [self._radius(duels, rule) for rule, duels in options]
        best = radii.index(max(radii))
        if not step.fell_back and best and self.sources.fallback(step.prefix) != step.emitted:
            best = 0
        rule, duels = options[best]
        return StepCertificate(
            token=self.sources.session.token_text(step.emitted),
            rule=rule,
            radius=radii[best],
            duels=self._cover(duels, rule, radii[best]),
        )

    def _two_blockers(self, mass: Integers) -> Integers:
        """Leads of the token that keeps each one from winning.

        Token t cannot win where S(t) + e - S(u) <= N*eta for some u. Here u is the leading token,
        or the second one for the leading token itself; the caller also tries the emitted token
        for all, which is exact for eta = 0.
        """
        totals = mass[:-1, [self._at[voter] for voter in self._healthy]].sum(axis=1)
        order = np.argsort(-totals, kind="stable")
        leading = order[0]
        leads: Integers = mass[leading] - mass
        if len(order) > 1:
            leads[leading] = mass[order[1]] - mass[leading]
        else:
            leads[leading] = -mass[leading]
        return leads

    def _signed_eta(self, rule: str) -> int:
        numerator = self.sources.settings.exact_eta.numerator
        return numerator if rule == "wins" else -numerator

    def _radius(self, duels: Integers, rule: str) -> int:
        radius, budget = 0, self._first_budget
        while budget <= len(self.passages.slots) + 1 and self._withstands(duels, rule, budget):
            radius, budget = budget, budget + 1
        return radius

    def _withstands(self, duels: Integers, rule: str, budget: int) -> bool:
        """Whether all duels are won in every scenario of ``budget``."""
        worst = int(self._worst(duels, rule, budget).min())
        margin = self.sources.settings.margin * self.sources.settings.exact_eta.denominator
        return worst > margin if rule == "wins" else worst >= margin

    def _worst(self, duels: Integers, rule: str, budget: int) -> Integers:
        """The smallest total of each duel over all scenarios, times eta's denominator."""
        denominator = self.sources.settings.exact_eta.denominator
        values = duels * denominator - self._signed_eta(rule) * SCALE
        cost = (denominator + self._signed_eta(rule)) * SCALE
        if isinstance(self.threat, PassageInjection):
            return self._worst_injection(values, cost, budget, self.threat.passages_per_source)
        if self.passages.chunked:  # a passage joining a listed source raises no threshold
            cost = max(cost, denominator * SCALE)
        return self._worst_modification(values, cost, budget)

    def _worst_injection(
        self, values: Integers, cost: int, budget: int, passages_per_source: int
    ) -> Integers:
        worst = np.full(len(values), np.iinfo(np.int64).max)
        for scenario in injection_scenarios(self.passages, budget, passages_per_source):
            kept = self._columns(scenario.kept)
            newcomers = min(scenario.newcomers, self.passages.top_k)
            np.minimum(worst, values[:, kept].sum(axis=1) - newcomers * cost, out=worst)
        return worst

    def _columns(self, kept: tuple[int, ...]) -> list[int]:
        """Where the voters among the kept passages stand in ``voters``."""
        if kept not in self._known_columns:
            voters = self.sources.voters_among(kept)
            self._known_columns[kept] = [self._at[voter] for voter in voters]
        return self._known_columns[kept]

    def _worst_modification(self, values: Integers, cost: int, budget: int) -> Integers:
        """Closed form, exact for sources of any size.

        A removed source takes its value along (none, if it abstains) and each slot it held costs
        ``cost``; a newcomer in the room of a short list costs the same. These losses add up, and
        none is negative since no value is below -cost: the worst choice takes the largest ones,
        as many as the budget allows.
        """
        passages, failed = self.passages, self.passages.failed_sources
        value_of = {passages.sources[v[0]]: values[:, self._at[v]] for v in self._healthy}
        nothing = np.zeros(len(values), dtype=np.int64)
        losses = [
            value_of.get(source, nothing) + slots * cost
            for source, slots in passages.slots.items()
            if source not in failed
        ]
        losses += [nothing + cost] * (passages.top_k - len(passages.sources))
        held = sum(slots for source, slots in passages.slots.items() if source in failed)
        total = np.sum([nothing, *value_of.values()], axis=0) - held * cost
        ordered = np.sort(np.reshape(losses, (-1, len(values))), axis=0)[::-1]
        return np.asarray(total - ordered[: budget - len(failed)].sum(axis=0))

    def _cover(self, duels: Integers, rule: str, radius: int) -> tuple[tuple[int, ...], ...]:
        """The deciding duel, and as few others as show the radius, merged where possible."""
        budget = max(radius + 1, self._first_budget)
        duels = duels[np.argsort(self._worst(duels, rule, budget), kind="stable")]
        for kept in range(1, len(duels)):
            merged = duels[kept:].min(axis=0)
            if radius == 0 or self._withstands(merged[None], rule, radius):
                duels = np.vstack([duels[:kept], merged])
                break
        return tuple(tuple(map(int, duel)) for duel in duels)

    def path(self, steps: Sequence[StepCertificate], pieces: Sequence[str]) -> PathCertificate:
        """The certificate of an answer, from those of its steps and what each adds to the text."""
        passages, settings = self.passages, self.sources.settings
        names = list(passages.slots)
        responding = {i for voter in self.sources.voters for i in voter}
        radii = tuple(step.radius for step in steps)
        reason = "no source responds: one hostile source could give any answer"
        if steps:
            at = radii.index(min(radii))
            reason = _weakest(at + 1, pieces[at], radii[at])
        return PathCertificate(
            radius=min(radii, default=0),
            token_radii=radii,
            reason=reason,
            evidence={
                "scale": SCALE,
                "eta": str(settings.eta),
                "margin": settings.margin,
                "top_k": passages.top_k,
                "sources": [names.index(source) for source in passages.sources],
                "failed": [int(failed) for failed in passages.failed],
                "responds": [int(i in responding) for i in range(len(passages.sources))],
                "voters": [list(voter) for voter in self.voters],
                "steps": [
                    {"text": text, **step.to_dict()}
                    for text, step in zip(pieces, steps, strict=True)
                ],
            },
        )


def _weakest(place: int, text: str, radius: int) -> str:
    token = f"token {place}, {text.strip()!r}," if text.strip() else f"token {place}, the end,"
    if radius == 0:
        return f"{token} is not certified against a single hostile source"
    sources = "1 hostile source" if radius == 1 else f"{radius} hostile sources"
    return f"{token} is certified for no more than {sources}"


class RunningCertificate:
    """Certifies an answer while it is decoded; again from its start when a row failed meanwhile.

    Args:
        sources: the question's passages.
        threat: what the attacker may do; its budget plays no part.
    """

    def __init__(self, sources: IsolatedSources, threat: Threat) -> None:
        self._sources = sources
        self._threat = threat
        self._certifier = PathCertifier(sources, threat)
        self._steps: list[StepTable] = []
        self._certified: list[StepCertificate] = []

    def add(self, step: StepTable) -> StepCertificate:
        """The certificate of the next step, as far as failures are known by now."""
        self._steps.append(step)
        self._catch_up()
        return self._certified[-1]

    def path(self, pieces: Sequence[str]) -> PathCertificate:
        """The certificate of the whole answer; ``pieces`` is what each step adds to the text."""
        self._catch_up()
        return self._certifier.path(self._certified, pieces)

    def _catch_up(self) -> None:
        failed = self._sources.passages.failed_sources
        if failed != self._certifier.passages.failed_sources:
            self._certifier = PathCertifier(self._sources, self._threat)
            self._certified = []
        for step in self._steps[len(self._certified) :]:
            self._certified.append(self._certifier.certify(step))


def certify_path(
    sources: IsolatedSources, decoding: Decoding, *, threat: Threat
) -> PathCertificate:
    """The largest budget under which no attack within ``threat`` changes a token of the answer.

    The list at hand is clean for :class:`PassageInjection`; for :class:`PassageModification` it
    may be clean (pre-attack), or hold the hostile sources already (observed): then the clean
    passages would have given this very answer. The threat's own budget plays no part.
    """
    running = RunningCertificate(sources, threat)
    for step in decoding.steps:
        running.add(step)
    return running.path(decoding.pieces)
