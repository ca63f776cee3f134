"""Methods of the repair benchmark, by name: repairs, baselines, and what is varied."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

STRENGTH = 0.75
"""Of repairs on scores; nothing decides here how far clean lists may move."""
METHODS = (
    *("none", "repair", "repair_scores", "top_k", "random_k", "mask_out"),
    *("adversarial_training", "piat", "certdr_noise", "sns"),
)


class Methods:
    """Changes rankers in place, by the name of a method.

    Args:
        scorer: the ranker as it is.
        probes: attacks on it.
    """

    def __init__(self, options: argparse.Namespace, scorer: Any, probes: Sequence[Any], seed: int):
        from robust_components.repair.scan import scan

        self.options, self.seed = options, seed
        self.probes = [p for p in probes if p.adversarial != p.documents[p.target]]
        began = time.perf_counter()
        self.scan = scan(scorer, self.probes)
        self.scan_seconds = time.perf_counter() - began

    def choose(self, rule: str, neurons: int, trade_off: float) -> list[int]:
        from robust_components.repair import select

        vulnerability, behaviour = self.scan.vulnerability, self.scan.behaviour
        if rule == "random_k":
            return select.random_neurons(len(vulnerability), neurons, self.seed)
        if rule in ("top_k", "mask_out", "sns"):
            return select.top_vulnerable(vulnerability, neurons)
        return select.maximum_marginal_vulnerability(vulnerability, behaviour, neurons, trade_off)

    def apply(self, scorer: Any, name: str, neurons: int, trade_off: float) -> int:
        """Change ``scorer``, a copy of the ranker; returns how many weights were touched."""
        from benchmarks import repair_baselines as baselines
        from robust_components.repair.neurons import find_layers
        from robust_components.repair.perturb import Perturbation, perturb, read_rows
        from robust_components.repair.perturb_scores import perturb_scores

        if name == "none":
            return 0
        layers = find_layers(scorer.network)
        losses: dict[str, Any] = {
            "adversarial_training": baselines.adversarial_training,
            "piat": baselines.perturbation_invariant,
            "certdr_noise": baselines.noise_training,
        }
        chosen = self.choose(name, neurons, trade_off)
        if name == "sns":
            losses["sns"] = baselines.stabilisation(chosen)
        if name in losses:
            steps = self.options.training_steps
            named = [p for p in self.probes if p.relevant]
            return baselines.train(scorer, named, losses[name], steps=steps, seed=self.seed)
        if name == "mask_out":
            return baselines.mask_out(scorer, chosen)
        if name == "repair":
            clean, attacked = (
                [p.clean_pair for p in self.probes],
                [p.adversarial_pair for p in self.probes],
            )
            settings = Perturbation("activations", seed=self.seed)
            rounds = perturb(scorer, layers, chosen, clean, attacked, self.scan.clean, settings)
        else:
            settings = Perturbation(
                rounds=1, steps=self.options.steps, strength=STRENGTH, seed=self.seed
            )
            shares = perturb_scores(scorer, layers, chosen, self.probes, settings)
            rounds = islice(shares, 1)
        for _ in rounds:
            pass
        return sum(one.size for one in read_rows(layers, chosen))


def variants(options: argparse.Namespace, seed: int) -> Iterator[tuple[str, str, int, float]]:
    """Label, method, neurons and trade-off of everything measured with this seed."""
    for name in options.methods:
        yield name, name, options.neurons, options.trade_off
    if seed in options.sweep:
        for neurons in options.sweep_neurons:
            yield f"repair_scores, K={neurons}", "repair_scores", neurons, options.trade_off
        for share in options.sweep_trade_offs:
            yield f"repair_scores, lambda={share}", "repair_scores", options.neurons, share
