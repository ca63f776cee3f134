"""Random masks: each sample shows a uniformly drawn set of words (RobustMask, section 4)."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from robust_components.bounds import overlap_probability
from robust_components.checks import exact_decimal, positive_integer
from robust_components.smoothing.mechanism import MaskedCopy, show
from robust_components.smoothing.settings import MOST_SAMPLES, check_mask_token, check_seed
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class RandomMask:
    """Samples of the text in which s of T words are visible, s = max(1, T - round(rate * T)).

    The smoothed score is a mean over all C(T, s) masks; samples only estimate it, so certificates
    hold with confidence 1 - alpha. R substituted words change a share ``delta`` of the masks at
    most: 1 - C(T - R, s) / C(T, s). Covers substitutions only.

    Args:
        mask_rate: share of words hidden, in (0, 1).
        samples: most samples a document, at least 1.
        mask_token: what a hidden word becomes; ``None`` deletes it.
        seed: ``None`` draws anew each time. A number repeats a run; the confidence is over the draw
            of the seed, so choose it before seeing the documents and do not publish it.
    """

    mask_rate: float = 0.9
    samples: int = 1000
    mask_token: str | None = "[MASK]"
    seed: int | None = None
    name: ClassVar[str] = "random_mask"
    operations: ClassVar[str] = "substitute"

    def __post_init__(self) -> None:
        rate = exact_decimal("mask_rate", self.mask_rate, "in (0, 1)")
        if not 0 < rate < 1:
            raise ValueError(
                f"mask_rate must be in (0, 1), got {self.mask_rate!r}; 0.9 shows a tenth of the "
                "words"
            )
        object.__setattr__(self, "mask_rate", float(self.mask_rate))
        object.__setattr__(
            self, "samples", positive_integer("samples", self.samples, most=MOST_SAMPLES)
        )
        if self.seed is not None:
            object.__setattr__(self, "seed", check_seed(self.seed))
        check_mask_token(self.mask_token)

    def shown(self, count: int) -> int:
        """Words visible in every sample of a text of ``count`` words; 0 for an empty text."""
        hidden = round(Fraction(str(self.mask_rate)) * count)
        return min(count, max(1, count - hidden))

    def delta(self, count: int, threat: WordEdits) -> Fraction:
        """Largest share of masks that see an edited word, exactly."""
        if threat.operations != "substitute":
            raise ValueError(
                f"RandomMask covers substitutions, got operations={threat.operations!r}; "
                "use HashBuckets for insertions, deletions and moves"
            )
        if count == 0:
            return Fraction(0)
        return overlap_probability(count, self.shown(count), min(threat.budget, count))

    def generator(self) -> random.Random:
        return random.Random(secrets.randbits(256) if self.seed is None else self.seed)

    def sample(
        self, words: Sequence[str], number: int, generator: random.Random
    ) -> list[MaskedCopy]:
        """``number`` independent masked copies."""
        count = len(words)
        drawn = []
        for _ in range(number):
            visible = tuple(sorted(generator.sample(range(count), self.shown(count))))
            drawn.append(MaskedCopy(show(words, visible, self.mask_token), 0, True, visible))
        return drawn

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "mask_rate": self.mask_rate,
            "samples": self.samples,
            "mask_token": self.mask_token,
            "seed": self.seed,
        }
