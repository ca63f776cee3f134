"""Probes for tiny random rankers."""

from __future__ import annotations

import random
from typing import Any

from robust_components.attacks import WordSubstitution
from robust_components.repair.probes import Probe, probe_with

WORDS = [*"abcdefgh", "who", "what", "is", "the", "man", "city", "river", "true", "false"]


def toy_probes(scorer: Any, count: int = 12, seed: int = 0) -> list[Probe]:
    """Successful attacks on lists of four short random documents."""
    rng = random.Random(seed)
    attack = WordSubstitution(2, free_words=4, positions=2, probes=4)
    found: list[Probe] = []
    while len(found) < count:
        query = " ".join(rng.sample(WORDS, 3))
        documents = [" ".join(rng.choices(WORDS, k=rng.randrange(3, 9))) for _ in range(4)]
        scores = scorer.score(query, documents)
        target = min(range(4), key=scores.__getitem__)
        probe = probe_with(attack, query, documents, target, scorer, relevant=(rng.randrange(4),))
        if probe is not None:
            found.append(probe)
    return found
