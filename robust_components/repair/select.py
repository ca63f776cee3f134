"""Which neurons to repair: maximum marginal vulnerability, and simpler rules to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import positive_integer, real


def maximum_marginal_vulnerability(
    vulnerability: NDArray[np.floating[Any]],
    behaviour: NDArray[np.floating[Any]],
    count: int,
    trade_off: float = 0.7,
) -> list[int]:
    """Vulnerable neurons that behave differently from each other, chosen greedily.

    Each step takes the neuron with the largest ``trade_off * V_i / max V - (1 - trade_off) *
    max_j cos(u_i, u_j)`` over the chosen ``j``, the lowest index if several are equal. V is divided
    by its maximum: otherwise the cosine decides alone. Neurons with V = 0 come last, in order: no
    probe moves the score through them, and with a cosine of 0 to all others they would pass for
    the most different ones.

    Source: "Stop Hardening Everything" (Liu et al.), maximum marginal vulnerability, in the manner
    of maximal marginal relevance (Carbonell & Goldstein 1998).

    Args:
        vulnerability: V, shape (neurons,), not negative.
        behaviour: u, shape (neurons, probes).
        count: K, in 1..neurons.
        trade_off: lambda in [0, 1]; 1 is top-K without diversity.

    Returns:
        K indices in the order they were chosen.

    Raises:
        ValueError: an argument is outside its range, or no neuron is vulnerable.
    """
    neurons = len(vulnerability)
    if behaviour.ndim != 2 or len(behaviour) != neurons:
        raise ValueError(
            f"behaviour must have shape ({neurons}, probes), got {behaviour.shape}; pass both "
            "arrays of one scan"
        )
    count = check_count(count, neurons)
    trade_off = check_share("trade_off", trade_off)
    largest = float(vulnerability.max())
    if not np.isfinite(vulnerability).all() or largest <= 0:
        raise ValueError(
            f"the largest vulnerability is {largest}: no neuron moves the score under these "
            "probes; probe with attacks that succeed"
        )
    relevance = trade_off * (vulnerability.astype(np.float64) / largest)
    single = behaviour.dtype == np.float32  # half the time, as much as a scan knows
    unit: NDArray[Any] = behaviour if single else behaviour.astype(np.float64)
    smallest = np.finfo(unit.dtype).tiny
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), smallest)
    nearest = np.zeros(neurons)
    open_ = np.ones(neurons, dtype=bool)
    chosen: list[int] = []
    for _ in range(count):
        worth = np.where(vulnerability > 0, relevance - (1 - trade_off) * nearest, -2.0)
        worth[~open_] = -np.inf
        best = int(worth.argmax())
        chosen.append(best)
        open_[best] = False
        cosine = (unit @ unit[best]).astype(np.float64)
        nearest = cosine if len(chosen) == 1 else np.maximum(nearest, cosine)
    return chosen


def top_vulnerable(vulnerability: NDArray[np.floating[Any]], count: int) -> list[int]:
    """The ``count`` most vulnerable neurons, whatever they have in common."""
    count = check_count(count, len(vulnerability))
    return [int(i) for i in np.argsort(-vulnerability, kind="stable")[:count]]


def random_neurons(neurons: int, count: int, seed: int) -> list[int]:
    """``count`` neurons drawn at random."""
    count = check_count(count, neurons)
    return [int(i) for i in np.random.default_rng(seed).choice(neurons, count, replace=False)]


def check_count(count: int, neurons: int) -> int:
    """K within the neurons there are."""
    count = positive_integer("neurons", count)
    if count > neurons:
        raise ValueError(
            f"neurons must be at most {neurons}, the neurons of this model, got {count}; lower it"
        )
    return count


def check_share(name: str, value: float) -> float:
    """A number in [0, 1]."""
    return real(name, value, lambda x: 0 <= x <= 1, "in [0, 1]", "0.7 is the published value")
