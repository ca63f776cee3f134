"""Finds the feed-forward layers of a ranker and what makes each of their neurons.

A neuron is one element of a layer's intermediate activation: what its second linear map reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

PAIRS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("output.dense", ("intermediate.dense",)),
    ("lin2", ("lin1",)),
    ("Wo", ("Wi",)),
    ("wo", ("wi",)),
    ("wo", ("wi_0", "wi_1")),
    ("down_proj", ("gate_proj", "up_proj")),
    ("down_proj", ("up_proj",)),
    ("fc2", ("fc1",)),
)
"""Second linear map and the first ones, named from their common parent: BERT, RoBERTa, ELECTRA,
MPNet and DeBERTa; DistilBERT; ModernBERT; T5, gated T5; Llama, Qwen and Gemma; BART and others."""
FUNCTIONS = ("intermediate_act_fn", "activation", "act", "act_fn", "activation_fn")
"""Names of the function between the maps, an attribute of the module that holds the first one."""


@dataclass(frozen=True)
class Rows:
    """One linear map whose rows make neurons: row ``i + offset`` for neuron ``i``."""

    name: str
    linear: nn.Linear
    offset: int


@dataclass(frozen=True)
class FeedForward:
    """One feed-forward layer.

    Attributes:
        name: of the second linear map, whose input is the activation.
        second: that map.
        rows: where the rows of its neurons are; two entries for gated layers.
        width: number of neurons.
        function: between the maps; a neuron is the function of its first row's product, times the
            second row's product in gated layers.
        single: its rows stand for one position only (a decoder that writes one word).
    """

    name: str
    second: nn.Linear
    rows: tuple[Rows, ...]
    width: int
    function: Callable[[torch.Tensor], torch.Tensor]
    single: bool = False


def find_layers(network: Any) -> list[FeedForward]:
    """The feed-forward layers of ``network``, in the order of its modules.

    Raises:
        ValueError: there is none, they are quantised, or their weights are tied.
    """
    found: list[FeedForward] = []
    modules = dict(network.named_modules())
    decoder_writes = bool(getattr(network.config, "is_encoder_decoder", False))
    for parent in modules:
        inside = f"{parent}." if parent else ""
        for second, firsts in PAIRS:
            names = [f"{inside}{name}" for name in (second, *firsts)]
            if all(name in modules for name in names):
                layer = _layer(modules, names, decoder_writes)
                if layer is not None:
                    found.append(layer)
                break
    if not found:
        looked = "; ".join(f"{second} after {' and '.join(firsts)}" for second, firsts in PAIRS)
        raise ValueError(
            f"no feed-forward layer was recognised in {type(network).__name__}; looked for linear "
            f"maps called {looked}. Merge adapters into the weights, or add the names to "
            "robust_components.repair.neurons.PAIRS"
        )
    _check_tied(network, found)
    return found


def _layer(modules: dict[str, Any], names: list[str], decoder_writes: bool) -> FeedForward | None:
    for name in names:
        one = modules[name]
        weight = getattr(one, "weight", None)
        floating = isinstance(weight, torch.Tensor) and weight.is_floating_point()
        if not isinstance(one, nn.Linear) or type(one).forward is not nn.Linear.forward:
            if not isinstance(one, nn.Module) or not hasattr(one, "weight"):
                return None
            floating = False
        if not floating:
            dtype = getattr(weight, "dtype", None)
            raise ValueError(
                f"{name} is a {type(one).__name__} with weights of type {dtype}, quantised or "
                "wrapped; load the model in float32 (or merge its adapters) and repair that"
            )
    second, firsts = modules[names[0]], [modules[name] for name in names[1:]]
    width = second.in_features
    rows: tuple[Rows, ...]
    if all(first.out_features == width for first in firsts):
        rows = tuple(Rows(n, first, 0) for n, first in zip(names[1:], firsts, strict=True))
    elif len(firsts) == 1 and firsts[0].out_features == 2 * width:
        rows = (Rows(names[1], firsts[0], 0), Rows(names[1], firsts[0], width))
    else:
        return None
    single = decoder_writes and "decoder" in names[0].split(".")
    holder = modules[names[1].rpartition(".")[0]]
    functions = [getattr(holder, name) for name in FUNCTIONS if hasattr(holder, name)]
    if not functions:
        raise ValueError(
            f"no function was recognised between {names[1]} and {names[0]}; looked for "
            f"{', '.join(FUNCTIONS)}; add its name to robust_components.repair.neurons.FUNCTIONS"
        )
    return FeedForward(names[0], second, rows, width, functions[0], single)


def _check_tied(network: Any, layers: Sequence[FeedForward]) -> None:
    """Rows that several layers share cannot be changed for one of them alone."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(parameter.data_ptr(), []).append(name)
    for layer in layers:
        for rows in layer.rows:
            for one in (rows.linear.weight, rows.linear.bias):
                shared = [] if one is None else names.get(one.data_ptr(), [])
                if len(shared) > 1:
                    raise ValueError(
                        f"the weights of {rows.name} are tied: they are also "
                        f"{', '.join(shared[1:])}; untie them, or repair a model whose layers have "
                        "weights of their own"
                    )


