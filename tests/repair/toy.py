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


def toy_patch(folder: str, path: Any) -> Any:
    """Repair the tiny ranker in ``folder`` and write the patch and its probes beside it.

    Returns:
        paths of the patch and of the probes, and settings under which the repair holds.
    """
    from robust_components.models.pair_models import load_pair_scorer
    from robust_components.repair import NeuronRepairedRanker, write_probes
    from robust_components.repair.settings import repair_options

    settings = {
        **{"neurons": 24, "step": 1e-3, "objective": "scores", "rounds": 3, "steps": 15},
        **{"seed": 1, "kendall_tau": -1.0, "mrr_loss": 1.0, "drift": 1e6},
    }
    scorer = load_pair_scorer(folder)
    probes = toy_probes(load_pair_scorer(folder, logits=True))
    ranker = NeuronRepairedRanker.repair(scorer, probes, **repair_options(settings))
    ranker.save(path / "patch.safetensors")
    write_probes(path / "probes.jsonl", probes)
    return str(path / "patch.safetensors"), str(path / "probes.jsonl"), settings
