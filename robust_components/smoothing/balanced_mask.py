"""Fixed balanced masks: every word is visible in exactly one copy of each partition."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from robust_components.checks import positive_integer
from robust_components.smoothing.mechanism import MaskedCopy, show
from robust_components.smoothing.settings import check_blocks, check_mask_token, check_seed
from robust_components.threats import WordEdits

CACHED_WORDS = 4096
"""Partitions of longer texts are not kept: an attacker could fill the memory with them."""


@dataclass(frozen=True)
class BalancedMask:
    """Fixed partitions of the word positions; copy (p, b) shows block b of partition p.

    Blocks are words from all over the text, at random but fixed, or one run of neighbouring words
    each. Partitions depend on (seed, number of words) and never on content, so substituting a word
    changes one copy a partition and leaves all others string-identical. The seed may be public.
    Covers substitutions only: they keep the number of words.

    Args:
        blocks: copies a partition, at least 1; with 1 they certify nothing.
        partitions: partitions, at least 1. More of them steady the score; the radius is decided by
            ``blocks``.
        span: neighbouring words that stay together, at least 1; ``None`` cuts the text into
            ``blocks`` runs of neighbouring words, one a copy. Partition p has its cuts p/partitions
            of a run earlier, and its first copy also shows what that leaves at the end.
        mask_token: what a hidden word becomes; deleted when ``None``.
        seed: any integer; runs do not depend on it.
    """

    blocks: int = 10
    partitions: int = 1
    span: int | None = 1
    mask_token: str | None = None
    seed: int = 0
    name: ClassVar[str] = "balanced_mask"
    operations: str = field(default="substitute", init=False)

    def __post_init__(self) -> None:
        blocks, partitions = check_blocks("blocks", self.blocks, self.partitions)
        object.__setattr__(self, "blocks", blocks)
        object.__setattr__(self, "partitions", partitions)
        if self.span is not None:
            object.__setattr__(self, "span", positive_integer("span", self.span))
        object.__setattr__(self, "seed", check_seed(self.seed))
        check_mask_token(self.mask_token)

    def copies(self, words: Sequence[str]) -> list[MaskedCopy]:
        made = []
        for partition in range(self.partitions):
            for visible in self._positions(len(words), partition):
                text = show(words, visible, self.mask_token)
                made.append(MaskedCopy(text, partition, bool(visible), visible))
        return made

    def _positions(self, count: int, partition: int) -> tuple[tuple[int, ...], ...]:
        if self.span is None:
            return run_positions(count, self.blocks, self.partitions, partition)
        return partition_positions(count, self.blocks, self.span, partition, self.seed)

    def touched(self, threat: WordEdits) -> int:
        """A changed word sits in one block of each partition."""
        if threat.operations != "substitute":
            raise ValueError(
                f"BalancedMask covers substitutions, got operations={threat.operations!r}; "
                "use HashBuckets for insertions, deletions and moves"
            )
        return min(threat.budget, self.blocks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "blocks": self.blocks,
            "partitions": self.partitions,
            "span": self.span,
            "mask_token": self.mask_token,
            "seed": self.seed,
        }


def partition_positions(
    count: int, blocks: int, span: int, partition: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """Positions 0..count-1 in ``blocks`` groups whose sizes differ by less than two spans.

    The first ``min(blocks, ceil(count / span))`` groups hold words, the others none.
    """
    make = _kept if count <= CACHED_WORDS else _positions
    return make(count, blocks, span, partition, seed)


def run_positions(
    count: int, blocks: int, partitions: int, partition: int
) -> tuple[tuple[int, ...], ...]:
    """Positions 0..count-1 in ``blocks`` runs whose sizes differ by one at most.

    The first ``min(blocks, count)`` groups hold words, the others none. The first run wraps around
    the end where ``partition`` shifts the cuts.
    """
    used = min(blocks, count)
    members: list[list[int]] = [[] for _ in range(blocks)]
    for position in range(count):
        shifted = position * used * partitions + partition * count
        members[shifted // (count * partitions) % used].append(position)
    return tuple(map(tuple, members))


def _positions(
    count: int, blocks: int, span: int, partition: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    groups = range(-(-count // span))
    order = sorted(groups, key=lambda group: _draw(seed, partition, count, group))
    members: list[list[int]] = [[] for _ in range(blocks)]
    for rank, group in enumerate(order):
        members[rank % blocks].extend(range(group * span, min(count, (group + 1) * span)))
    return tuple(tuple(sorted(block)) for block in members)


_kept = functools.lru_cache(maxsize=512)(_positions)


def _draw(seed: int, partition: int, count: int, group: int) -> bytes:
    text = f"balanced mask {seed} {partition} {count} {group}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
