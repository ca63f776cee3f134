"""Pairs (query, document) as token ids: one layout for every pair, documents cut to fit."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SHORTEST = 16
"""Least number of tokens a pair may be limited to."""


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

    Special tokens written in a text are encoded as plain text, or as the unknown token where the
    vocabulary knows them as pieces. The mask token alone keeps its meaning, because masking
    mechanisms write it; it hides a word and does no more. A lone surrogate becomes a question mark.

    Args:
        tokenizer: a fast Hugging Face tokenizer; it is copied and not changed.
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
        if not getattr(tokenizer, "is_fast", False):
            raise TypeError(
                f"tokenizer must be a fast Hugging Face tokenizer, got {type(tokenizer).__name__}; "
                "load it with AutoTokenizer, or wrap the model in an object with a score method"
            )
        pad_id = tokenizer.pad_token_id if pad_id is None else pad_id
        if pad_id is None:
            raise ValueError(
                "the tokenizer has no padding token; set tokenizer.pad_token, for example to "
                "tokenizer.eos_token, and the model's config.pad_token_id to the same id"
            )
        if max_length < SHORTEST:
            raise ValueError(f"max_length must be at least {SHORTEST} tokens, got {max_length}")
        self.max_length = max_length
        self.pad_id = int(pad_id)
        self._typed = "token_type_ids" in tokenizer.model_input_names
        self._mask_id = tokenizer.mask_token_id
        self._unknown_id = tokenizer.unk_token_id
        added = tokenizer.added_tokens_decoder
        self._special = {id for id, token in added.items() if token.special}
        self._special |= set(tokenizer.all_special_ids)
        self._special -= {self._mask_id, self._unknown_id}
        self._text = _text_tokenizer(tokenizer)
        self._layout = _pair_layout(tokenizer) if words is None else self._prompt(tokenizer, words)
        if len(self._layout) + max_length // 2 >= max_length:
            raise ValueError(
                f"max_length={max_length} leaves no room for a document beside the query and "
                f"{len(self._layout)} tokens of the prompt; raise it"
            )

    def _prompt(self, tokenizer: Any, words: tuple[str, str, str]) -> Layout:
        before, between, after = (tuple(ids) for ids in self._ids(words))
        opening, closing = _single_layout(tokenizer)
        before, after = (*opening, *before), (*after, *closing)
        none = ((0,) * len(before), 0, (0,) * len(between), 0, (0,) * len(after))
        return Layout(before, between, after, none)

    def encode(
        self, pairs: Sequence[tuple[str, str]]
    ) -> tuple[list[dict[str, list[int]]], list[bool]]:
        """Token ids of every pair, and for each whether its document was cut."""
        queries = list(dict.fromkeys(query for query, _ in pairs))
        short = dict(zip(queries, map(self._short, self._ids(queries)), strict=True))
        documents = self._ids([document for _, document in pairs])
        rows, cut = [], []
        for (query, _), ids in zip(pairs, documents, strict=True):
            room = self.max_length - len(self._layout) - len(short[query])
            row = self._layout.row(short[query], ids[:room])
            if not self._typed:
                del row["token_type_ids"]
            rows.append(row)
            cut.append(len(ids) > room)
        return rows, cut

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

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._text.encode_batch_fast(clean, add_special_tokens=False)
        return [self._plain(encoding.ids) for encoding in encoded]

    def _plain(self, ids: list[int]) -> list[int]:
        if self._special.isdisjoint(ids):
            return ids
        if self._unknown_id is None:
            return [id for id in ids if id not in self._special]
        return [self._unknown_id if id in self._special else id for id in ids]

    def pad(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, list[list[int]]]:
        """Rows filled up on the right, whatever the tokenizer's own side, with attention masks.

        Padding on the left would move absolute positions, so that a score depended on the batch.
        """
        longest = max(len(row["input_ids"]) for row in rows)
        gaps = [longest - len(row["input_ids"]) for row in rows]
        filled = {
            key: [
                row[key] + [self.pad_id if key == "input_ids" else 0] * gap
                for row, gap in zip(rows, gaps, strict=True)
            ]
            for key in rows[0]
        }
        filled["attention_mask"] = [[1] * (longest - gap) + [0] * gap for gap in gaps]
        return filled


def _text_tokenizer(tokenizer: Any) -> Any:
    """A copy of the backend that knows no special token but the mask, and neither cuts nor pads."""
    from tokenizers import Tokenizer

    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["truncation"] = data["padding"] = data["post_processor"] = None
    data["added_tokens"] = [
        token
        for token in data["added_tokens"]
        if not token["special"] or token["id"] == tokenizer.mask_token_id
    ]
    return Tokenizer.from_str(json.dumps(data))


def _around(tokenizer: Any, count: int) -> tuple[list[int], list[int], list[range]]:
    """Ids and types of one text or two among special tokens, and where first and last text lie."""
    from tokenizers import Tokenizer

    backend: Any = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    text = backend.encode("a", add_special_tokens=False)
    whole = backend.post_process(*[text] * count)
    first = whole.special_tokens_mask.index(0)
    last = len(whole.ids) - whole.special_tokens_mask[::-1].index(0)
    places = [range(first, first + len(text.ids)), range(last - len(text.ids), last)]
    return whole.ids, whole.type_ids, places


def _single_layout(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Special tokens before and after one text."""
    ids, _, (place, _) = _around(tokenizer, 1)
    return tuple(ids[: place.start]), tuple(ids[place.stop :])


def _pair_layout(tokenizer: Any) -> Layout:
    """Special tokens around two texts, found by putting two short ones through the tokenizer."""
    ids, types, (first, second) = _around(tokenizer, 2)
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
