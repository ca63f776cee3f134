"""Labelled texts from a file, and a part of them held out."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LabelledText:
    """A text and the number of its label."""

    text: str
    label: int


def read_texts(
    path: str | Path, names: Sequence[str] | None = None
) -> tuple[list[LabelledText], tuple[str, ...]]:
    """Texts and label names from lines ``text<TAB>label`` or JSON lines ``{"text", "label"}``.

    Args:
        path: the file.
        names: names for the labels of the file in their sorted order; the labels themselves when
            ``None``.

    Raises:
        ValueError: a line has neither form, there are fewer than two labels, or ``names`` does not
            fit them.
        OSError: the file cannot be read.
    """
    found: list[tuple[str, str]] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            found.append(_pair(line, f"{path}, line {number}"))
    labels = sorted({label for _, label in found})
    if len(labels) < 2:
        raise ValueError(f"{path} has the labels {labels}; a classifier needs at least two")
    if names is not None and (len(names) != len(labels) or len(set(names)) != len(names)):
        raise ValueError(
            f"--names must be {len(labels)} different names, for the labels {labels} of {path}, "
            f"got {list(names)}"
        )
    place = {label: i for i, label in enumerate(labels)}
    rows = [LabelledText(text, place[label]) for text, label in found]
    return rows, tuple(labels if names is None else names)


def _pair(line: str, where: str) -> tuple[str, str]:
    text, tab, label = line.rpartition("\t")
    if tab and not line.startswith("{"):
        return text, label.strip()
    try:
        record = json.loads(line)
        return str(record["text"]), str(record["label"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{where}: needs text<TAB>label, or JSON with 'text' and 'label'; got {line[:80]!r}"
        ) from None


def hold_out(
    rows: Sequence[LabelledText], number: int, seed: int = 5
) -> tuple[list[LabelledText], list[LabelledText]]:
    """``rows`` shuffled, without the first ``number``, and those.

    Raises:
        ValueError: nothing would be left.
    """
    if not 0 <= number < len(rows):
        raise ValueError(
            f"--held-out must be in 0..{len(rows) - 1}, got {number}; lower it, or pass more rows"
        )
    mixed = list(rows)
    random.Random(seed).shuffle(mixed)
    return mixed[number:], mixed[:number]
