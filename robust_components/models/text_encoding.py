"""Texts as token ids, each alone: special tokens as text, padding on the right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

SHORTEST = 16
"""Least number of tokens a row may be limited to."""

Row = dict[str, list[int]]


class TextPieces:
    """Word pieces of texts, without the tokenizer's special tokens; safe to share between threads.

    Special tokens written in a text are encoded as plain text, or as the unknown token where the
    vocabulary knows them as pieces. The mask token alone keeps its meaning, because masking
    mechanisms write it; it hides a word and does no more. A lone surrogate becomes a question mark.

    Args:
        tokenizer: a fast Hugging Face tokenizer; it is copied and not changed.
        pad_id: the model's padding token; the tokenizer's when ``None``.

    Raises:
        TypeError: the tokenizer is not a fast one.
        ValueError: it has no padding token.
    """

    def __init__(self, tokenizer: Any, pad_id: int | None = None) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise TypeError(
                f"tokenizer must be a fast Hugging Face tokenizer, got {type(tokenizer).__name__}; "
                "load it with AutoTokenizer, or wrap the model in an object of your own"
            )
        pad_id = tokenizer.pad_token_id if pad_id is None else pad_id
        if pad_id is None:
            raise ValueError(
                "the tokenizer has no padding token; set tokenizer.pad_token, for example to "
                "tokenizer.eos_token, and the model's config.pad_token_id to the same id"
            )
        self.pad_id = int(pad_id)
        self.typed = "token_type_ids" in tokenizer.model_input_names
        self._mask_id = tokenizer.mask_token_id
        self._unknown_id = tokenizer.unk_token_id
        added = tokenizer.added_tokens_decoder
        self._special = {id for id, token in added.items() if token.special}
        self._special |= set(tokenizer.all_special_ids)
        self._special -= {self._mask_id, self._unknown_id}
        self._text = _text_tokenizer(tokenizer)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of every text."""
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encoded = self._text.encode_batch_fast(clean, add_special_tokens=False)
        return [self._plain(encoding.ids) for encoding in encoded]

    def word_of_token(self, words: Sequence[str]) -> list[int]:
        """For every token of ``words`` joined by spaces, the index of the word it ends in."""
        clean = [word.encode("utf-8", "replace").decode("utf-8") for word in words]
        owner = [at for at, word in enumerate(clean) for _ in range(len(word) + 1)]
        encoded = self._text.encode(" ".join(clean), add_special_tokens=False)
        return [
            owner[min(max(0, end - 1), len(owner) - 1)]
            for id, (_, end) in zip(encoded.ids, encoded.offsets, strict=True)
            if self._unknown_id is not None or id not in self._special
        ]

    def _plain(self, ids: list[int]) -> list[int]:
        if self._special.isdisjoint(ids):
            return ids
        if self._unknown_id is None:
            return [id for id in ids if id not in self._special]
        return [self._unknown_id if id in self._special else id for id in ids]

    def pad(self, rows: Sequence[Row]) -> dict[str, list[list[int]]]:
        """Rows filled up on the right, whatever the tokenizer's own side, with attention masks.

        Padding on the left would move absolute positions, so that a result depended on the batch.
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


class TextEncoder:
    """Encodes single texts as the tokenizer lays them out; long ones are cut at their end.

    Args:
        tokenizer: a fast Hugging Face tokenizer; see :class:`TextPieces`.
        max_length: tokens of a row, special tokens included, at least 16.
        pad_id: the model's padding token; the tokenizer's when ``None``.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, pad_id: int | None = None) -> None:
        if max_length < SHORTEST:
            raise ValueError(f"max_length must be at least {SHORTEST} tokens, got {max_length}")
        self.max_length = max_length
        self.pieces = TextPieces(tokenizer, pad_id)
        self._before, self._after = single_layout(tokenizer)

    def encode(self, texts: Sequence[str]) -> tuple[list[Row], list[bool]]:
        """Token ids of every text, and for each whether it was cut."""
        room = self.max_length - len(self._before) - len(self._after)
        rows: list[Row] = []
        cuts = []
        for ids in self.pieces.ids(texts):
            row = [*self._before, *ids[:room], *self._after]
            rows.append({"input_ids": row})
            if self.pieces.typed:
                rows[-1]["token_type_ids"] = [0] * len(row)
            cuts.append(len(ids) > room)
        return rows, cuts

    def pad(self, rows: Sequence[Row]) -> dict[str, list[list[int]]]:
        """See :meth:`TextPieces.pad`."""
        return self.pieces.pad(rows)


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


def around(tokenizer: Any, count: int) -> tuple[list[int], list[int], list[range]]:
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


def single_layout(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Special tokens before and after one text."""
    ids, _, (place, _) = around(tokenizer, 1)
    return tuple(ids[: place.start]), tuple(ids[place.stop :])


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
