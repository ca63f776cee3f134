"""Keys and values of prompts that were read, and caches made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

Pairs = list[tuple[Tensor, Tensor]]
"""Keys and values of every layer, each (rows, heads, length, width)."""


@dataclass(frozen=True)
class Prompt:
    """A prompt that was read.

    Attributes:
        pairs: its keys and values behind the beginning, one row.
        length: tokens read (by the decoder), those of the beginning included.
        begin: keys and values of a beginning that it shares with other prompts.
        cross: keys and values of the encoder's states, for encoder-decoder models.
        encoded: the encoder's states, (1, length, width), for encoder-decoder models.
    """

    pairs: Pairs
    length: int
    begin: Pairs = field(default_factory=list)
    cross: Pairs | None = None
    encoded: Tensor | None = None

    @property
    def shared(self) -> int:
        """Tokens of the shared beginning."""
        return int(self.begin[0][0].shape[-2]) if self.begin else 0

    @property
    def cross_length(self) -> int:
        """Tokens the encoder read; 0 without an encoder."""
        return 0 if self.encoded is None else int(self.encoded.shape[1])


class FixedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer of a cache in tensors of fixed size, filled from the left in place.

    Args:
        keys, values: (rows, heads, columns, width).
        filled: columns in use.
        whole: attention always reaches over all columns, so that a call has the same shape
            wherever an answer stands; a mask has to hide those not in use.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, filled: int, *, whole: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.filled, self.whole = keys, values, filled, whole
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        end = self.filled + key_states.shape[-2]
        self.keys[..., self.filled : end, :] = key_states
        self.values[..., self.filled : end, :] = value_states
        self.filled = end
        if self.whole:
            return self.keys, self.values
        return self.keys[..., :end, :], self.values[..., :end, :]

    def get_seq_length(self) -> int:
        return self.filled

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return (self.keys.shape[-2] if self.whole else self.filled + query_length), 0

    def columns(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Copies of some columns."""
        return self.keys[..., start:stop, :].clone(), self.values[..., start:stop, :].clone()


def pairs_of(cache: Any) -> Pairs:
    """All keys and values, as they are."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def cut(cache: Any, row: int, start: int, stop: int) -> Pairs:
    """Copies of the columns ``start:stop`` of one row."""
    return [
        (
            layer.keys[row : row + 1, :, start:stop].clone(),
            layer.values[row : row + 1, :, start:stop].clone(),
        )
        for layer in cache.layers
    ]


def cache_from(pairs: Pairs) -> DynamicCache:
    """A growing cache that begins with ``pairs``, which stay as they are."""
    cache = DynamicCache()
    for keys, values in pairs:
        layer = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def cache_of(layers: Sequence[FixedLayer]) -> Cache:
    return Cache(layers=list(layers))


def empty_layers(
    like: Pairs, rows: int, columns: int, *, filled: int, whole: bool
) -> list[FixedLayer]:
    """Zeroed layers with the heads, width and type of ``like``."""
    return [
        FixedLayer(
            keys.new_zeros((rows, keys.shape[1], columns, keys.shape[3])),
            values.new_zeros((rows, values.shape[1], columns, values.shape[3])),
            filled,
            whole=whole,
        )
        for keys, values in like
    ]


def put(layers: Sequence[FixedLayer], row: int, end: int, pairs: Pairs) -> None:
    """Copy keys and values of one row into ``row``, up to column ``end``."""
    for layer, (keys, values) in zip(layers, pairs, strict=True):
        start = end - keys.shape[-2]
        layer.keys[row, :, start:end] = keys[0]
        layer.values[row, :, start:end] = values[0]