def number_of_neurons(layers: Sequence[FeedForward]) -> int:
    return sum(layer.width for layer in layers)


def by_layer(layers: Sequence[FeedForward], neurons: Sequence[int]) -> list[list[int]]:
    """For every layer its own among ``neurons``, which are counted through all layers."""
    found: list[list[int]] = [[] for _ in layers]
    for neuron in sorted(neurons):
        for place, layer in enumerate(layers):
            if neuron < layer.width:
                found[place].append(neuron)
                break
            neuron -= layer.width
        else:
            raise ValueError(
                f"neuron {neuron} lies beyond the {number_of_neurons(layers)} of this model; scan "
                "and repair the same model"
            )
    return found


class Activations:
    """Reads the activations of all layers while a network runs; a context manager.

    Hooks are removed on every way out of the block. Within it, :meth:`pooled` gives each neuron's
    mean over the wanted positions in the latest call.

    Args:
        layers: of the network.
        mask: float tensor (rows, positions), 1 where a position counts; set it before each call.
        shifted: add to every neuron, at those positions, a zero that gradients are taken of.
    """

    def __init__(self, layers: Sequence[FeedForward], *, shifted: bool = False) -> None:
        self.layers = layers
        self.shifted = shifted
        self.mask: torch.Tensor | None = None
        self.means: dict[str, torch.Tensor] = {}
        self.shifts: dict[str, torch.Tensor] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> Activations:
        try:
            for layer in self.layers:
                self._hooks.append(layer.second.register_forward_pre_hook(self._reader(layer)))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()

    def _remove(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def start(self, mask: torch.Tensor) -> None:
        """Forget the latest call; the next one counts the positions of ``mask``."""
        self.mask = mask
        self.means.clear()
        self.shifts.clear()

    def _reader(self, layer: FeedForward) -> Any:
        def read(module: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            values = given[0]
            assert self.mask is not None
            mask = self.mask[:, :1].clamp(min=1) if layer.single else self.mask
            mask = mask.to(values.dtype)
            if values.shape[:-1] != mask.shape:
                raise ValueError(
                    f"{layer.name} reads {tuple(values.shape[:-1])} positions, expected "
                    f"{tuple(mask.shape)}; load the model with padded inputs "
                    "(attn_implementation='sdpa')"
                )
            if layer.name in self.means:
                raise ValueError(
                    f"{layer.name} ran twice in one call: its weights are tied across layers; "
                    "repair a model whose layers have weights of their own"
                )
            if self.shifted:
                shift = values.new_zeros(len(values), 1, values.shape[-1]).requires_grad_()
                self.shifts[layer.name] = shift
                values = values + mask.unsqueeze(-1) * shift
            counted = mask.sum(1, keepdim=True).clamp(min=1)
            # a product of matrices: no copy of the activations
            self.means[layer.name] = (mask.unsqueeze(1) @ values).squeeze(1) / counted
            return (values, *given[1:])

        return read

    def pooled(self) -> torch.Tensor:
        """(rows, neurons): the mean of every neuron, through all layers in order."""
        return torch.cat([self.means[layer.name] for layer in self.layers], dim=1)

    def gradients(self, logits: torch.Tensor) -> torch.Tensor:
        """(rows, neurons): derivative of each row's logit by each neuron's mean."""
        shifts = [self.shifts[layer.name] for layer in self.layers]
        found = torch.autograd.grad(logits.sum(), shifts, allow_unused=True)
        return torch.cat(
            [
                torch.zeros_like(shift).squeeze(1) if one is None else one.squeeze(1)
                for one, shift in zip(found, shifts, strict=True)
            ],
            dim=1,
        )
