"""Keys and values of isolated rows, fed token by token in batches of one fixed shape.

A batch has the same number of slots and the same width whatever its rows hold, so what one row
holds cannot change how another is computed. A row stands at the right end of its slot and the rest
is masked. Answers branch: a branch keeps no copy of the prompts, only the columns of its tokens.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

Pairs = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer, each (rows, heads, length, width)."""


@dataclass(frozen=True)
class Prompt:
    """A prompt that was read.

    Attributes:
        pairs: its keys and values, one row.
        length: tokens read (by the decoder).
        cross: keys and values of the encoder's states, for encoder-decoder models.
        encoded: the encoder's states.
    """

    pairs: Pairs
    length: int
    cross: Pairs | None = None
    encoded: Tensor | None = None


class FixedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer of a cache in tensors of fixed size, filled from the left in place."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, filled: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.filled = keys, values, filled
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        end = self.filled + key_states.shape[-2]
        self.keys[..., self.filled : end, :] = key_states
        self.values[..., self.filled : end, :] = value_states
        self.filled = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def get_seq_length(self) -> int:
        return self.filled


def pairs_of(cache: Any, start: int = 0, stop: int | None = None) -> Pairs:
    """Views of the columns ``start:stop`` of every layer."""
    return [
        (layer.keys[..., start:stop, :], layer.values[..., start:stop, :]) for layer in cache.layers
    ]


def cache_from(pairs: Pairs) -> DynamicCache:
    """A growing cache that begins with ``pairs``, which stay as they are."""
    cache = DynamicCache()
    for index, (keys, values) in enumerate(pairs):
        cache.update(keys, values, index)
    return cache


class CausalCalls:
    """How a causal model is called; arguments that it does not take are left out."""

    def __init__(self, model: Any) -> None:
        self._model = model
        taken = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in taken
        self._keeps = "logits_to_keep" in taken

    def __call__(
        self, tokens: Tensor, cache: Cache, mask: Tensor, positions: Tensor, keep: int
    ) -> Tensor:
        """Float32 logits of the last ``keep`` tokens."""
        options: dict[str, Any] = {"position_ids": positions} if self._positions else {}
        if self._keeps:
            options["logits_to_keep"] = keep
        output = self._model(
            input_ids=tokens, past_key_values=cache, attention_mask=mask, use_cache=True, **options
        )
        logits: Tensor = output.logits
        return logits[:, -keep:].float()


class RowGroup:
    """Rows that are fed together.

    Args:
        model: the model.
        rows: prompts by slot.
        slots: size of the batch.
        width: columns for a prompt, at least one more than the longest where there are several
            slots: with nothing masked another kernel would run.
        room: columns for an answer.
        kept: token columns kept for branches, the least recently used are dropped first.
    """

    def __init__(
        self,
        model: Any,
        rows: Mapping[int, Prompt],
        *,
        slots: int,
        width: int,
        room: int,
        kept: int,
    ) -> None:
        self._model = model
        self._call = CausalCalls(model)
        self._width, self._room, self._kept = width, room, kept
        self.rows = tuple(rows)
        first = next(iter(rows.values()))
        self._encoded = first.encoded
        self._cross = cache_from(first.cross or [])
        self._layers = [
            FixedLayer(
                keys.new_zeros((slots, keys.shape[1], width + room, keys.shape[3])),
                values.new_zeros((slots, values.shape[1], width + room, values.shape[3])),
                width,
            )
            for keys, values in first.pairs
        ]
        device = first.pairs[0][0].device
        self._mask = torch.zeros((slots, width + room), dtype=torch.long, device=device)
        self._mask[:, width:] = 1
        self._lengths = torch.zeros((slots, 1), dtype=torch.long, device=device)
        for slot, prompt in rows.items():
            for layer, (keys, values) in zip(self._layers, prompt.pairs, strict=True):
                layer.keys[slot, :, width - prompt.length : width] = keys[0]
                layer.values[slot, :, width - prompt.length : width] = values[0]
            self._mask[slot, width - prompt.length :] = 1
            self._lengths[slot] = prompt.length
        self._path: tuple[int, ...] = ()
        self._columns: OrderedDict[tuple[int, ...], Pairs] = OrderedDict()
        self.fed = 0
        """Tokens fed so far, the same to every slot."""

    @torch.inference_mode()
    def logits(self, prefix: tuple[int, ...]) -> Tensor:
        """Float32 logits (slots, vocabulary) of the token after a prefix of at least one token."""
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

    def _cut(self, length: int) -> None:
        self._path = self._path[:length]
        for layer in self._layers:
            layer.filled = self._width + length

    def _put(self, token: int, columns: Pairs) -> None:
        for layer, (keys, values) in zip(self._layers, columns, strict=True):
            layer.update(keys, values)
        self._path = (*self._path, token)

    def _feed(self, token: int) -> Tensor:
        """One token to every slot, in a call whose shape depends on its place alone."""
        if len(self._path) == self._room:
            raise ValueError(
                f"an answer may have {self._room} tokens; raise max_answer_tokens of the model"
            )
        self.fed += 1
        at = self._width + len(self._path)
        tokens = torch.full_like(self._lengths, token)
        cache = Cache(layers=list(self._layers))
        if self._encoded is None:
            positions = self._lengths + len(self._path)
            logits = self._call(tokens, cache, self._mask[:, : at + 1], positions, keep=1)
        else:
            output = self._model(
                decoder_input_ids=tokens,
                encoder_outputs=(self._encoded,),
                past_key_values=EncoderDecoderCache(cache, self._cross),
                use_cache=True,
            )
            logits = output.logits.float()
        self._path = (*self._path, token)
        columns = [
            (layer.keys[..., at : at + 1, :].clone(), layer.values[..., at : at + 1, :].clone())
            for layer in self._layers
        ]
        self._columns[self._path] = columns
        self._columns.move_to_end(self._path)
        while len(self._columns) > self._kept:
            self._columns.popitem(last=False)
        return logits[:, -1]
