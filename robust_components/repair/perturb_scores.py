"""Perturbation by scores: trains the chosen neurons' rows until attacks raise scores no more.

Not the published loss, which looks at the neurons alone: here the same rows follow the ranker's
scores, at the price of a backward pass through the network a step, and all other weights stay.
``python -m benchmarks.repair`` measures both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from robust_components.attacks.attack import seeded
from robust_components.models.encoder_batches import in_order, padded
from robust_components.repair.neurons import FeedForward, by_layer
from robust_components.repair.perturb import (
    NeuronRows,
    Perturbation,
    check_precision,
    read_rows,
    write_rows,
)
from robust_components.repair.probes import Probe

Pairs = Sequence[tuple[str, str]]
POOL, DRAWN = 6, 2
"""Other documents of a list that are held in place, and how many of them a step looks at."""
WARM_UP = 20
SHARES = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15)
"""Of the way to the trained rows, strongest first."""


def perturb_scores(
    scorer: Any,
    layers: Sequence[FeedForward],
    chosen: Sequence[int],
    probes: Sequence[Probe],
    settings: Perturbation,
    progress: Callable[[int, int], object] | None = None,
) -> Generator[list[NeuronRows], None, None]:
    """Train the chosen neurons' rows on scores; yields rows from the trained ones to the old ones.

    With z a logit in standard deviations of the clean logits and z_0 before any step, a probe costs
    ``max(0, z(d_adv) - z_0(d) + margin)^2 + mu sum_e (z(e) - z_0(e))^2``, where e are the clean
    document, others of its list and a relevant one if it is known. Steps are Adam's, of
    ``settings.batch`` probes drawn at random, decaying over all rounds; on processors with units
    for bfloat16 their passes are of bfloat16, the weights stay float32. What is yielded lies
    ``settings.strength`` of the way from the old rows to the trained ones, then less and less far:
    clean lists get back what they lost faster than attacks (weight interpolation, Wortsman et al.
    2022).

    The network holds the rows that were yielded last, as with
    :func:`~robust_components.repair.perturb.perturb`.
    """
    check_precision(layers, settings.eta)
    rng = random.Random(settings.seed)
    maps = _maps(layers, chosen)
    original = read_rows(layers, chosen)
    lists = [_List(probe, settings.seed) for probe in probes]
    before, spread = _clean(scorer, list(dict.fromkeys(p for one in lists for p in one.pairs)))
    total = settings.rounds * settings.steps
    with _alone(scorer.network, [linear for linear, _ in maps]) as moving:
        optimiser = torch.optim.Adam(moving, lr=settings.eta)
        for step in range(total):
            drawn = rng.sample(lists, min(settings.batch, len(lists)))
            held = [one.clean for one in drawn]
            for one in drawn:
                held += one.right + rng.sample(one.others, min(DRAWN, len(one.others)))
            wanted = [before[one.clean] / spread - settings.margin for one in drawn]
            wanted += [before[pair] / spread for pair in held]
            pairs = [one.attacked for one in drawn] + held
            slopes = _slopes(scorer, pairs, wanted, len(drawn), spread, settings.anchor, moving)
            for group in optimiser.param_groups:
                group["lr"] = settings.eta * min((step + 1) / WARM_UP, 1 - step / total)
            _take(optimiser, maps, slopes)
            if progress is not None:
                progress(step + 1, total)
    trained = read_rows(layers, chosen)
    for share in SHARES:
        part = [
            _between(old, new, share * settings.strength)
            for old, new in zip(original, trained, strict=True)
        ]
        write_rows(scorer.network, part)
        yield part


def _slopes(
    scorer: Any,
    pairs: Pairs,
    wanted: Sequence[float],
    attacked: int,
    spread: float,
    anchor: float,
    moving: Sequence[Tensor],
) -> list[Tensor]:
    """Gradient of the loss over ``pairs``, of which the first ``attacked`` may score less.

    Taken a batch at a time, so that one batch's activations are held in memory.
    """
    rows, _ = scorer.encoder.encode(pairs)
    total = [torch.zeros_like(one) for one in moving]
    for places, inputs in padded(scorer.encoder, rows, scorer.tokens_a_batch, scorer.device):
        hostile = torch.tensor([place < attacked for place in places], device=scorer.device)
        goal = torch.tensor([wanted[place] for place in places], device=scorer.device)
        with torch.enable_grad(), _quick(scorer):
            gap = scorer.relevance(inputs) / spread - goal
            costs = torch.where(hostile, gap.clamp(min=0).square(), anchor * gap.square())
            slopes = torch.autograd.grad(costs.sum() / attacked, moving)
        for one, slope in zip(total, slopes, strict=True):
            one += slope
    return total


def logits(scorer: Any, pairs: Pairs) -> Tensor:
    """Relevance of (pairs,), differentiable."""
    rows, _ = scorer.encoder.encode(pairs)
    return in_order(scorer.relevance, scorer.encoder, rows, scorer.tokens_a_batch, scorer.device)


class _List:
    """Pairs of one probe: the target attacked and clean, a relevant document, some others."""

    def __init__(self, probe: Probe, seed: int) -> None:
        rng = seeded(seed, probe.query)  # probes of one list share what is scored
        right = probe.relevant[:1]
        rest = [i for i in range(len(probe.documents)) if i not in (probe.target, *right)]
        self.attacked = probe.adversarial_pair
        self.clean = probe.clean_pair
        self.right = [(probe.query, probe.documents[i]) for i in right]
        drawn = rng.sample(rest, min(POOL, len(rest)))
        self.others = [(probe.query, probe.documents[i]) for i in drawn]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All but the attacked one."""
        return [self.clean, *self.right, *self.others]


