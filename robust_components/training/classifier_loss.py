"""Masked training of classifiers: the loss is on the certified mean that will be deployed.

Each text is split into masked copies; f(copy) are the class probabilities, and the text's score of
a class is their mean. An attacker who touches R copies lifts a rival j above the true class y by

    rise_j(R) = [sum of the R largest 1 + f_y - f_j] / copies        (theory page, soft votes)

so the loss is cross-entropy between the mean of y and the *lifted* means of its rivals, with R
drawn anew for each text, plus smaller cross-entropies of the unmasked text and of each copy alone.
Copies come from ``BalancedMask``, each time with a seed, or with cuts, of their own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robust_components.models.encoder_batches import in_order
from robust_components.models.text_encoding import TextEncoder
from robust_components.smoothing import BalancedMask, MaskedCopy, split_words
from robust_components.training.classifier_data import LabelledText

CUTS = 16
"""Places in a run of neighbouring words where training may cut it."""


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters.

    Attributes:
        steps: optimiser steps.
        texts: texts a step.
        blocks: numbers of copies to draw from, one a step; the first is deployed.
        spans: neighbouring words that stay together, one number for each of ``blocks``; ``None``
            for runs of neighbouring words, one a copy.
        partitions: partitions deployed; training sees one at a time.
        radii: word budgets R to draw from, one a text.
        temperature: of the smoothed cross-entropy, in units of the mean probability.
        plain_weight: weight of the loss on unmasked texts.
        plain_share: share of a step's texts that are also read unmasked, in (0, 1].
        copy_weight: weight of the loss on single copies.
        learning_rate: peak of a linear warm-up and decay.
        dropout: in every layer of the encoder, in [0, 1).
        rank: of the low-rank updates.
        max_length: tokens of a text.
        tokens_a_batch: most tokens of a pass, padding included; copies and whole texts differ in
            length, and large passes are mostly padding.
        seed: of everything drawn.
    """

    steps: int = 900
    texts: int = 24
    blocks: tuple[int, ...] = (10,)
    spans: tuple[int | None, ...] = (1,)
    partitions: int = 1
    radii: tuple[int, ...] = (0, 1, 1, 2)
    temperature: float = 0.15
    plain_weight: float = 0.5
    plain_share: float = 1.0
    copy_weight: float = 0.3
    learning_rate: float = 1e-3
    dropout: float = 0.0
    rank: int = 16
    max_length: int = 256
    tokens_a_batch: int = 1024
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def deployed(self) -> BalancedMask:
        """The mechanism trained for, with the default seed."""
        return BalancedMask(self.blocks[0], partitions=self.partitions, span=self.spans[0])


def forward(network: Any, encoder: TextEncoder, texts: Sequence[str], tokens: int) -> Tensor:
    """Logits of texts, shape (texts, labels), in order, with gradients."""

    def logits(inputs: dict[str, Tensor]) -> Tensor:
        found: Tensor = network(**inputs).logits.float()
        return found

    return in_order(logits, encoder, encoder.encode(texts)[0], tokens)


def step_loss(
    network: Any,
    encoder: TextEncoder,
    batch: Sequence[LabelledText],
    settings: Settings,
    rng: random.Random,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one step and its parts."""
    kind = rng.randrange(len(settings.blocks))
    blocks, span = settings.blocks[kind], settings.spans[kind]
    made: list[MaskedCopy] = []
    for item in batch:
        made.extend(fresh_copies(split_words(item.text), blocks, span, rng))
    copies = [copy.text for copy in made if copy.visible]
    shown = torch.tensor([bool(copy.visible) for copy in made]).view(len(batch), blocks)
    whole = [item.text for item in batch[: max(1, round(settings.plain_share * len(batch)))]]
    logits = forward(network, encoder, [*copies, *whole], settings.tokens_a_batch)
    masked = logits[: len(copies)]
    target = torch.tensor([item.label for item in batch])
    radii = torch.tensor([rng.choice(settings.radii) for _ in batch])
    votes = torch.zeros(len(batch), blocks, logits.shape[1])
    votes[shown] = masked.softmax(1)
    lifted = lifted_means(votes, shown, target, radii)
    smoothed = cross_entropy(lifted / settings.temperature, target)
    alone = cross_entropy(masked, target.view(-1, 1).expand(-1, blocks)[shown])
    plain = cross_entropy(logits[len(copies) :], target[: len(whole)])
    loss = smoothed + settings.plain_weight * plain + settings.copy_weight * alone
    won = (lifted.detach().argmax(1) == target).float().mean()
    return loss, {
        "smoothed": float(smoothed.detach()),
        "plain": float(plain.detach()),
        "copy": float(alone.detach()),
        "won": float(won),
    }


def fresh_copies(
    words: Sequence[str], blocks: int, span: int | None, rng: random.Random
) -> list[MaskedCopy]:
    """One partition of ``words`` into ``blocks`` copies, drawn anew."""
    if span is not None:
        return BalancedMask(blocks, span=span, seed=rng.randrange(1 << 30)).copies(words)
    chosen = rng.randrange(CUTS)
    made = BalancedMask(blocks, CUTS, span=None).copies(words)
    return made[chosen * blocks : (chosen + 1) * blocks]


def lifted_means(votes: Tensor, shown: Tensor, target: Tensor, radii: Tensor) -> Tensor:
    """Mean probabilities, those of wrong labels raised as far as ``radii`` touched copies can.

    Args:
        votes: probabilities, shape (texts, copies, labels); zeros where nothing is shown.
        shown: whether a copy shows a word, shape (texts, copies); others cannot be touched.
        target: the true labels, shape (texts,).
        radii: touched copies, shape (texts,); at most the number of copies count.

    Returns:
        Shape (texts, labels).
    """
    copies = votes.shape[1]
    place = target.view(-1, 1, 1).expand(-1, copies, 1)
    gains = (1 + votes.gather(2, place) - votes) * shown.unsqueeze(2)
    counted = torch.arange(copies).view(1, -1, 1) < radii.view(-1, 1, 1)
    rise = (gains.sort(dim=1, descending=True).values * counted).sum(1) / copies
    return votes.mean(1) + rise.scatter(1, target.view(-1, 1), 0.0)
