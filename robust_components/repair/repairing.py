"""The whole repair: scan, select, perturb, guard; its result is a patch."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from robust_components.attacks.attack import Attack
from robust_components.checks import positive_integer, real
from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.notices import warn_caller
from robust_components.repair.guard import Drift, Limits, Measured, Measuring, objections
from robust_components.repair.neurons import find_layers, number_of_neurons
from robust_components.repair.patch import Patch, weights_hash
from robust_components.repair.perturb import (
    NeuronRows,
    Perturbation,
    check_precision,
    kept,
    perturb,
    read_rows,
    write_rows,
)
from robust_components.repair.perturb_scores import SHARES, perturb_scores
from robust_components.repair.probes import Probe, check_probes, check_types, probes_hash
from robust_components.repair.scan import scan
from robust_components.repair.select import (
    check_count,
    check_share,
    maximum_marginal_vulnerability,
)

Progress = Callable[[str, int, int], object]


class RepairRolledBackError(RuntimeError):
    """The repair did not hold on held-out probes; the model is as it was.

    Attributes:
        objections: why, one sentence each.
        figures: what was measured.
    """

    def __init__(self, found: Sequence[str], figures: dict[str, Any]) -> None:
        super().__init__(
            f"the repair was rolled back: {'; '.join(found)}. Try other steps, more neurons or "
            "more probes, or loosen the limits"
        )
        self.objections = tuple(found)
        self.figures = figures


def repair(
    scorer: TransformersPairScorer,
    probes: Sequence[Probe],
    *,
    neurons: int = 128,
    trade_off: float = 0.7,
    perturbation: Perturbation | None = None,
    limits: Limits | None = None,
    held_out: float = 0.2,
    unseen: Sequence[Probe] = (),
    attacks: Sequence[Attack] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Patch:
    """Find the neurons attacks go through and move them back; the model is left as it was.

    Only rows of ``neurons`` neurons move, as ``perturbation.objective`` asks: in rounds, or by
    training and then going back until clean lists lose no more than ``limits`` allow. Of all that
    the guard lets pass, that stays in which fewest held-out attacks succeed. The patch says what
    was measured; that is no guarantee.

    Args:
        scorer: the ranker; its weights are changed while this runs and restored however it ends.
        probes: successful attacks on this ranker; 500 are usual.
        neurons: K, in 1..neurons of the model.
        trade_off: lambda of the selection, in [0, 1].
        perturbation: how far and how long to go.
        limits: what clean lists may lose.
        held_out: share of the probes kept to decide when to stop, in (0, 1); queries are not
            divided.
        unseen: attacks of other kinds on this ranker, measured before and after and used for
            nothing else; those that are among ``probes`` are left out, with a warning.
        attacks: made on the held-out lists, before the repair on this ranker and afterwards anew on
            the repaired one: the adaptive figure.
        seed: of the division and the draws, at least 0.
        progress: called with the stage, and steps done and in all.

    Raises:
        ValueError: the model cannot be repaired, the probes are too few, none of those held out
            raises a score, or a setting is outside its range.
        TypeError: an argument is of another type.
        RepairRolledBackError: no round passed the guard.
    """
    started = time.perf_counter()
    seed = positive_integer("seed", seed, 0)
    settings = Perturbation(seed=seed) if perturbation is None else perturbation
    limits = Limits() if limits is None else limits
    attacks = list(attacks)
    for name, value, kind in (
        ("perturbation", settings, Perturbation),
        ("limits", limits, Limits),
        *(("attacks", attack, Attack) for attack in attacks),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be of type {kind.__name__}, got {value!r}; pass one")
    check_scorer(scorer)
    probes, unseen = list(probes), list(unseen)
    check_probes(probes)
    check_types(unseen)
    unseen = _not_used(unseen, probes)
    trade_off = check_share("trade_off", trade_off)
    held_out = check_held_out(held_out)
    layers = find_layers(scorer.network)
    neurons = check_count(neurons, number_of_neurons(layers))
    check_precision(layers, settings.eta)
    fit, held = divide(probes, held_out, seed)

    def tell(stage: str) -> Callable[[int, int], object] | None:
        return None if progress is None else lambda done, of: progress(stage, done, of)

    found = scan(scorer, fit, pooling=settings.pooling, progress=tell("scan"))
    chosen = maximum_marginal_vulnerability(
        found.vulnerability, found.behaviour, neurons, trade_off
    )
    base = weights_hash(scorer.network)
    original = read_rows(layers, chosen)
    in_logits = copy.copy(scorer)  # the same network; probabilities would saturate
    in_logits.output = "logit"
    first = Measuring(in_logits, held)
    _check_raised(first)
    was = first.measured()
    unseen_first = Measuring(in_logits, unseen) if unseen else None
    attacked_first = Measuring(in_logits, made_anew(attacks, held, in_logits, tell("attack")))
    more: dict[str, Any] = {}
    best: tuple[list[NeuronRows], Measured, Drift] | None = None
    last: tuple[tuple[str, ...], Measured, Drift] | None = None
    taken, tried = 0, settings.rounds
    if settings.objective == "scores":
        tried = len(SHARES)
        moves = perturb_scores(scorer, layers, chosen, fit, settings, tell("perturb"))
    else:
        clean, attacked = [p.clean_pair for p in fit], [p.adversarial_pair for p in fit]
        moves = perturb(scorer, layers, chosen, clean, attacked, found.clean, settings)
    with kept(scorer.network, original), closing(moves) as rounds:
        for number, rows in enumerate(rounds, start=1):
            now = Measuring(in_logits, held)
            measured, drift = now.measured(), first.drift(now)
            against = objections(was, measured, drift, limits)
            last = (against, measured, drift)
            if progress is not None:
                progress("guard", number, tried)
            if not against and (best is None or _success(measured) < _success(best[1])):
                best, taken = (rows, measured, drift), number
            elif best is not None:
                break  # held-out probes improve no more
        if best is not None:
            write_rows(scorer.network, best[0])
            if unseen_first is not None:
                again = Measuring(in_logits, unseen)
                more["unseen"] = _before_after(unseen_first.measured(), again.measured())
            if attacks:
                anew = made_anew(attacks, held, in_logits, tell("attack anew"))
                again = Measuring(in_logits, anew)
                more["adaptive"] = _before_after(attacked_first.measured(), again.measured())
    if best is None:
        assert last is not None
        against, measured, drift = last
        raise RepairRolledBackError(against, _figures(was, measured, drift))
    chosen_rows, measured, drift = best
    return Patch(
        rows=tuple(chosen_rows),
        base=base,
        base_name=scorer.name,
        settings={
            "neurons": neurons,
            "trade_off": trade_off,
            "perturbation": asdict(settings) | {"step": settings.eta},
            "taken": SHARES[taken - 1] if settings.objective == "scores" else taken,
            "limits": asdict(limits),
            "held_out": held_out,
            "seed": seed,
            "attacks": sorted({probe.attack for probe in probes}),
            "probes": len(probes),
        },
        probes=probes_hash(probes),
        figures=_figures(was, measured, drift) | more,
        seconds=round(time.perf_counter() - started, 1),
    )


def _success(measured: Measured) -> tuple[float, float]:
    """Attacks that succeed, then what they gain: less is better."""
    return measured.success_rate, measured.gain


def _not_used(unseen: list[Probe], probes: list[Probe]) -> list[Probe]:
    """Those that are not among ``probes``: the others would not be unseen."""
    used = {probe.adversarial_pair for probe in probes}
    found = [probe for probe in unseen if probe.adversarial_pair not in used]
    if unseen and not found:
        raise ValueError(
            f"all {len(unseen)} unseen attacks are among the probes; pass other attacks, or none"
        )
    if len(found) < len(unseen):
        warn_caller(
            f"{len(unseen) - len(found)} of {len(unseen)} unseen attacks are among the probes and "
            "left out; pass attacks the repair does not use"
        )
    return found


def _check_raised(held: Measuring) -> None:
    """Whether an attack held out gains anything: otherwise there is nothing to lower."""
    gains = held.gains()
    if not np.isfinite(gains).all():
        raise ValueError(
            "the ranker gives scores that are not finite; look for overflow in the model"
        )
    if max(gains) <= 0:
        raise ValueError(
            f"none of {len(gains)} held-out attacks raises a score: there is nothing to repair; "
            "probe with attacks that succeed on this ranker, or leave it as it is"
        )


def made_anew(
    attacks: Sequence[Attack],
    probes: Sequence[Probe],
    scorer: Any,
    progress: Callable[[int, int], object] | None = None,
) -> list[Probe]:
    """Every attack on every list and target of ``probes``, as ``scorer`` answers now."""
    targets = list(
        {(probe.query, probe.documents, probe.target): probe for probe in probes}.values()
    )
    found = []
    for number, probe in enumerate(targets if attacks else (), start=1):
        victim = MemoScorer(scorer)
        for attack in attacks:
            made = attack.attack(probe.query, probe.documents, probe.target, victim)
            found.append(replace(probe, adversarial=made.text, attack=attack.name))
        if progress is not None:
            progress(number, len(targets))
    return found


def _before_after(before: Measured, after: Measured) -> dict[str, Any]:
    return {"before": before.to_dict(), "after": after.to_dict()}


def _figures(before: Measured, after: Measured, drift: Drift) -> dict[str, Any]:
    return {
        "held_out": _before_after(before, after),
        "clean_drift": drift.to_dict(),
    }


def check_scorer(scorer: Any) -> None:
    """Whether the ranker has weights to repair.

    Raises:
        TypeError: it has not.
    """
    if not isinstance(scorer, TransformersPairScorer):
        raise TypeError(
            f"model must be a TransformersPairScorer, whose weights can be changed, got "
            f"{type(scorer).__name__}; load it with load_ranker or "
            "TransformersPairScorer.from_pretrained"
        )


def divide(probes: Sequence[Probe], held_out: float, seed: int) -> tuple[list[Probe], list[Probe]]:
    """Probes to repair with and probes to hold out; those of one query stay together.

    Raises:
        ValueError: the share is not in (0, 1), or one side would be empty.
    """
    held_out = check_held_out(held_out)
    queries = sorted({probe.query for probe in probes})
    random.Random(seed).shuffle(queries)
    kept_out = set(queries[: max(1, round(held_out * len(queries)))])
    fit = [probe for probe in probes if probe.query not in kept_out]
    held = [probe for probe in probes if probe.query in kept_out]
    if not fit:
        raise ValueError(
            f"{len(queries)} query cannot be divided into probes to repair with and to hold out; "
            "probe with more queries"
        )
    return fit, held


def check_held_out(value: Any) -> float:
    """A share in (0, 1)."""
    return real("held_out", value, lambda x: 0 < x < 1, "in (0, 1)", "0.2 is usual")
