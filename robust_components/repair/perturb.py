"""Inverse perturbation: moves chosen neurons back to what they were on the clean documents.

Source: "Stop Hardening Everything" (Liu et al.), inverse perturbation, with the clean activation
of the model as it was as a frozen target: the printed loss alone rewards neurons that are dead.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robust_components.checks import positive_integer, real
from robust_components.repair.neurons import FeedForward, by_layer
from robust_components.repair.scan import batches, check_pooling

Pairs = Sequence[tuple[str, str]]
OBJECTIVES = ("activations", "scores")
USUAL_STEP = {"activations": 5e-6, "scores": 2e-3}
Map = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class NeuronRows:
    """Rows of one linear map that belong to chosen neurons.

    Attributes:
        name: of the map.
        index: int64 (rows,), which rows.
        weight: float (rows, inputs).
        bias: float (rows,), or ``None``.
    """

    name: str
    index: Tensor
    weight: Tensor
    bias: Tensor | None

    @property
    def size(self) -> int:
        """Numbers in the rows."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())


def read_rows(layers: Sequence[FeedForward], chosen: Sequence[int]) -> list[NeuronRows]:
    """Copies of the rows that make the chosen neurons, as they are now."""
    found = []
    for layer, own in zip(layers, by_layer(layers, chosen), strict=True):
        for rows in layer.rows if own else ():
            index = torch.tensor(own) + rows.offset
            linear = rows.linear
            bias = None if linear.bias is None else linear.bias.detach()[index].clone()
            found.append(NeuronRows(rows.name, index, linear.weight.detach()[index].clone(), bias))
    return found


def write_rows(network: Any, rows: Sequence[NeuronRows]) -> None:
    """Put rows into a network, bit for bit."""
    modules = dict(network.named_modules())
    with torch.no_grad():
        for one in rows:
            linear = modules[one.name]
            linear.weight[one.index] = one.weight.to(linear.weight)
            if one.bias is not None:
                linear.bias[one.index] = one.bias.to(linear.bias)


@contextmanager
def kept(network: Any, rows: Sequence[NeuronRows]) -> Iterator[None]:
    """Put ``rows`` back at the end of the block, however it ends."""
    try:
        yield
    finally:
        write_rows(network, rows)


def check_precision(layers: Sequence[FeedForward], step: float) -> None:
    """Refuse weights in which a step would vanish in rounding."""
    for layer in layers:
        for rows in layer.rows:
            weight = rows.linear.weight
            if torch.finfo(weight.dtype).bits < 32:
                size = float(weight.detach().float().abs().mean())
                smallest = size * torch.finfo(weight.dtype).eps
                raise ValueError(
                    f"{rows.name} has {weight.dtype} weights, whose neighbours lie about "
                    f"{smallest:.1e} apart, and a step is {step:.1e}: it would vanish or jump; "
                    "call network.float() and repair that"
                )


class LayerInputs:
    """What a layer's first maps read for some pairs, at the positions that count.

    Args:
        values: float (tokens, inputs).
        owner: int64 (tokens,), the pair of each token.
        pairs: number of pairs.
    """

    def __init__(self, values: Tensor, owner: Tensor, pairs: int) -> None:
        self.values = values
        self.owner = owner
        self.pairs = pairs
        counts = torch.bincount(owner, minlength=pairs).clamp(min=1)
        self.share = (1.0 / counts[owner]).to(values.dtype).unsqueeze(1)

    def means(self, layer: FeedForward, maps: Sequence[Map]) -> Tensor:
        """(pairs, neurons): means of the neurons whose rows are ``maps``, one a linear map."""
        products = [torch.nn.functional.linear(self.values, *one) for one in maps]
        values = layer.function(products[0])
        if len(products) == 2:
            values = values * products[1]
        empty = values.new_zeros(self.pairs, values.shape[1])
        return empty.index_add(0, self.owner, values * self.share)


def capture(
    scorer: Any, layers: Sequence[FeedForward], pairs: Pairs, pooling: str
) -> list[LayerInputs]:
    """What each layer reads for ``pairs``; one forward pass of every pair."""
    caught: dict[str, Tensor] = {}
    hooks: list[Any] = []
    parts: list[list[Tensor]] = [[] for _ in layers]
    owners: list[list[Tensor]] = [[] for _ in layers]

    def keeper(name: str) -> Callable[..., None]:
        def keep(module: Any, given: tuple[Tensor, ...]) -> None:
            caught[name] = given[0]

        return keep

    try:
        for layer in layers:
            first = layer.rows[0].linear
            hooks.append(first.register_forward_pre_hook(keeper(layer.name)))
        with torch.no_grad():
            for batch in batches(scorer, pairs, pooling):
                scorer.relevance(batch.inputs)
                places = torch.tensor(batch.places, device=batch.mask.device)
                for at, layer in enumerate(layers):
                    mask = batch.mask[:, :1].clamp(min=1) if layer.single else batch.mask
                    row, position = mask.bool().nonzero(as_tuple=True)
                    parts[at].append(caught[layer.name][row, position])
                    owners[at].append(places[row])
    finally:
        for hook in hooks:
            hook.remove()
    return [
        LayerInputs(torch.cat(values), torch.cat(owner), len(pairs))
        for values, owner in zip(parts, owners, strict=True)
    ]


