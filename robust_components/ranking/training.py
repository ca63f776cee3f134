"""Masked fine-tuning: train a cross-encoder on the smoothed score that will be deployed.

For each query the smoothed score of every document is g = mean over masked copies of
sigmoid(logit). The loss is listwise cross-entropy between the positive's g and the negatives'
*certified* upper bounds U(R) (theory page, section 1; R drawn anew each time), plus the same
cross-entropy on the logits of the unmasked documents, so that one model serves both.
With one negative a list both are pairwise losses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robust_components.models.pair_encoding import PairEncoder, length_sorted
from robust_components.ranking.lists import TrainingRow
from robust_components.smoothing import BalancedMask, split_words


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters.

    Attributes:
        steps: optimiser steps.
        queries: queries a step.
        negatives: negatives a query in the smoothed list.
        plain_negatives: negatives a query in the unmasked list.
        blocks: numbers of blocks to draw from, one a step.
        radii: word budgets R to draw from, one a query.
        temperature: of the smoothed cross-entropy, in units of the score.
        plain_weight: weight of the unmasked loss.
        copy_weight: weight of the loss on the mean logit over the copies.
        learning_rate: peak of a linear warm-up and decay.
        seed: of everything drawn.
    """

    steps: int = 1500
    queries: int = 4
    negatives: int = 4
    plain_negatives: int = 2
    blocks: tuple[int, ...] = (10, 10, 10, 10, 10, 5, 20, 3)
    radii: tuple[int, ...] = (0, 1, 1, 2)
    temperature: float = 0.08
    plain_weight: float = 0.5
    copy_weight: float = 0.3
    learning_rate: float = 4e-4
    max_length: int = 384
    tokens_a_batch: int = 8192
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Scores = Callable[[list[dict[str, list[int]]]], Tensor]


def forward(
    network: Any, encoder: PairEncoder, rows: list[dict[str, list[int]]], tokens: int
) -> Tensor:
    """Logits of encoded rows, shape (rows,), in the order given, with gradients."""
    parts: list[Tensor] = []
    order: list[int] = []
    for batch in length_sorted([len(row["input_ids"]) for row in rows], tokens):
        padded = encoder.pad([rows[i] for i in batch])
        inputs = {key: torch.tensor(ids) for key, ids in padded.items()}
        parts.append(network(**inputs).logits[:, -1].float())
        order.extend(batch)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[back]


def step_loss(
    network: Any,
    encoder: PairEncoder,
    rows: Sequence[TrainingRow],
    settings: Settings,
    rng: random.Random,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one step and its parts."""
    blocks = rng.choice(settings.blocks)
    pairs: list[tuple[str, str]] = []
    for row in rows:
        for document in row.draw(settings.negatives, rng):
            mechanism = BalancedMask(blocks=blocks, seed=rng.randrange(1 << 30))
            copies = mechanism.copies(split_words(document))
            pairs.extend((row.query, copy.text) for copy in copies)
    masked = len(pairs)
    for row in rows:
        pairs.extend((row.query, text) for text in row.draw(settings.plain_negatives, rng))
    encoded, _ = encoder.encode(pairs)
    logits = forward(network, encoder, encoded, settings.tokens_a_batch)
    copies_logits = logits[:masked].view(len(rows), -1, blocks)
    votes = copies_logits.sigmoid()
    bound = votes.mean(2)
    smallest = votes.sort(2).values
    edits = torch.tensor([min(rng.choice(settings.radii), blocks) for _ in rows])
    counts = torch.arange(blocks).view(1, 1, -1) < edits.view(-1, 1, 1)
    raised = bound + (((1 - smallest) * counts).sum(2) / blocks)
    raised = torch.cat([bound[:, :1], raised[:, 1:]], dim=1)
    target = torch.zeros(len(rows), dtype=torch.long)
    smooth = cross_entropy(raised / settings.temperature, target)
    mean_logit = cross_entropy(copies_logits.mean(2), target)
    plain = cross_entropy(logits[masked:].view(len(rows), -1), target)
    loss = smooth + settings.copy_weight * mean_logit + settings.plain_weight * plain
    gap = bound[:, 0] - raised[:, 1:].max(1).values
    parts = {
        "smoothed": float(smooth.detach()),
        "plain": float(plain.detach()),
        "won": float((gap.detach() > 0).float().mean()),
    }
    return loss, parts
