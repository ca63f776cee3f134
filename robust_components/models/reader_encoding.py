"""Question and passage to word pieces, with the word boundaries a span may start and end at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class EncodedPair:
    """One encoded row.

    ``offsets[i]`` is the character span of word piece i in the passage, or ``None`` outside it.
    """

    passage: str
    input_ids: list[int]
    token_type_ids: list[int]
    offsets: list[tuple[int, int] | None]
    can_start: list[bool]
    can_end: list[bool]
    truncated: bool = False
    gold: list[tuple[int, int]] = field(default_factory=list)

    def gold_spans(self, answers: list[str], max_answer_tokens: int) -> list[tuple[int, int]]:
        """Word-piece spans of every occurrence of every answer (whole words only)."""
        starts = {o[0]: i for i, o in enumerate(self.offsets) if o and self.can_start[i]}
        ends = {o[1]: i for i, o in enumerate(self.offsets) if o and self.can_end[i]}
        found = set()
        lowered = self.passage.lower()
        for answer in set(answers):
            text = answer.strip().lower()
            at = lowered.find(text) if text else -1
            while at >= 0:
                i, j = starts.get(at), ends.get(at + len(text))
                if i is not None and j is not None and 0 <= j - i < max_answer_tokens:
                    found.add((i, j))
                at = lowered.find(text, at + 1)
        return sorted(found)


def encode_pair(tokenizer: Any, question: str, passage: str, max_length: int) -> EncodedPair:
    """Encode one pair; the passage is cut to ``max_length`` word pieces in all.

    Special tokens written in either text are encoded as plain text.
    """
    query = tokenizer(question, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    query = query[: max_length // 2]
    room = max_length - len(query) - 3
    encoded = tokenizer(
        passage, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True
    )
    pieces = encoded["input_ids"][:room]
    words = encoded.word_ids()[: len(pieces)]
    spans = [(int(a), int(b)) for a, b in encoded["offset_mapping"][: len(pieces)]]
    before = len(query) + 2
    first = [k == 0 or words[k] != words[k - 1] for k in range(len(pieces))]
    last = [k + 1 == len(pieces) or words[k] != words[k + 1] for k in range(len(pieces))]
    return EncodedPair(
        passage=passage,
        input_ids=[
            tokenizer.cls_token_id,
            *query,
            tokenizer.sep_token_id,
            *pieces,
            tokenizer.sep_token_id,
        ],
        token_type_ids=[0] * before + [1] * (len(pieces) + 1),
        offsets=[None] * before + spans + [None],
        can_start=[False] * before + first + [False],
        can_end=[False] * before + last + [False],
        truncated=len(pieces) < len(encoded["input_ids"]),
    )


def collate(pairs: list[EncodedPair], tokenizer: Any) -> dict[str, Tensor]:
    """Pad rows to the longest; ``gold`` marks the correct columns of the span distribution."""
    length = max(len(pair.input_ids) for pair in pairs)
    shape = (len(pairs), length)
    ids = torch.full(shape, tokenizer.pad_token_id)
    mask = torch.zeros(shape, dtype=torch.long)
    types = torch.zeros(shape, dtype=torch.long)
    can_start = torch.zeros(shape, dtype=torch.bool)
    can_end = torch.zeros(shape, dtype=torch.bool)
    gold = torch.zeros((len(pairs), 1 + length * length), dtype=torch.bool)
    for row, pair in enumerate(pairs):
        n = len(pair.input_ids)
        ids[row, :n] = torch.tensor(pair.input_ids)
        mask[row, :n] = 1
        types[row, :n] = torch.tensor(pair.token_type_ids)
        can_start[row, :n] = torch.tensor(pair.can_start)
        can_end[row, :n] = torch.tensor(pair.can_end)
        for i, j in pair.gold:
            gold[row, 1 + i * length + j] = True
        if not pair.gold:
            gold[row, 0] = True
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types,
        "can_start": can_start,
        "can_end": can_end,
        "gold": gold,
    }
