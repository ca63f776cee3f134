"""Pairs (query, document) as padded batches of token ids, shortest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def encode_pairs(
    tokenizer: Any, pairs: Sequence[tuple[str, str]], max_length: int
) -> tuple[list[dict[str, list[int]]], list[bool]]:
    """Token ids of every pair, and which documents were cut to ``max_length`` tokens in all.

    Special tokens written in either text are encoded as plain text where the tokenizer can.
    Queries are cut to half of ``max_length``.
    """
    queries = sorted({query for query, _ in pairs})
    options = {"split_special_tokens": True}
    short = {}
    for query in queries:
        ids = tokenizer(query, add_special_tokens=False, **options)["input_ids"]
        short[query] = query
        if len(ids) > max_length // 2:
            short[query] = tokenizer.decode(ids[: max_length // 2], skip_special_tokens=True)
    encoded = tokenizer(
        [short[query] for query, _ in pairs],
        [document for _, document in pairs],
        truncation="only_second",
        max_length=max_length,
        return_overflowing_tokens=False,
        **options,
    )
    rows = [
        {
            key: list(values[i])
            for key, values in encoded.items()
            if key != "overflow_to_sample_mapping"
        }
        for i in range(len(pairs))
    ]
    cut = [len(row["input_ids"]) >= max_length for row in rows]
    return rows, cut


def length_sorted(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of about equal length that hold at most ``tokens`` tokens with padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[index] > tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
