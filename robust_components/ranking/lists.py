"""Ranked lists for training and evaluation: a query, its relevant document, and others."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrainingRow:
    """A query, a relevant document, and candidates that are not, hardest first."""

    query: str
    positive: str
    negatives: tuple[str, ...]

    def draw(self, negatives: int, generator: random.Random, hardest: int = 20) -> list[str]:
        """The positive and ``negatives`` others: three quarters of them from the ``hardest``."""
        hard = list(self.negatives[:hardest])
        chosen = generator.sample(hard, min(len(hard), (3 * negatives + 3) // 4))
        rest = [text for text in self.negatives if text not in chosen]
        chosen += generator.sample(rest, min(len(rest), negatives - len(chosen)))
        return [self.positive, *chosen]


def read_rows(path: str | Path) -> list[TrainingRow]:
    """Rows from JSON lines, in one of two forms.

    ``{"query", "positive", "negatives": [..]}`` (or ``"negative": str``), or question answering
    rows ``{"title", "context", "question", "answers"}``, where the other paragraphs of an article
    are the negatives, those that share most words with the question first.

    Raises:
        ValueError: a line has neither form; names the line.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(record, dict) or not ({"query", "question"} & record.keys()):
            raise ValueError(
                f"{path}, line {number}: needs 'query', 'positive' and 'negatives', or "
                f"'question', 'context', 'title' and 'answers'; got {str(record)[:80]}"
            )
        records.append(record)
    if records and "query" in records[0]:
        return [_plain_row(record, path, number) for number, record in enumerate(records, start=1)]
    return question_rows(records)


def _plain_row(record: dict[str, object], path: str | Path, number: int) -> TrainingRow:
    negatives = record.get("negatives", [record["negative"]] if "negative" in record else None)
    positive = record.get("positive")
    if not isinstance(positive, str) or not isinstance(negatives, list) or not negatives:
        raise ValueError(
            f"{path}, line {number}: 'positive' must be a string and 'negatives' a list of at "
            "least one string"
        )
    others = dict.fromkeys(text for text in map(str, negatives) if text != positive)
    return TrainingRow(str(record["query"]), positive, tuple(others))


def question_rows(records: Sequence[dict[str, object]]) -> list[TrainingRow]:
    """One row for every answerable question; see :func:`read_rows`."""
    articles: dict[object, dict[str, set[str]]] = {}
    for record in records:
        context = str(record["context"])
        articles.setdefault(record["title"], {}).setdefault(context, _words(context))
    rows = []
    for record in records:
        if not record["answers"]:
            continue
        query = str(record["question"])
        wanted = _words(query)
        paragraphs = articles[record["title"]]
        others = [text for text in paragraphs if text != record["context"]]
        others.sort(key=lambda text: -len(wanted & paragraphs[text]))
        rows.append(TrainingRow(query, str(record["context"]), tuple(others)))
    return rows


def candidates(row: TrainingRow, count: int = 20) -> list[str]:
    """The positive first, then the ``count - 1`` hardest negatives."""
    return [row.positive, *row.negatives[: count - 1]]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
