"""Isolated rows fed token by token in one call, in a shape that no row can change.

A group has a fixed number of slots, each of a fixed number of columns; a row stands at the right
end of its slot's prompt columns and the rest is masked. Which group a row belongs to follows from
its own length. Answers branch: a branch keeps no copy of the prompts, only the columns of its
tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_components.models.transformers_cache import (
    FixedLayer,
    Pairs,
    Prompt,
    cache_of,
    empty_layers,
    put,
)
from robust_components.models.transformers_calls import Beside, Calls

COLUMNS = 192
"""Columns for what a prompt adds to the shared beginning: this many, or twice, four times, ..."""


@dataclass(frozen=True)
class Shape:
    """The shape of a group's calls.

    Attributes:
        slots: rows of a call.
        width: columns for a prompt.
        cross: columns for what an encoder read; 0 without an encoder.
    """

    slots: int
    width: int
    cross: int = 0

    @classmethod
    def of(cls, prompt: Prompt, slots: int) -> Shape:
        """The shape for a prompt, from its own length; exact for a single slot."""
        if slots == 1:
            return cls(1, prompt.length, prompt.cross_length)
        if prompt.cross_length:
            return cls(slots, prompt.length, _wide(prompt.cross_length))
        return cls(slots, prompt.shared + _wide(prompt.length - prompt.shared))


class RowGroup:
    """Rows that are fed together.

    Args:
        calls: the model.
        prompts: one a slot, the first slots; the others stay empty.
        shape: that of every prompt.
        room: columns for an answer.
        kept: token columns kept for branches, the least recently used are dropped first.

    Attributes:
        fed: tokens fed so far, the same to every slot.
    """

    def __init__(
        self, calls: Calls, prompts: Sequence[Prompt], shape: Shape, *, room: int, kept: int
    ) -> None:
        self._calls = calls
        self._room, self._kept = room, kept
        self._width, self.slots = shape.width, shape.slots
        self._whole = shape.slots > 1
        self._path: tuple[int, ...] = ()
        self._columns: OrderedDict[tuple[int, ...], Pairs] = OrderedDict()
        self.fed = 0
        with torch.inference_mode():
            self._fill(prompts, shape)

    def _fill(self, prompts: Sequence[Prompt], shape: Shape) -> None:
        width, device = shape.width, self._calls.device
        columns = width + self._room + 1  # the last one stays masked: no mask, another kernel
        self._layers = empty_layers(
            prompts[0].pairs, shape.slots, columns, filled=width, whole=self._whole
        )
        self._mask = torch.zeros((shape.slots, columns), dtype=torch.long, device=device)
        self._lengths = torch.zeros((shape.slots, 1), dtype=torch.long, device=device)
        for slot, prompt in enumerate(prompts):
            if prompt.begin:
                put(self._layers, slot, width - prompt.length + prompt.shared, prompt.begin)
            put(self._layers, slot, width, prompt.pairs)
            self._mask[slot, width - prompt.length : width] = 1
            self._lengths[slot] = prompt.length
        self._beside = _beside(prompts, shape)

    @torch.inference_mode()
    def logits(self, prefix: tuple[int, ...]) -> Tensor:
        """Float32 logits (slots, vocabulary) of the token after a prefix of at least one token.

        Raises:
            ValueError: the prefix is longer than the room for an answer.
        """
        if len(prefix) > self._room:
            raise ValueError(
                f"an answer may have {self._room} tokens, got {len(prefix)}; "
                "raise max_answer_tokens of the model"
            )
        common = 0
        for one, other in zip(self._path, prefix[:-1], strict=False):
            if one != other:
                break
            common += 1
        self._cut(common)
        for end in range(common + 1, len(prefix)):
            columns = self._columns.get(prefix[:end])
            if columns is None:
                self._feed(prefix[end - 1])
            else:
                self._columns.move_to_end(prefix[:end])
                self._put(prefix[end - 1], columns)
        return self._feed(prefix[-1])

    @property
    def newest(self) -> Pairs:
        """Keys and values of the token fed last, (slots, heads, 1, width)."""
        return self._columns[self._path]

    def _cut(self, length: int) -> None:
        self._path = self._path[:length]
        for layer in self._layers:
            layer.filled = self._width + length

    def _put(self, token: int, columns: Pairs) -> None:
        for layer, (keys, values) in zip(self._layers, columns, strict=True):
            layer.update(keys, values)
        self._path = (*self._path, token)

    def _feed(self, token: int) -> Tensor:
        """One token to every slot; a lone row sees exactly what it has, as when generating."""
        answered = len(self._path)
        at = self._width + answered
        mask = self._mask.clone()
        mask[:, self._width : at + 1] = 1
        self.fed += 1
        logits = self._calls.step(
            torch.full_like(self._lengths, token),
            cache_of(self._layers),
            mask if self._whole else mask[:, : at + 1],
            self._lengths + answered,
            self._beside,
        )
        self._path = (*self._path, token)
        self._columns[self._path] = [layer.columns(at, at + 1) for layer in self._layers]
        self._columns.move_to_end(self._path)
        while len(self._columns) > self._kept:
            self._columns.popitem(last=False)
        return logits


def _beside(prompts: Sequence[Prompt], shape: Shape) -> Beside | None:
    """Encoder states side by side, from the left, the rest masked."""
    first = prompts[0]
    if first.encoded is None or first.cross is None:
        return None
    layers: list[FixedLayer] = empty_layers(
        first.cross, shape.slots, shape.cross, filled=shape.cross, whole=True
    )
    encoded = first.encoded.new_zeros((shape.slots, shape.cross, first.encoded.shape[2]))
    mask = torch.zeros((shape.slots, shape.cross), dtype=torch.long, device=encoded.device)
    mask[:, 0] = 1  # an empty slot looks at something
    for slot, prompt in enumerate(prompts):
        assert prompt.encoded is not None and prompt.cross is not None
        put(layers, slot, prompt.cross_length, prompt.cross)
        encoded[slot, : prompt.cross_length] = prompt.encoded[0]
        mask[slot, : prompt.cross_length] = 1
    return Beside([(layer.keys, layer.values) for layer in layers], encoded, mask)


def _wide(length: int) -> int:
    """Columns that hold ``length`` tokens and leave one to mask."""
    columns = COLUMNS
    while columns <= length:
        columns *= 2
    return columns
