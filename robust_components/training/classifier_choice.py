"""How many copies and how sharp probabilities: chosen after training, on rows held out.

Multiplying the head by a factor changes no label of a single text; over masked copies it lets sure
ones count more, up to votes by label. What is certified at which radius hangs on both numbers.
Copies that say nothing about a text may all lean to one label, whose texts are then certified at
the cost of the others'. A shift of the head gives every label its share of the copies again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.smoothing import BalancedMask, split_words
from robust_components.training.classifier_data import LabelledText
from robust_components.training.classifier_metrics import evaluate_texts

GOALS = (1.0, 1.0, 1.0)
LEAST = 1e-300
ROUNDS = 200


@dataclass(frozen=True)
class Choice:
    """What to deploy.

    Attributes:
        mechanism: the masks.
        factor: the number to multiply the head by.
        shift: added to the multiplied head's logits, one number a label; ``None`` for nothing.
    """

    mechanism: BalancedMask
    factor: float
    shift: tuple[float, ...] | None = None


class Sharpened:
    """A classifier with its head multiplied by ``factor``, then shifted; reads each text once.

    Args:
        model: has ``probabilities(texts)``.
        factor: above 0.
        known: log-probabilities by text, shared between factors.
    """

    def __init__(self, model: Any, factor: float, known: dict[str, NDArray[np.float64]]) -> None:
        self.model = model
        self.factor = factor
        self.known = known
        self.shift: NDArray[np.float64] | float = 0.0

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            found = np.maximum(np.asarray(self.model.probabilities(new)), LEAST)
            self.known.update(zip(new, np.log(found), strict=True))
        logits = self.factor * np.array([self.known[text] for text in texts]) + self.shift
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        made: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
        return made

    def balance(self, held: Sequence[LabelledText], mechanism: BalancedMask) -> tuple[float, ...]:
        """Shift so that, over the copies of ``held``, labels get the shares they have among texts.

        Source: matching of priors (Saerens, Latinne & Decaestecker 2002), applied to copies.
        """
        copies = [copy for row in held for copy in mechanism.copies(split_words(row.text))]
        texts = [copy.text for copy in copies if copy.visible]
        labels = self.probabilities(texts).shape[1]
        wanted = np.bincount([row.label for row in held], minlength=labels) + 1.0
        wanted /= wanted.sum()
        shift = np.zeros(labels)
        for _ in range(ROUNDS):
            self.shift = shift
            shift = shift + np.log(wanted / self.probabilities(texts).mean(axis=0))
        found = np.round(shift - shift.mean(), 4)
        self.shift = found
        return tuple(found.tolist())


def choose(
    model: Any,
    held: Sequence[LabelledText],
    mechanisms: Sequence[BalancedMask],
    factors: Sequence[float],
    goals: Sequence[float] = GOALS,
    *,
    balance: bool = False,
) -> Choice:
    """The pair with the least sum of shortfalls of the shares certified for 0, 1, .. words.

    Args:
        model: has ``probabilities(texts)``.
        held: not needed where there is nothing to choose.
        mechanisms, factors: what there is to choose from; the first of equals is taken.
        goals: aimed at for 0, 1 and 2 words; with ones, whose sum of shares is largest.
        balance: shift the head of each pair before it is judged.
    """
    pairs = [Choice(mechanism, factor) for mechanism in mechanisms for factor in factors]
    if len(pairs) == 1 and not balance:
        return pairs[0]
    known: dict[str, NDArray[np.float64]] = {}
    shortfalls = []
    for number, pair in enumerate(pairs):
        sharpened = Sharpened(model, pair.factor, known)
        if balance:
            pair = dataclasses.replace(pair, shift=sharpened.balance(held, pair.mechanism))
            pairs[number] = pair
        found = evaluate_texts(sharpened, held, pair.mechanism)
        shortfalls.append(
            round(sum(max(0.0, goal - found[f"soft_{r}"]) for r, goal in enumerate(goals)), 6)
        )
        tried = {
            "blocks": pair.mechanism.blocks,
            "head_factor": pair.factor,
            "head_shift": pair.shift,
        }
        print(json.dumps({**tried, **found, "shortfall": shortfalls[-1]}), flush=True)
    return pairs[shortfalls.index(min(shortfalls))]
