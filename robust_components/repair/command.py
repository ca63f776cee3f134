"""``robust-components repair``: probes or lists in, a patch and its figures out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from robust_components.attacks import (
    Attack,
    FewShotSentence,
    GradientSubstitution,
    QueryStuffing,
    embedding_neighbours,
)
from robust_components.checks import positive_integer
from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair.patch import Patch
from robust_components.repair.probes import attack_lists, read_lists, read_probes, write_probes
from robust_components.repair.repaired import copied
from robust_components.repair.repairing import repair
from robust_components.repair.settings import LIMITS, PERTURBATION, REPAIR, repair_options


class Bars:
    """One progress bar a stage, on standard error."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int, of: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, tqdm(total=of, desc=stage)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def usual_attacks(scorer: Any, words: int, seed: int) -> list[Attack]:
    """Words replaced by neighbours, words of the query put in, an anchor sentence written over."""
    near = embedding_neighbours(scorer, 4)
    return [
        GradientSubstitution(words, seed=seed, neighbours=near, free_words=0, tries=4),
        QueryStuffing(1, "any", seed),
        FewShotSentence(min(words, 3), seed=seed),
    ]


def run(options: argparse.Namespace) -> Patch:
    """Repair and write the patch.

    Raises:
        RepairRolledBackError: nothing held on held-out probes; nothing is written.
        ValueError, OSError: an option, a file or the model is wrong.
    """
    if options.threads is not None:
        torch.set_num_threads(positive_integer("threads", options.threads))
    for path in (options.output, options.save_probes):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise FileNotFoundError(f"{path} cannot be written; name a file in a folder there is")
    unseen = () if options.unseen is None else read_probes(options.unseen)
    probes = None if options.probes is None else read_probes(options.probes)
    given = {name: getattr(options, name, None) for name in (*REPAIR, *PERTURBATION, *LIMITS)}
    settings = repair_options({k: v for k, v in given.items() if v is not None})
    scorer = copied(load_pair_scorer(options.model, logits=True))
    attacks = usual_attacks(scorer, options.words, options.seed)
    bars = Bars()
    try:
        if probes is None:
            memo = MemoScorer(scorer)
            lists = read_lists(options.lists, memo, options.seed)
            probes = attack_lists(attacks, lists, memo, partial(bars, "attack"))
            if options.save_probes is not None:
                write_probes(options.save_probes, probes)
        patch = repair(
            scorer,
            probes,
            unseen=unseen,
            attacks=attacks if options.adaptive else (),
            progress=bars,
            **settings,
        )
    finally:
        bars.close()
    patch.save(options.output)
    return patch


def report(patch: Patch) -> str:
    """The figures of a patch, a line each."""
    lines = [
        f"{patch.settings['neurons']} neurons, {patch.parameters} numbers, no proof of anything"
    ]
    for name, label in (
        ("held_out", "held-out attacks"),
        ("unseen", "unseen attacks"),
        ("adaptive", "attacks on the repaired ranker"),
    ):
        if name in patch.figures:
            lines.append(f"{label}: {_line(patch.figures[name])}")
    drift = patch.figures["clean_drift"]
    lines.append(
        f"clean lists: Kendall tau {drift['kendall_tau']:.3f}, a score moved by at most "
        f"{drift['largest']:.3g}"
    )
    return "\n".join(lines)


def _line(figures: Mapping[str, Any]) -> str:
    before, after = figures["before"], figures["after"]
    return (
        f"{after['succeeded']} of {after['lists']} succeed ({before['succeeded']} before), the "
        f"score rises by {after['gain']:.3g} ({before['gain']:.3g} before)"
    )
