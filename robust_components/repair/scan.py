"""Adversarial scanning: which neurons an attack moves, and which of those move the score.

Source: "Stop Hardening Everything" (Liu et al.), adversarial scanning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_components.models.encoder_batches import padded
from robust_components.repair.neurons import Activations, FeedForward, find_layers
from robust_components.repair.probes import Probe

POOLINGS = ("document", "first", "last", "all")
Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Attributes:
        vulnerability: V, float64 of shape (neurons,): mean over probes of change times influence.
        behaviour: u, float32 of shape (neurons, probes): change times influence for each probe.
        clean: m(q, d), float32 of shape (probes, neurons).
    """

    vulnerability: NDArray[np.float64]
    behaviour: NDArray[np.float32]
    clean: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Padded rows of a model, and which positions count.

    Attributes:
        inputs: as the network takes them.
        mask: float (rows, positions).
        places: index of each row among the pairs that were given.
    """

    inputs: dict[str, torch.Tensor]
    mask: torch.Tensor
    places: list[int]


def batches(
    scorer: Any, pairs: Sequence[tuple[str, str]], pooling: str = "document"
) -> Iterator[Batch]:
    """``pairs`` of query and document in batches of about equal length.

    Args:
        scorer: a :class:`~robust_components.models.pair_scorer.TransformersPairScorer`.
        pooling: positions that count: the ``"document"``'s tokens, the ``"first"`` or the
            ``"last"`` token of the row, or ``"all"`` that are no padding.
    """
    check_pooling(pooling)
    encoder = scorer.encoder
    rows, _ = encoder.encode(pairs)
    for places, inputs in padded(encoder, rows, scorer.tokens_a_batch, scorer.device):
        mask = torch.zeros(inputs["input_ids"].shape, device=scorer.device)
        for at, place in enumerate(places):
            length = len(rows[place]["input_ids"])
            counted = {
                "document": encoder.document_places(pairs[place][0], rows[place]),
                "first": range(1),
                "last": range(length - 1, length),
                "all": range(length),
            }[pooling]
            mask[at, counted.start : counted.stop] = 1.0
        yield Batch(inputs, mask, places)


def check_pooling(pooling: str) -> None:
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be one of {list(POOLINGS)}, got {pooling!r}")


def activations(
    scorer: Any,
    layers: Sequence[FeedForward],
    pairs: Sequence[tuple[str, str]],
    pooling: str = "document",
) -> torch.Tensor:
    """Each neuron's mean over the positions that count: float32 of shape (pairs, neurons)."""
    found = torch.empty(len(pairs), sum(layer.width for layer in layers))
    with Activations(layers) as reading, torch.inference_mode():
        for batch in batches(scorer, pairs, pooling):
            reading.start(batch.mask)
            scorer.relevance(batch.inputs)
            found[torch.tensor(batch.places)] = reading.pooled().float().cpu()
    return found


def influence(
    scorer: Any,
    layers: Sequence[FeedForward],
    pairs: Sequence[tuple[str, str]],
    pooling: str = "document",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means as :func:`activations`, and the derivative of the logit by each of them."""
    shape = (len(pairs), sum(layer.width for layer in layers))
    means, slopes = torch.empty(shape), torch.empty(shape)
    with Activations(layers, shifted=True) as reading, torch.enable_grad():
        for batch in batches(scorer, pairs, pooling):
            reading.start(batch.mask)
            logits = scorer.relevance(batch.inputs)
            order = torch.tensor(batch.places)
            slopes[order] = reading.gradients(logits).float().cpu()
            means[order] = reading.pooled().detach().float().cpu()
    return means, slopes


def scan(
    scorer: Any,
    probes: Sequence[Probe],
    *,
    pooling: str = "document",
    progress: Progress | None = None,
) -> Scan:
    """How vulnerable each neuron is: how far attacks move it times how far it moves the score.

    For probe p and neuron i: ``delta = |m_i(q, d) - m_i(q, d_adv)|``, ``omega = |d logit(q, d_adv)
    / d m_i|``, where m_i is the neuron's mean over the positions that count; u_ip is their product
    and V_i its mean. One forward pass of every document and one backward pass of every adversarial
    one, all neurons at once.

    Args:
        scorer: a :class:`~robust_components.models.pair_scorer.TransformersPairScorer`.
        probes: at least one.
        pooling: see :func:`batches`.
        progress: called with probes done and in all.
    """
    layers = find_layers(scorer.network)
    behaviour = np.empty((sum(layer.width for layer in layers), len(probes)), dtype=np.float32)
    clean = torch.empty(len(probes), len(behaviour))
    step = 32
    for start in range(0, len(probes), step):
        some = probes[start : start + step]
        before = activations(scorer, layers, [p.clean_pair for p in some], pooling)
        after, slopes = influence(scorer, layers, [p.adversarial_pair for p in some], pooling)
        clean[start : start + len(some)] = before
        product = (before - after).abs() * slopes.abs()
        behaviour[:, start : start + len(some)] = product.T.numpy()
        if progress is not None:
            progress(start + len(some), len(probes))
    return Scan(behaviour.mean(axis=1, dtype=np.float64), behaviour, clean)
