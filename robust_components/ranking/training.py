"""Masked fine-tuning: train a cross-encoder on the smoothed score that will be deployed.

For each query the smoothed score of every document is g = mean over masked copies of
sigmoid(logit), or (1 - share) times that plus share times its term coverage. The loss is listwise
cross-entropy between the positive's g and the negatives' *certified* upper bounds U(R) (theory
page, section 1; R drawn anew each time), plus the same cross-entropy on the logits of the unmasked
documents, so that one model serves both. With one negative a list both are pairwise losses. Copies
come from the mechanism to be deployed, with a seed of their own each time.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from robust_components.models.encoder_batches import in_order
from robust_components.models.pair_encoding import PairEncoder
from robust_components.ranking.lists import TrainingRow
from robust_components.smoothing import (
    BalancedMask,
    HashBuckets,
    RandomMask,
    TermCoverage,
    split_words,
)
from robust_components.smoothing.term_coverage import UNIT
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters.

    Attributes:
        steps: optimiser steps.
        queries: queries a step.
        negatives: negatives a query in the smoothed list, where a row has as many.
        plain_negatives: negatives a query in the unmasked list.
        plain_share: share of the steps that have unmasked lists, in (0, 1].
        hardest: negatives come from so many hardest candidates, but for a quarter of them.
        blocks: numbers of blocks (buckets, samples) to draw from, one a step.
        radii: word budgets R to draw from, one a query.
        temperature: of the smoothed cross-entropy, in units of the score.
        plain_weight: weight of the unmasked loss.
        copy_weight: weight of the loss on the mean logit over the copies.
        learning_rate: peak of a linear warm-up and decay.
        seed: of everything drawn.
        mechanism: name of the mechanism to be deployed.
        coverage: share of :class:`TermCoverage` in the deployed score; "0" for none.
        mask_rate: share of words hidden by random masks.
        mask_token: what they put there; ``None`` deletes hidden words.
    """

    steps: int = 1500
    queries: int = 4
    negatives: int = 4
    plain_negatives: int = 2
    plain_share: float = 1.0
    hardest: int = 20
    blocks: tuple[int, ...] = (10, 10, 10, 10, 10, 5, 20, 3)
    radii: tuple[int, ...] = (0, 1, 1, 2)
    temperature: float = 0.08
    plain_weight: float = 0.5
    copy_weight: float = 0.3
    learning_rate: float = 4e-4
    max_length: int = 384
    tokens_a_batch: int = 8192
    seed: int = 0
    mechanism: str = "balanced_mask"
    coverage: str = "0"
    mask_rate: float = 0.9
    mask_token: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def forward(
    network: Any, encoder: PairEncoder, rows: list[dict[str, list[int]]], tokens: int
) -> Tensor:
    """Logits of encoded rows, shape (rows,), in the order given, with gradients."""

    def last(inputs: dict[str, Tensor]) -> Tensor:
        logits: Tensor = network(**inputs).logits[:, -1].float()
        return logits

    return in_order(last, encoder, rows, tokens)


def masked_copies(document: str, number: int, settings: Settings, rng: random.Random) -> list[str]:
    """``number`` masked copies of a document, from a freshly seeded mechanism."""
    seed = rng.randrange(1 << 30)
    words = split_words(document)
    if settings.mechanism == RandomMask.name:
        mask = random_mask(settings, number)
        return [copy.text for copy in mask.sample(words, number, random.Random(seed))]
    kind = BalancedMask if settings.mechanism == BalancedMask.name else HashBuckets
    return [copy.text for copy in kind(number, seed=seed).copies(words)]


def random_mask(settings: Settings, samples: int) -> RandomMask:
    """The mechanism of the settings, if it is the random one."""
    return RandomMask(settings.mask_rate, samples, settings.mask_token)


def step_loss(
    network: Any,
    encoder: PairEncoder,
    rows: Sequence[TrainingRow],
    settings: Settings,
    rng: random.Random,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one step and its parts; every row needs at least one negative."""
    blocks = rng.choice(settings.blocks)
    fewest = min(len(row.negatives) for row in rows)
    pairs: list[tuple[str, str]] = []
    drawn: list[list[str]] = []
    for row in rows:
        drawn.append(row.draw(min(settings.negatives, fewest), rng, settings.hardest))
        for document in drawn[-1]:
            copies = masked_copies(document, blocks, settings, rng)
            pairs.extend((row.query, copy) for copy in copies)
    masked = len(pairs)
    unmasked = rng.random() < settings.plain_share
    for row in rows if unmasked else ():
        documents = row.draw(min(settings.plain_negatives, fewest), rng, settings.hardest)
        pairs.extend((row.query, text) for text in documents)
    encoded, _ = encoder.encode(pairs)
    logits = forward(network, encoder, encoded, settings.tokens_a_batch)
    copies_logits = logits[:masked].view(len(rows), -1, blocks)
    votes = copies_logits.sigmoid()
    bound = votes.mean(2)
    edits = [rng.choice(settings.radii) for _ in rows]
    rise = _largest_rise(votes, drawn, edits, settings)
    if settings.coverage != "0":
        share = float(Fraction(settings.coverage))
        covered, gained = _terms(rows, drawn, edits, settings)
        bound = (1 - share) * bound + share * covered
        rise = (1 - share) * rise + share * gained
    raised = torch.cat([bound[:, :1], (bound + rise)[:, 1:]], dim=1)
    target = torch.zeros(len(rows), dtype=torch.long)
    smooth = cross_entropy(raised / settings.temperature, target)
    mean_logit = cross_entropy(copies_logits.mean(2), target)
    loss = smooth + settings.copy_weight * mean_logit
    gap = bound[:, 0] - raised[:, 1:].max(1).values
    parts = {
        "smoothed": float(smooth.detach()),
        "won": float((gap.detach() > 0).float().mean()),
    }
    if unmasked:
        plain = cross_entropy(logits[masked:].view(len(rows), -1), target)
        loss = loss + settings.plain_weight * plain
        parts["plain"] = float(plain.detach())
    return loss, parts


def _terms(
    rows: Sequence[TrainingRow],
    documents: Sequence[Sequence[str]],
    edits: Sequence[int],
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    """Term coverage of each document, and how far edits can lift it, in [0, 1]."""
    terms = TermCoverage(settings.coverage)
    covered, gained = [], []
    for row, texts, r in zip(rows, documents, edits, strict=True):
        coverage = terms.of(row.query, [split_words(text) for text in texts])
        covered.append((coverage.score() / UNIT).tolist())
        gained.append((coverage.gain(r) / UNIT).tolist())
    return torch.tensor(covered), torch.tensor(gained)


def _largest_rise(
    votes: Tensor, documents: Sequence[Sequence[str]], edits: Sequence[int], settings: Settings
) -> Tensor:
    """How far edits can lift each smoothed score; votes and result of (rows, documents, ..)."""
    blocks = votes.shape[2]
    if settings.mechanism == RandomMask.name:
        mask = random_mask(settings, blocks)
        shares = [
            [float(mask.delta(len(split_words(text)), WordEdits(r))) if r else 0.0 for text in row]
            for row, r in zip(documents, edits, strict=True)
        ]
        return torch.tensor(shares)
    touched = torch.tensor([min(r, blocks) for r in edits])
    counts = torch.arange(blocks).view(1, 1, -1) < touched.view(-1, 1, 1)
    return ((1 - votes.sort(2).values) * counts).sum(2) / blocks