@dataclass(frozen=True)
class Perturbation:
    """How far and how long to go.

    Args:
        objective: ``"scores"`` (see :mod:`~robust_components.repair.perturb_scores`), or
            ``"activations"``: the neurons return to where they were, as published, which
            ``python -m benchmarks.repair`` finds to change little.
        step: above 0 and below 1: for scores Adam's largest step, 2e-3 when ``None``; for
            activations eta, length of a sign-gradient step in every weight, 5e-6 when ``None``.
        rounds: for activations looks at held-out probes, before which what the layers read is
            taken anew; for scores a factor of ``steps``; at least 1.
        steps: steps in each round, at least 1.
        anchor: mu, weight of staying where the clean documents were, at least 0.
        margin: how far below its clean score an attacked document is pushed, in standard
            deviations of clean scores, at least 0; for scores.
        strength: how far the rows go towards the trained ones at most, above 0 and up to 1; for
            scores. Where the guard objects, they go less far.
        sample: probes of a round, drawn at random, at least 1; for activations.
        batch: probes of a step, at least 1; for scores.
        seed: of the draws.
        pooling: see :func:`~robust_components.repair.scan.batches`.
    """

    objective: str = "scores"
    step: float | None = None
    rounds: int = 4
    steps: int = 100
    anchor: float = 1.0
    margin: float = 0.9
    strength: float = 1.0
    sample: int = 128
    batch: int = 8
    seed: int = 0
    pooling: str = "document"

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(
                f"objective must be one of {list(OBJECTIVES)}, got {self.objective!r}; choose one"
            )
        for name in ("rounds", "steps", "sample", "batch"):
            self._keep(name, positive_integer(name, getattr(self, name)))
        self._keep("seed", positive_integer("seed", self.seed, 0))
        if self.step is not None:
            hint = "5e-6 is published"
            self._keep("step", real("step", self.step, lambda x: 0 < x < 1, "in (0, 1)", hint))
        for name in ("anchor", "margin"):
            value, hint = getattr(self, name), f"the default is {getattr(Perturbation, name)}"
            self._keep(name, real(name, value, lambda x: 0 <= x < math.inf, "at least 0", hint))
        hint = f"the default is {Perturbation.strength}"
        strength = real("strength", self.strength, lambda x: 0 < x <= 1, "in (0, 1]", hint)
        self._keep("strength", strength)
        check_pooling(self.pooling)

    def _keep(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)  # numbers of numpy are no plain data

    @property
    def eta(self) -> float:
        """The step, given or usual."""
        return USUAL_STEP[self.objective] if self.step is None else self.step


def perturb(
    scorer: Any,
    layers: Sequence[FeedForward],
    chosen: Sequence[int],
    clean: Pairs,
    adversarial: Pairs,
    targets: Tensor,
    settings: Perturbation,
) -> Generator[list[NeuronRows], None, None]:
    """Move the chosen neurons' rows by sign-gradient steps; yields the rows after every round.

    The loss is ``|m(d_adv) - m_0(d)|^2 + mu |m(d) - m_0(d)|^2`` over the chosen neurons, where m_0
    belongs to the network before any step. What a layer reads is taken from the network at the
    beginning of a round and stays as it is during the round's steps, so that a step costs the
    chosen neurons alone; the gradient is then that of each neuron by its own rows.

    The network holds the rows that were yielded last; put the old ones back with :func:`kept`.

    Args:
        clean, adversarial: pairs of query and document, of the same length.
        targets: float (pairs, neurons), means m_0(d) of all neurons.

    Raises:
        ValueError: the weights are of half precision.
    """
    check_precision(layers, settings.eta)
    own = by_layer(layers, chosen)
    first_neuron = [sum(layer.width for layer in layers[:at]) for at in range(len(layers))]
    busy = [at for at, some in enumerate(own) if some]
    rng = random.Random(settings.seed)
    for _ in range(settings.rounds):
        drawn = rng.sample(range(len(clean)), min(settings.sample, len(clean)))
        some_layers = [layers[at] for at in busy]
        before = capture(scorer, some_layers, [clean[i] for i in drawn], settings.pooling)
        after = capture(scorer, some_layers, [adversarial[i] for i in drawn], settings.pooling)
        for at, calm, moved in zip(busy, before, after, strict=True):
            columns = torch.tensor(own[at]) + first_neuron[at]
            target = targets[torch.tensor(drawn)][:, columns].to(calm.values)
            rows = _descend(layers[at], own[at], calm, moved, target, settings)
            write_rows(scorer.network, rows)
        yield read_rows(layers, chosen)


def _descend(
    layer: FeedForward,
    own: Sequence[int],
    before: LayerInputs,
    after: LayerInputs,
    target: Tensor,
    settings: Perturbation,
) -> list[NeuronRows]:
    """Rows of one layer after one round's steps."""
    rows = read_rows([layer], own)
    maps = [(one.weight, one.bias) for one in rows]
    moving = [one.requires_grad_() for pair in maps for one in pair if one is not None]
    for _ in range(settings.steps):
        with torch.enable_grad():
            gap = (after.means(layer, maps) - target).square().sum()
            drift = (before.means(layer, maps) - target).square().sum()
            slopes = torch.autograd.grad(gap + settings.anchor * drift, moving)
        with torch.no_grad():
            for values, slope in zip(moving, slopes, strict=True):
                values -= settings.eta * slope.sign()
    for one in moving:
        one.requires_grad_(False)
    return rows
