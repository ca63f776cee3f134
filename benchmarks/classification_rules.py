"""Published certificates beside ours, on one model: RanMASK, SelfDenoise, CERT-ED.

All see what the embedded classifiers were trained on, copies from which hidden words are deleted.
All are for substituted words with Clopper-Pearson bounds at level .05 from ``samples`` masked
copies. ``sound`` says whether the rule is a proof as it stands:

* RanMASK (Zeng et al. 2021): certifies d when p_low - beta * Delta_d > 1/2, where beta is a point
  estimate of P[label | mask hits an edited word], here, as there, the share of votes: not sound.
* SelfDenoise (Zhang et al. 2023), with its cheapest denoiser, which removes the masks: the rule of
  RanMASK with beta = 1, which is sound; label and bound from two samples.
* CERT-ED (Huang et al. 2024), applied to substitutions: each word is deleted with probability
  ``deletion`` on its own; d edited words are all deleted with probability deletion^d: sound.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robust_components.bounds import clopper_pearson_lower
from robust_components.smoothing import RandomMask, join_words, split_words
from robust_components.threats import WordEdits

ALPHA = 0.05
SELECTION = 100


@dataclass(frozen=True)
class Verdict:
    """A label and how many edited words a rule says it withstands; -1 when it gives no label."""

    label: str | None
    radius: int
    copies: int


def ranmask(model: Any, text: str, samples: int, rate: float = 0.9) -> Verdict:
    """RanMASK's rule; not sound."""
    words = split_words(text)
    mask = RandomMask(rate, samples, None, seed=0)
    votes = _votes(model, [copy.text for copy in mask.sample(words, samples, random.Random(0))])
    label, count = votes.most_common(1)[0]
    low = float(clopper_pearson_lower(count, samples, ALPHA))
    beta = count / samples
    radius = _largest(
        len(words), lambda d: low - beta * float(mask.delta(len(words), WordEdits(d))) > 0.5
    )
    return Verdict(label, radius if low > 0.5 else -1, samples)


def self_denoise(model: Any, text: str, samples: int, rate: float = 0.9) -> Verdict:
    """SelfDenoise with removed masks; sound."""
    words = split_words(text)
    mask = RandomMask(rate, samples, None, seed=0)
    draw = random.Random(0)
    label, low = _two_batches(
        model,
        [copy.text for copy in mask.sample(words, SELECTION, draw)],
        [copy.text for copy in mask.sample(words, samples, draw)],
    )
    radius = _largest(len(words), lambda d: low - float(mask.delta(len(words), WordEdits(d))) > 0.5)
    return Verdict(label, radius if low > 0.5 else -1, samples + SELECTION)


def cert_ed(model: Any, text: str, samples: int, deletion: float = 0.9) -> Verdict:
    """Independent deletion, as in CERT-ED; sound."""
    words = split_words(text)
    draw = random.Random(0)

    def copies(number: int) -> list[str]:
        return [
            join_words(word for word in words if draw.random() >= deletion) for _ in range(number)
        ]

    label, low = _two_batches(model, copies(SELECTION), copies(samples))
    radius = _largest(len(words), lambda d: low - (1 - math.pow(deletion, d)) > 0.5)
    return Verdict(label, radius if low > 0.5 else -1, samples + SELECTION)


RULES = {
    "ranmask": (ranmask, False),
    "self_denoise": (self_denoise, True),
    "cert_ed": (cert_ed, True),
}
"""Name: the rule, and whether it is sound."""


def _two_batches(model: Any, first: Sequence[str], second: Sequence[str]) -> tuple[str, float]:
    label = _votes(model, first).most_common(1)[0][0]
    return label, float(clopper_pearson_lower(_votes(model, second)[label], len(second), ALPHA))


def _votes(model: Any, texts: Sequence[str]) -> Counter[str]:
    distinct = list(dict.fromkeys(texts))
    label = dict(zip(distinct, model.classify(distinct), strict=True))
    return Counter(str(label[text]) for text in texts)


def _largest(words: int, holds: Any) -> int:
    """Largest d up to ``words`` with ``holds(1), .., holds(d)``."""
    radius = 0
    while radius < words and holds(radius + 1):
        radius += 1
    return radius
