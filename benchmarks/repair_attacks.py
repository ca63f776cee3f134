"""Attacked lists of the repair benchmark, and what they say about a ranker."""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from benchmarks.ranking_data import RankedList, read_lists
from benchmarks.repair_data import chunk_lists, targets_of

SEEN = ("substitution", "query_stuffing", "anchor_sentence")
UNSEEN = ("inserted_sentence", "query_words", "character_edits", "multi_granular")
FIGURES = ("asr", "boost", "rmrr", "lsd", "lsd_normalised", "gain")


def attacks_on(scorer: Any, seed: int) -> dict[str, Any]:
    """Those a repair may see and others, with budgets at which some fail."""
    from robust_components.attacks import (
        CharacterEdits,
        GradientSubstitution,
        InsertedSentence,
        MultiGranular,
        embedding_neighbours,
    )
    from robust_components.repair.command import usual_attacks

    near = embedding_neighbours(scorer, 4)
    return {
        **dict(zip(SEEN, usual_attacks(scorer, 5, seed), strict=True)),
        "inserted_sentence": InsertedSentence(5, "any", seed, tries=3),
        "query_words": GradientSubstitution(1, seed=seed, neighbours=near, free_words=8, tries=4),
        "character_edits": CharacterEdits(5, seed=seed, probes=20, positions=3),
        "multi_granular": MultiGranular(5, seed=seed, neighbours=near),
    }


def attacked_lists(
    options: argparse.Namespace, scorer: Any, which: str, seed: int, names: Sequence[str]
) -> list[Any]:
    """Probes of every list and target by every named attack, kept in the cache folder.

    Args:
        which: ``"train"`` or ``"dev"``, a file of questions, or ``"web"``, the table of
            ``options.web``.
    """
    from tqdm import tqdm

    from robust_components.models.memo_scorer import MemoScorer
    from robust_components.repair.probes import Probe, read_probes, write_probes

    drawn = seed + 1 if which == "train" else seed
    items, number = lists_of(options, which, drawn)
    name = f"{which}_{seed}_{len(items)}_{len(items[0].ids)}_{number}_{scorer.fingerprint[:8]}"
    cached = None if options.cache is None else options.cache / f"{name}.jsonl"
    if cached is not None and cached.is_file():
        return read_probes(cached)
    attacks = attacks_on(scorer, drawn)
    found = []
    for item in tqdm(items, desc=f"attacks on {which}, seed {seed}", mininterval=10):
        victim = MemoScorer(scorer)
        scores = victim.score(item.query, item.documents)
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        relevant = tuple(i for i, one in enumerate(item.ids) if one in item.relevant)
        for target in targets_of(item, order, number, drawn):
            for kind in names:
                result = attacks[kind].attack(item.query, item.documents, target, victim)
                found.append(Probe(item.query, item.documents, target, result.text, kind, relevant))
    if cached is not None:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_probes(cached, found)
    return found


def lists_of(options: argparse.Namespace, which: str, seed: int) -> tuple[list[RankedList], int]:
    """Lists, and targets of each."""
    if which == "web":
        with_relevant = (
            one for one in read_lists(options.web, seed=seed) if one.relevant.keys() & set(one.ids)
        )
        return list(islice(with_relevant, options.lists)), 2
    if which == "train":
        path = options.data / "train.jsonl"
        return chunk_lists(path, options.probe_candidates, options.probes, seed), 1
    path = options.data / "dev.jsonl"
    return chunk_lists(path, options.candidates, options.lists, seed), options.targets


def adaptive(
    options: argparse.Namespace, scorer: Any, lists: Sequence[Any], seed: int
) -> dict[str, Any]:
    """The seen attacks made anew on ``scorer``, on some of the same lists and targets."""
    from robust_components.models.memo_scorer import MemoScorer

    attacks = attacks_on(scorer, seed)
    seen = [probe for probe in lists if probe.attack in SEEN]
    some = sorted({(p.query, p.target) for p in seen})
    some = random.Random(seed).sample(some, min(options.adaptive, len(some)))
    victims = {query: MemoScorer(scorer) for query, _ in some}
    again = []
    for probe in seen:
        if (probe.query, probe.target) in some:
            victim = victims[probe.query]
            made = attacks[probe.attack].attack(probe.query, probe.documents, probe.target, victim)
            again.append(replace(probe, adversarial=made.text))
    return dict(measured(scorer, again)["seen"])


def measured(scorer: Any, probes: Sequence[Any]) -> dict[str, Any]:
    """All figures of one ranker on attacked lists, attack by attack and in the mean over kinds."""
    from robust_components.attacks.attack import attacker_rank
    from robust_components.attacks.metrics import (
        attack_success_rate,
        boost,
        reciprocal_rank,
        squared_displacement,
    )
    from robust_components.models.memo_scorer import MemoScorer

    memo = MemoScorer(scorer)
    rows: dict[str, list[dict[str, Any]]] = {}
    clean: dict[str, float] = {}
    for probe in sorted(probes, key=lambda p: p.query):
        before = memo.score(probe.query, probe.documents)
        after = list(before)
        (after[probe.target],) = memo.score(probe.query, [probe.adversarial])
        raw, share = squared_displacement(before, after, probe.target)
        clean[probe.query] = reciprocal_rank(before, probe.relevant)
        rows.setdefault(probe.attack, []).append(
            {
                "ranks": tuple(attacker_rank(one, probe.target) for one in (before, after)),
                "rr": reciprocal_rank(after, probe.relevant),
                "lsd": raw,
                "lsd_normalised": share,
                "gain": after[probe.target] - before[probe.target],
            }
        )
    found: dict[str, Any] = {"cmrr": statistics.mean(clean.values())}
    for attack, some in rows.items():
        ranks = [row["ranks"] for row in some]
        found[attack] = {
            "targets": len(some),
            "asr": attack_success_rate(ranks),
            "boost": boost(ranks),
            "rmrr": statistics.mean(row["rr"] for row in some),
            **{n: statistics.mean(r[n] for r in some) for n in ("lsd", "lsd_normalised", "gain")},
        }
    for group, names in (("seen", SEEN), ("unseen", UNSEEN)):
        those = [found[name] for name in names if name in found]
        if those:
            found[group] = {n: statistics.mean(one[n] for one in those) for n in FIGURES}
    return found
