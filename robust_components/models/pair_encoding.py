"""Pairs (query, document) as token ids: one layout for every pair, documents cut to fit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robust_components.models.text_encoding import (
    SHORTEST,
    TextPieces,
    around,
    single_layout,
)


@dataclass(frozen=True)
class Layout:
    """Token ids around a query and a document, and the token type of each of the five parts."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]]

    def row(self, query: list[int], document: list[int]) -> dict[str, list[int]]:
        before, first, between, second, after = self.types
        return {
            "input_ids": [*self.before, *query, *self.between, *document, *self.after],
            "token_type_ids": [
                *before,
                *[first] * len(query),
                *between,
                *[second] * len(document),
                *after,
            ],
        }

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class PairEncoder:
    """Encodes pairs for one tokenizer, each pair alone; safe to share between threads.

    Args:
        tokenizer: a fast Hugging Face tokenizer; see :class:`TextPieces` for special tokens in
            texts. It is copied and not changed.
        max_length: tokens of a pair, at least 16. Queries are cut to half of it, with a warning;
            documents to what is left.
        words: words before the query, between, and after the document, as in monoT5's prompt;
            ``None`` separates the two as the tokenizer does.
        pad_id: the model's padding token; the tokenizer's when ``None``.

    Raises:
        TypeError: the tokenizer is not a fast one.
        ValueError: it has no padding token, or ``max_length`` is too small.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        words: tuple[str, str, str] | None = None,
        *,
        pad_id: int | None = None,
    ) -> None:
        self._pieces = TextPieces(tokenizer, pad_id)
        self.pad_id = self._pieces.pad_id
        if max_length < SHORTEST:
            raise ValueError(f"max_length must be at least {SHORTEST} tokens, got {max_length}")
        self.max_length = max_length
        self._layout = _pair_layout(tokenizer) if words is None else self._prompt(tokenizer, words)
        if len(self._layout) + max_length // 2 >= max_length:
            raise ValueError(
                f"max_length={max_length} leaves no room for a document beside the query and "
                f"{len(self._layout)} tokens of the prompt; raise it"
            )

    def _prompt(self, tokenizer: Any, words: tuple[str, str, str]) -> Layout:
        before, between, after = (tuple(ids) for ids in self._pieces.ids(words))
        opening, closing = single_layout(tokenizer)
        before, after = (*opening, *before), (*after, *closing)
        none = ((0,) * len(before), 0, (0,) * len(between), 0, (0,) * len(after))
        return Layout(before, between, after, none)

    def encode(
        self, pairs: Sequence[tuple[str, str]]
    ) -> tuple[list[dict[str, list[int]]], list[bool]]:
        """Token ids of every pair, and for each whether its document was cut."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        short = dict(zip(queries, map(self._short, self._pieces.ids(queries)), strict=True))
        documents = self._pieces.ids([document for _, document in pairs])
        rows, cut = [], []
        for (query, _), ids in zip(pairs, documents, strict=True):
            room = self.max_length - len(self._layout) - len(short[query])
            row = self._layout.row(short[query], ids[:room])
            if not self._pieces.typed:
                del row["token_type_ids"]
            rows.append(row)
            cut.append(len(ids) > room)
        return rows, cut

    def document_places(self, query: str, row: dict[str, list[int]]) -> range:
        """Where the document's tokens stand in a row that :meth:`encode` made for ``query``."""
        start = len(self._layout.before) + len(self._layout.between)
        start += min(len(self._pieces.ids([query])[0]), self.max_length // 2)
        return range(start, len(row["input_ids"]) - len(self._layout.after))

    def ids_of(self, text: str) -> list[int]:
        """Token ids of one text alone."""
        return self._pieces.ids([text])[0]

    def word_of_token(self, words: Sequence[str]) -> list[int]:
        """For every token of the document that ``words`` make, the index of its word."""
        return self._pieces.word_of_token(words)

    def _short(self, query: list[int]) -> list[int]:
        most = self.max_length // 2
        if len(query) > most:
            warnings.warn(
                f"a query of {len(query)} tokens is cut to {most}, half of max_length; shorten it "
                "or raise max_length",
                UserWarning,
                stacklevel=3,
            )
        return query[:most]

    def pad(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, list[list[int]]]:
        """See :meth:`TextPieces.pad`."""
        return self._pieces.pad(rows)


def _pair_layout(tokenizer: Any) -> Layout:
    """Special tokens around two texts, found by putting two short ones through the tokenizer."""
    ids, types, (first, second) = around(tokenizer, 2)
    before, between = slice(0, first.start), slice(first.stop, second.start)
    after = slice(second.stop, None)
    return Layout(
        before=tuple(ids[before]),
        between=tuple(ids[between]),
        after=tuple(ids[after]),
        types=(
            tuple(types[before]),
            types[first.start],
            tuple(types[between]),
            types[second.start],
            tuple(types[after]),
        ),
    )