def _clean(scorer: Any, pairs: Pairs) -> tuple[dict[tuple[str, str], float], float]:
    """Logits of ``pairs``, and their standard deviation; 1 if they are all the same."""
    with torch.inference_mode(), _quick(scorer):
        values = logits(scorer, pairs).double().cpu()
    spread = float(values.std(correction=0))
    return dict(zip(pairs, values.tolist(), strict=True)), spread if spread > 0 else 1.0


def _maps(layers: Sequence[FeedForward], chosen: Sequence[int]) -> list[tuple[Any, Tensor]]:
    """Each first linear map with the rows of it that may move."""
    found: dict[str, tuple[Any, list[int]]] = {}
    for layer, own in zip(layers, by_layer(layers, chosen), strict=True):
        for rows in layer.rows if own else ():
            place = found.setdefault(rows.name, (rows.linear, []))
            place[1].extend(i + rows.offset for i in own)
    return [(linear, torch.tensor(index)) for linear, index in found.values()]


def _between(old: NeuronRows, new: NeuronRows, share: float) -> NeuronRows:
    """``share`` of the way from one to the other."""
    weight = torch.lerp(old.weight, new.weight, share)
    bias = None if old.bias is None or new.bias is None else torch.lerp(old.bias, new.bias, share)
    return NeuronRows(old.name, old.index, weight, bias)


def _take(optimiser: Any, maps: Sequence[tuple[Any, Tensor]], slopes: Sequence[Tensor]) -> None:
    """One step of the rows that may move; Adam leaves what never had a slope as it is."""
    left = list(slopes)
    for linear, index in maps:
        for tensor in (linear.weight, linear.bias):
            if tensor is not None:
                slope = left.pop(0)
                tensor.grad = torch.zeros_like(tensor)
                tensor.grad[index] = slope[index].to(tensor.dtype)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


@contextmanager
def _quick(scorer: Any) -> Iterator[None]:
    """Passes in bfloat16 with eager attention, where the processor has units for them."""
    network = scorer.network
    if torch.device(scorer.device).type != "cpu" or not torch.cpu.get_capabilities().get(
        "amx_bf16"
    ):
        yield
        return
    usual = network.config._attn_implementation
    try:
        if usual == "sdpa":
            network.set_attn_implementation("eager")
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        if usual == "sdpa":
            network.set_attn_implementation(usual)


@contextmanager
def _alone(network: Any, linears: Sequence[Any]) -> Iterator[list[Tensor]]:
    """Only these maps take gradients in the block; afterwards what did before."""
    before = [(one, one.requires_grad, one.grad) for one in network.parameters()]
    moving = [t for linear in linears for t in (linear.weight, linear.bias) if t is not None]
    try:
        for one, _, _ in before:
            one.requires_grad_(False)
        for one in moving:
            one.requires_grad_(True)
        yield moving
    finally:
        for one, wanted, gradient in before:
            one.requires_grad_(wanted)
            one.grad = gradient
