"""Options of ``robust-components train classifier``; needs no torch, so that help is quick."""

from __future__ import annotations

import argparse
from pathlib import Path

PIECES = "pieces"
DESCRIPTION = (
    "Fine-tune a classifier on masked copies of texts, so that the mean over copies is right by a "
    "wide margin, as CluCertClassifier deploys it: a low-rank adapter over all-MiniLM-L6-v2. Rows "
    "are lines 'text<TAB>label' or JSON with 'text' and 'label'. At the end plain, smoothed and "
    "certified accuracy on --dev, or on the rows held out, are reported."
)


def words_together(text: str) -> int | str:
    """A number of words, or ``"pieces"``."""
    return text if text == PIECES else int(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to ``parser``."""
    add = parser.add_argument
    add("--rows", type=Path, required=True, metavar="FILE", help="labelled texts to train on")
    add("--output", type=Path, required=True, metavar="DIR", help="the classifier is written here")
    add("--dev", type=Path, metavar="FILE", help="labelled texts never trained on, for the report")
    add("--start-from", type=Path, metavar="DIR", help="an earlier output to begin with")
    add(
        "--names",
        nargs="+",
        metavar="NAME",
        help="names for the labels of --rows in their sorted order (the labels themselves)",
    )
    add("--name", help="what the classifier is called in certificates (the folder's name)")
    add("--held-out", type=int, default=200, metavar="N", help="rows kept to watch progress (200)")
    add(
        "--blocks",
        type=int,
        nargs="+",
        metavar="N",
        help="masked copies a text, drawn anew each step; the first is deployed",
    )
    add(
        "--deploy",
        type=int,
        nargs="+",
        metavar="N",
        help="masked copies to be deployed instead, together with the span of the first; of "
        "several the best on the rows held out",
    )
    add(
        "--spans",
        type=words_together,
        nargs="+",
        metavar="N",
        help="neighbouring words that stay together, one number for each of --blocks (1), or "
        "'pieces': every copy shows one run of neighbouring words",
    )
    add("--partitions", type=int, help="partitions to be deployed (1)")
    add("--radii", type=int, nargs="+", metavar="R", help="edited words to train against")
    add("--steps", type=int, help="optimiser steps")
    add("--texts", type=int, help="texts a step")
    add("--lr", type=float, help="peak learning rate")
    add("--temperature", type=float, help="of the loss on the mean")
    add("--plain-weight", type=float, help="weight of the loss on unmasked texts")
    add("--plain-share", type=float, help="share of a step's texts also read unmasked, in (0, 1]")
    add("--copy-weight", type=float, help="weight of the loss on single copies")
    add("--dropout", type=float, help="in every layer of the encoder, in [0, 1) (0)")
    add("--rank", type=int, help="of the adapter (16)")
    add(
        "--head-factor",
        type=float,
        nargs="+",
        metavar="F",
        help="multiply the trained head, which makes probabilities sharper and changes no label of "
        "a single text; of several the best on the rows held out (1)",
    )
    add(
        "--balance",
        action="store_true",
        help="shift the trained head so that over masked copies of the rows held out every label "
        "gets its share; otherwise copies that say nothing may all count for one label",
    )
    add(
        "--goals",
        type=float,
        nargs=3,
        metavar="SHARE",
        help="of certified for 0, 1 and 2 words; best is what falls short of them least (1 1 1)",
    )
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="kept at every report; training goes on from it if it is there",
    )
    add("--seed", type=int, default=0, help="of everything drawn")
    add("--report-every", type=int, default=200, help="steps between reports (200)")
    add("--threads", type=int, help="of torch")
