"""Ranked lists and probes for the repair benchmark."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ranking_data import BM25, RankedList

CHUNK = 50


def chunk_lists(path: Path, count: int, lists: int, seed: int) -> list[RankedList]:
    """BM25 lists of question answering rows, over paragraphs cut into chunks of 50 words.

    The chunks that hold an answer in the question's own paragraph are relevant. Questions whose
    relevant chunk is not among the first ``count`` are left out.

    Args:
        path: JSON lines with title, context, question and answers.
        count: candidates a list.
        lists: lists drawn at random, at most one a paragraph.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    chunks: dict[str, str] = {}
    of_context: dict[str, list[str]] = {}
    for row in rows:
        context = row["context"]
        if context not in of_context:
            number = len(of_context)
            words = context.split()
            parts = [words[i : i + CHUNK] for i in range(0, len(words), CHUNK)]
            if len(parts) > 1 and len(parts[-1]) < CHUNK // 3:
                parts[-2:] = [parts[-2] + parts[-1]]
            of_context[context] = [f"{number}-{i}" for i in range(len(parts))]
            for name, part in zip(of_context[context], parts, strict=True):
                chunks[name] = " ".join(part)
    index = BM25(chunks)
    drawn = random.Random(seed)
    drawn.shuffle(rows)
    found: list[RankedList] = []
    used: set[str] = set()
    for row in rows:
        if len(found) == lists:
            break
        if row["context"] in used or not row["answers"]:
            continue
        texts = [a["text"] if isinstance(a, dict) else str(a) for a in row["answers"]]
        right = {n: 1 for n in of_context[row["context"]] if any(t in chunks[n] for t in texts)}
        names = index.search(row["question"], count)
        if not right.keys() & set(names) or len(names) < count:
            continue
        used.add(row["context"])
        found.append(
            RankedList(
                query_id=str(row["id"]),
                query=row["question"],
                ids=tuple(names),
                documents=tuple(chunks[n] for n in names),
                relevant=right,
                first_ranks=tuple(range(1, len(names) + 1)),
            )
        )
    return found


def targets_of(item: RankedList, order: Sequence[int], count: int, seed: int) -> list[int]:
    """Documents that are not relevant, one from each of ``count`` bands below the first tenth.

    Of 100 candidates and nine targets: one from each of ranks 11 to 20, ..., 91 to 100.

    Args:
        order: indices of the documents, best first.
    """
    rng = random.Random(f"{seed} {item.query_id}")
    first = len(order) // 10
    found = []
    for band in range(count):
        places = range(
            first + band * (len(order) - first) // count,
            first + (band + 1) * (len(order) - first) // count,
        )
        free = [order[place] for place in places if item.ids[order[place]] not in item.relevant]
        if free:
            found.append(rng.choice(free))
    return found
