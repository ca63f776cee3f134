"""Which words the copies of fixed and of exhaustive masks show, worked out from their settings.

A balanced mask sorts groups of ``span`` neighbouring words by a BLAKE2b digest (16 bytes) of
``"balanced mask SEED PARTITION WORDS GROUP"`` and deals them to the blocks in turn. Without a
``span`` it cuts the text, a circle of n words, into runs of neighbouring words of length n/blocks:
partition p of P cuts p/P of a run earlier, and a word belongs to the run in which it starts. Of
fewer words than blocks each is a run. Exhaustive masks are all sets of ``shown`` words in
lexicographic order.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any


def combinations_up_to(words: int, shown: int, most: int) -> int:
    """C(words, shown), or ``most`` + 1 if it is more: nothing large is ever worked out."""
    count = 1
    for i in range(min(shown, words - shown)):
        count = count * (words - i) // (i + 1)
        if count > most:
            return most + 1
    return count


def balanced_copies(mechanism: Mapping[str, Any], words: int) -> list[list[int]]:
    """For each word, the numbers of the copies that show it, one a partition."""
    blocks, span, seed = mechanism["blocks"], mechanism["span"], mechanism["seed"]
    showing: list[list[int]] = [[] for _ in range(words)]
    if span is None:
        runs, shifts = min(blocks, words), mechanism["partitions"]
        for partition in range(shifts):
            for word in range(words):
                run = (word * runs * shifts + partition * words) // (words * shifts)
                showing[word].append(partition * blocks + run % runs)
        return showing
    for partition in range(mechanism["partitions"]):
        digests = {}
        for group in range(0, words, span):
            text = f"balanced mask {seed} {partition} {words} {group // span}"
            digests[group] = hashlib.blake2b(text.encode(), digest_size=16).digest()
        for place, group in enumerate(sorted(digests, key=lambda g: (digests[g], g))):
            for word in range(group, min(words, group + span)):
                showing[word].append(partition * blocks + place % blocks)
    return showing


def exhaustive_copies(words: int, shown: int) -> list[list[int]]:
    """For each word, the numbers of the masks that show it."""
    showing: list[list[int]] = [[] for _ in range(words)]
    for number, mask in enumerate(itertools.combinations(range(words), shown)):
        for word in mask:
            showing[word].append(number)
    return showing
