"""Options of ``robust-components train ranker``; needs no torch, so that ``--help`` is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

from robust_components.smoothing.named import MECHANISMS

DESCRIPTION = (
    "Fine-tune a ranker on masked copies of documents, so that it ranks well when most words are "
    "hidden, as SmoothedRanker deploys it. Rows are JSON lines: query, positive, negatives (or "
    "negative); or question answering rows with title, context, question and answers, where the "
    "other paragraphs of an article are the negatives. At the end MRR@10 and NDCG@10 on --dev are "
    "reported, clean and smoothed, before and after."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to ``parser``."""
    add = parser.add_argument
    add("--rows", type=Path, required=True, metavar="FILE", help="training rows, JSON lines")
    add("--output", type=Path, required=True, metavar="DIR", help="the ranker is written here")
    add("--dev", type=Path, metavar="FILE", help="rows never trained on, for the report")
    add("--dev-lists", type=int, metavar="N", help="lists of --dev to report on (all)")
    add("--candidates", type=int, default=20, help="documents of a list in the report (20)")
    add(
        "--base",
        metavar="MODEL",
        help="Hugging Face model to fine-tune, by folder or id (the embedded all-MiniLM-L6-v2)",
    )
    add("--full", action="store_true", help="train all weights; otherwise a low-rank adapter")
    add("--rank", type=int, default=32, help="of the adapter (32)")
    add(
        "--start-from",
        type=Path,
        metavar="PATH",
        help="adapter file, or folder of an earlier ranker with its head, to begin with (for the "
        "embedded base and rank 32 the reader's adapter)",
    )
    add("--mechanism", choices=sorted(MECHANISMS), default="balanced_mask", help="to be deployed")
    add(
        "--blocks",
        type=int,
        nargs="+",
        metavar="N",
        help="blocks, buckets or samples a document, drawn anew each step; the first is deployed",
    )
    add("--mask-rate", type=float, default=0.9, help="words hidden by random_mask (0.9)")
    add("--steps", type=int, help="optimiser steps")
    add("--queries", type=int, help="queries a step")
    add("--negatives", type=int, help="negatives a query, as far as there are")
    add(
        "--coverage",
        metavar="SHARE",
        help="share of term coverage in the deployed score, e.g. 0.3 (none); stays with the ranker",
    )
    add("--radii", type=int, nargs="+", metavar="R", help="word budgets, one drawn a query")
    add("--plain-share", type=float, help="share of the steps with unmasked lists too (1)")
    add("--hardest", type=int, help="negatives come mostly from so many hardest ones (20)")
    add("--lr", type=float, help="peak learning rate (4e-4, with --full 5e-5)")
    add("--temperature", type=float, help="of the loss on smoothed scores")
    add("--seed", type=int, default=0, help="of everything drawn")
    add("--resume", action="store_true", help="go on from the checkpoint beside --output")
    add("--report-every", type=int, default=200, help="steps between checkpoints (200)")
    add("--held-articles", type=int, default=2, help="articles of --rows kept to watch progress")
    add("--watch", type=int, default=60, help="held-out lists to watch")
    add("--threads", type=int, help="of torch")
