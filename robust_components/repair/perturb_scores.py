"""Perturbation by scores: moves chosen neurons until attacked documents score as they did clean.

Not the published loss, which looks at the neurons alone; same neurons, same sign-gradient steps on
the same rows, at the price of a backward pass through the network a step. ``python -m
benchmarks.repair`` measures both.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from robust_components.repair.neurons import FeedForward, by_layer
from robust_components.repair.perturb import (
    NeuronRows,
    Perturbation,
    check_precision,
    read_rows,
)
from robust_components.repair.probes import Probe
from robust_components.repair.scan import batches

Pairs = Sequence[tuple[str, str]]


def perturb_scores(
    scorer: Any,
    layers: Sequence[FeedForward],
    chosen: Sequence[int],
    probes: Sequence[Probe],
    settings: Perturbation,
) -> Generator[list[NeuronRows], None, None]:
    """Move the chosen neurons' rows by sign-gradient steps on scores; yields after every round.

    The loss of a step, over ``settings.batch`` probes drawn at random, is ``(s(d_adv) - s_0(d))^2 +
    mu (s(d) - s_0(d))^2 + mu (s(e) - s_0(e))^2`` in logits, where s_0 are scores before any step
    and e is another document of the list, if there is one.

    The network holds the rows that were yielded last, as with
    :func:`~robust_components.repair.perturb.perturb`.
    """
    check_precision(layers, settings.step)
    rng = random.Random(settings.seed)
    maps = _maps(layers, chosen)
    others = [_other(probe, rng) for probe in probes]
    clean = [probe.clean_pair for probe in probes]
    attacked = [probe.adversarial_pair for probe in probes]
    with torch.inference_mode():
        wanted, anchored = (logits(scorer, pairs).clone() for pairs in (clean, others))
    with _alone(scorer.network, [linear for linear, _ in maps]) as moving:
        for _ in range(settings.rounds):
            for _ in range(settings.steps):
                drawn = rng.sample(range(len(probes)), min(settings.batch, len(probes)))
                pairs = [some[i] for some in (attacked, clean, others) for i in drawn]
                target = torch.cat([wanted[drawn], wanted[drawn], anchored[drawn]])
                weight = torch.ones_like(target)
                weight[len(drawn) :] = settings.anchor
                with torch.enable_grad():
                    loss = (weight * (logits(scorer, pairs) - target).square()).sum()
                    slopes = torch.autograd.grad(loss, moving)
                _step(maps, slopes, settings.step)
            yield read_rows(layers, chosen)


def logits(scorer: Any, pairs: Pairs) -> Tensor:
    """Float64 (pairs,), differentiable."""
    parts, order = [], []
    for batch in batches(scorer, pairs, "first"):
        parts.append(scorer.relevance(batch.inputs))
        order.extend(batch.places)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[back]


def _maps(layers: Sequence[FeedForward], chosen: Sequence[int]) -> list[tuple[Any, Tensor]]:
    """Each first linear map with the rows of it that may move."""
    found: dict[str, tuple[Any, list[int]]] = {}
    for layer, own in zip(layers, by_layer(layers, chosen), strict=True):
        for rows in layer.rows if own else ():
            place = found.setdefault(rows.name, (rows.linear, []))
            place[1].extend(i + rows.offset for i in own)
    return [(linear, torch.tensor(index)) for linear, index in found.values()]


def _step(maps: Sequence[tuple[Any, Tensor]], slopes: Sequence[Tensor], step: float) -> None:
    left = list(slopes)
    with torch.no_grad():
        for linear, index in maps:
            for tensor in (linear.weight, linear.bias):
                if tensor is not None:
                    tensor[index] -= step * left.pop(0)[index].sign()


@contextmanager
def _alone(network: Any, linears: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Only these maps take gradients in the block; afterwards what did before."""
    before = [(one, one.requires_grad) for one in network.parameters()]
    moving = [t for linear in linears for t in (linear.weight, linear.bias) if t is not None]
    try:
        for one, _ in before:
            one.requires_grad_(False)
        for one in moving:
            one.requires_grad_(True)
        yield moving
    finally:
        for one, wanted in before:
            one.requires_grad_(wanted)


def _other(probe: Probe, rng: random.Random) -> tuple[str, str]:
    """Another document of the probe's list; its target where there is none."""
    rest = [text for i, text in enumerate(probe.documents) if i != probe.target]
    return probe.query, rng.choice(rest) if rest else probe.documents[probe.target]
