"""What a repair is compared with: training against attacks, and simpler ways to touch neurons."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from robust_components.repair.neurons import Activations, by_layer, find_layers
from robust_components.repair.perturb_scores import logits
from robust_components.repair.probes import Probe
from robust_components.repair.scan import batches

Loss = Callable[[Any, Sequence[Probe], random.Random], Tensor]


def train(scorer: Any, probes: Sequence[Probe], loss: Loss, *, steps: int, seed: int) -> int:
    """Train all weights but the embeddings, four probes a step; returns how many there are."""
    rng = random.Random(seed)
    tables = {id(p) for m in scorer.network.modules() if isinstance(m, torch.nn.Embedding)
              for p in m.parameters()}  # fmt: skip
    moving = [p for p in scorer.network.parameters() if id(p) not in tables]
    for parameter in scorer.network.parameters():
        parameter.requires_grad_(id(parameter) not in tables)
    optimiser = torch.optim.AdamW(moving, lr=2e-5, weight_decay=0.0)
    for _ in range(steps):
        drawn = rng.sample(list(probes), min(4, len(probes)))
        with torch.enable_grad():
            value = loss(scorer, drawn, rng)
            slopes = torch.autograd.grad(value, moving, allow_unused=True)
        for parameter, slope in zip(moving, slopes, strict=True):
            parameter.grad = slope
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
    for parameter in scorer.network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return sum(parameter.numel() for parameter in moving)


def _right(probe: Probe) -> tuple[str, str]:
    return probe.query, probe.documents[probe.relevant[0]]


def adversarial_training(scorer: Any, probes: Sequence[Probe], rng: random.Random) -> Tensor:
    """AT: the relevant document above the target, attacked and clean."""
    pairs = [_right(p) for p in probes]
    pairs += [p.adversarial_pair for p in probes] + [p.clean_pair for p in probes]
    right, attacked, clean = logits(scorer, pairs).chunk(3)
    return (softplus(attacked - right) + softplus(clean - right)).mean()


def perturbation_invariant(scorer: Any, probes: Sequence[Probe], rng: random.Random) -> Tensor:
    """PIAT: ranking on clean documents, and the same score for attacked ones."""
    pairs = [_right(p) for p in probes]
    pairs += [p.adversarial_pair for p in probes] + [p.clean_pair for p in probes]
    right, attacked, clean = logits(scorer, pairs).chunk(3)
    return (softplus(clean - right) + 0.1 * (attacked - clean).square()).mean()


def noise_training(scorer: Any, probes: Sequence[Probe], rng: random.Random) -> Tensor:
    """As for CertDR: ranking on documents with a tenth of their words replaced at random."""
    words = [word for p in probes for text in p.documents for word in text.split()]

    def noisy(pair: tuple[str, str]) -> tuple[str, str]:
        kept = [rng.choice(words) if rng.random() < 0.1 else word for word in pair[1].split()]
        return pair[0], " ".join(kept)

    pairs = [noisy(_right(p)) for p in probes] + [noisy(p.clean_pair) for p in probes]
    right, other = logits(scorer, pairs).chunk(2)
    return softplus(other - right).mean()


def stabilisation(sensitive: Sequence[int]) -> Loss:
    """SNS: ranking, and sensitive neurons that move little under attack (Zhang et al. 2021)."""

    def loss(scorer: Any, probes: Sequence[Probe], rng: random.Random) -> Tensor:
        layers = find_layers(scorer.network)
        some = torch.tensor(list(sensitive))
        means = []
        for pairs in ([p.clean_pair for p in probes], [p.adversarial_pair for p in probes]):
            rows: dict[int, Tensor] = {}
            with Activations(layers) as reading:
                for batch in batches(scorer, pairs, "document"):
                    reading.start(batch.mask)
                    scorer.relevance(batch.inputs)
                    rows |= dict(zip(batch.places, reading.pooled()[:, some], strict=True))
            means.append(torch.stack([rows[i] for i in range(len(pairs))]))
        gap = (means[0] - means[1]).square().sum(1).mean()
        pairs = [_right(p) for p in probes] + [p.clean_pair for p in probes]
        right, clean = logits(scorer, pairs).chunk(2)
        return softplus(clean - right).mean() + gap

    return loss


def mask_out(scorer: Any, chosen: Sequence[int]) -> int:
    """Chosen neurons are never read again; returns how many weights that silences."""
    layers = find_layers(scorer.network)
    touched = 0
    with torch.no_grad():
        for layer, own in zip(layers, by_layer(layers, chosen), strict=True):
            layer.second.weight[:, own] = 0.0
            touched += len(own) * layer.second.out_features
    return touched
