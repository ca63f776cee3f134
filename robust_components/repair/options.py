"""Options of ``robust-components repair``; needs no torch, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = (
    "Find the neurons of a ranker that attacks go through, move their rows, and write the result "
    "as a small patch for NeuronRepairedRanker. Probes are JSON lines with query, documents, "
    "target (an index), adversarial (its text after the attack) and perhaps relevant (indices); or "
    "query, document and adversarial. Lists are JSON lines with query, documents and perhaps "
    "relevant; they are attacked here in three ways: words replaced, one inserted, an anchor "
    "sentence written over. A repair that does not hold on held-out probes is rolled back: exit "
    "status 1, nothing is written."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to ``parser``."""
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--probes", type=Path, metavar="FILE", help="attacked documents")
    source.add_argument("--lists", type=Path, metavar="FILE", help="ranked lists to attack here")
    add("--output", type=Path, required=True, metavar="FILE", help="the patch is written here")
    add("--model", metavar="MODEL", help="ranker by folder or hub id (the embedded one)")
    add("--unseen", type=Path, metavar="FILE", help="probes of other attacks, for the report only")
    add("--adaptive", action="store_true", help="attack the repaired ranker anew, for the report")
    add("--words", type=int, default=5, help="word budget of attacks made here (5)")
    add("--save-probes", type=Path, metavar="FILE", help="keep the probes made from --lists")
    add("--neurons", type=int, help="K, neurons repaired (128)")
    add("--trade-off", type=float, help="lambda: 1 is vulnerability alone, less asks for diversity")
    add("--objective", choices=("activations", "scores"), help="scores; activations, as published")
    add("--step", type=float, help="of a weight (2e-3; for activations 5e-6)")
    add(
        "--rounds", type=int, help="rounds; for activations each with a look at held-out probes (4)"
    )
    add("--steps", type=int, help="steps a round (100)")
    add("--anchor", type=float, help="weight of clean documents (1)")
    add("--margin", type=float, help="for scores: push attacked documents so far down (0.9)")
    add("--strength", type=float, help="for scores: most of the way to the trained rows (1)")
    add("--pooling", help="positions that count: document, first, last or all (document)")
    add("--held-out", type=float, help="share of probes held out (0.2)")
    add("--kendall-tau", type=float, help="least rank correlation with clean rankings (0.85)")
    add("--mrr-loss", type=float, help="most that clean MRR@10 may fall (0.01)")
    add("--drift", type=float, help="most that a clean score may move, in deviations (2)")
    add("--seed", type=int, default=0, help="of everything drawn")
    add("--threads", type=int, help="of torch")
