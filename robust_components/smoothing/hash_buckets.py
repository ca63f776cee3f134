"""Hash buckets: which copy shows a word depends on the word alone, so insertions shift nothing."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from robust_components.smoothing.mechanism import MaskedCopy, show
from robust_components.smoothing.settings import check_blocks, check_seed
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class HashBuckets:
    """Copy (p, b) shows the words whose keyed hash under key p falls into bucket b.

    Hidden words are deleted: a mask token for each would tell the other buckets how many there
    are. Inserting, deleting or moving a word touches one bucket a partition, substituting one
    touches two at most; the other copies stay string-identical. The seed may be public.

    Args:
        buckets: copies a partition, at least 1; with 1 they certify nothing.
        partitions: partitions, each with a key of its own, at least 1.
        seed: any integer.
    """

    buckets: int = 10
    partitions: int = 1
    seed: int = 0
    name: ClassVar[str] = "hash_buckets"
    operations: str = field(default="any", init=False)

    def __post_init__(self) -> None:
        buckets, partitions = check_blocks("buckets", self.buckets, self.partitions)
        object.__setattr__(self, "buckets", buckets)
        object.__setattr__(self, "partitions", partitions)
        object.__setattr__(self, "seed", check_seed(self.seed))

    @property
    def blocks(self) -> int:
        return self.buckets

    def bucket(self, word: str, partition: int = 0) -> int:
        """Bucket of a word, 0..buckets-1."""
        digest = hashlib.blake2b(
            word.encode("utf-8", "surrogatepass"), key=_key(self.seed, partition), digest_size=8
        ).digest()
        return int.from_bytes(digest, "big") % self.buckets

    def copies(self, words: Sequence[str]) -> list[MaskedCopy]:
        made: list[MaskedCopy] = []
        for partition in range(self.partitions):
            of_word = {word: self.bucket(word, partition) for word in set(words)}
            members: list[list[int]] = [[] for _ in range(self.buckets)]
            for position, word in enumerate(words):
                members[of_word[word]].append(position)
            made.extend(
                MaskedCopy(show(words, visible, None), partition, True, tuple(visible))
                for visible in members
            )
        return made

    def touched(self, threat: WordEdits) -> int:
        """One bucket for an insertion, deletion or move, two for a substitution."""
        each = 2 if threat.operations == "substitute" else 1
        return min(each * threat.budget, self.buckets)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "buckets": self.buckets,
            "partitions": self.partitions,
            "seed": self.seed,
        }


@functools.lru_cache(maxsize=512)
def _key(seed: int, partition: int) -> bytes:
    return hashlib.blake2b(f"hash buckets {seed} {partition}".encode(), digest_size=16).digest()
