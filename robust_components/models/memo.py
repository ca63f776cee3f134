"""Remember readings, so that the same request never gets two answers."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from robust_components.checks import positive_integer
from robust_components.models.protocols import PassageReader, Reading


class Memo:
    """The first response to each request; safe to share between threads and readers.

    A request is known by model name, fingerprint (which stands for version and settings) and full
    prompt. Failed calls are not remembered.

    Args:
        size: most requests remembered; of more, the oldest is forgotten.
    """

    def __init__(self, size: int = 100_000) -> None:
        self._size = positive_integer("size", size)
        self._known: OrderedDict[Hashable, Reading] = OrderedDict()
        self._lock = threading.Lock()

    def __deepcopy__(self, copies: dict[int, Any]) -> Memo:
        """Copies of a generator share its memo, or they would give other answers."""
        return self

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Hashable) -> Reading | None:
        with self._lock:
            return self._known.get(key)

    def first(self, key: Hashable, reading: Reading) -> Reading:
        """Remember ``reading`` unless another thread was faster, and return what counts."""
        if not isinstance(reading, Reading) or reading.failure is not None:
            return reading
        with self._lock:
            kept = self._known.setdefault(key, reading)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
            return kept


class MemoReader:
    """A reader that answers each request once and repeats itself from then on.

    With it a model that samples behaves deterministically as long as the memo lives, which is what
    certificates are conditional on; it also saves the calls of repeated evaluations.

    Args:
        reader: the reader that does the work.
        memo: where readings are kept; one of its own when ``None``.
    """

    def __init__(self, reader: PassageReader, memo: Memo | None = None) -> None:
        self.reader: Any = reader
        self.name = reader.name
        self.fingerprint = reader.fingerprint
        self.memo = Memo() if memo is None else memo

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]:
        keys = self._read_keys(query, passages)
        known, new = self._split(keys, passages)
        found = self.reader.read(query, list(new.values())) if new else ()
        return self._merge(keys, known, new, found)

    async def read_async(self, query: str, passages: Sequence[str]) -> list[Reading]:
        if not hasattr(self.reader, "read_async"):
            return await asyncio.to_thread(self.read, query, passages)
        keys = self._read_keys(query, passages)
        known, new = self._split(keys, passages)
        found = await self.reader.read_async(query, list(new.values())) if new else ()
        return self._merge(keys, known, new, found)

    def combine(self, query: str, keywords: Sequence[str]) -> Reading:
        return self.combine_many(query, [keywords])[0]

    def combine_many(self, query: str, keyword_sets: Sequence[Sequence[str]]) -> list[Reading]:
        """One reading for each keyword set."""
        keys = self._combine_keys(query, keyword_sets)
        known, new = self._split(keys, keyword_sets)
        asked = list(new.values())
        if asked and hasattr(self.reader, "combine_many"):
            found = self.reader.combine_many(query, asked)
        else:
            found = [self.reader.combine(query, keywords) for keywords in asked]
        return self._merge(keys, known, new, found)

    async def combine_many_async(
        self, query: str, keyword_sets: Sequence[Sequence[str]]
    ) -> list[Reading]:
        if not hasattr(self.reader, "combine_many_async"):
            return await asyncio.to_thread(self.combine_many, query, keyword_sets)
        keys = self._combine_keys(query, keyword_sets)
        known, new = self._split(keys, keyword_sets)
        found = await self.reader.combine_many_async(query, list(new.values())) if new else ()
        return self._merge(keys, known, new, found)

    def _read_keys(self, query: str, passages: Sequence[str]) -> list[Hashable]:
        if hasattr(self.reader, "read_prompts"):
            return [self._key(prompt) for prompt in self.reader.read_prompts(query, passages)]
        return [self._key(("read", query, passage)) for passage in passages]

    def _combine_keys(self, query: str, keyword_sets: Sequence[Sequence[str]]) -> list[Hashable]:
        if hasattr(self.reader, "combine_prompt"):
            return [self._key(self.reader.combine_prompt(query, words)) for words in keyword_sets]
        return [self._key(("combine", query, tuple(words))) for words in keyword_sets]

    def _key(self, request: Hashable) -> Hashable:
        return self.name, self.fingerprint, request

    def _split(
        self, keys: Sequence[Hashable], requests: Sequence[Any]
    ) -> tuple[dict[Hashable, Reading], dict[Hashable, Any]]:
        """What is remembered, at no cost now, and each request that is not, once."""
        known, new = {}, {}
        for key, request in zip(keys, requests, strict=True):
            reading = self.memo.get(key)
            if reading is None:
                new[key] = request
            else:
                known[key] = replace(reading, calls=0, tokens=0)
        return known, new

    def _merge(
        self,
        keys: Sequence[Hashable],
        known: dict[Hashable, Reading],
        new: dict[Hashable, Any],
        found: Sequence[Reading],
    ) -> list[Reading]:
        for key, reading in zip(new, found, strict=True):
            known[key] = self.memo.first(key, reading)
        return [known[key] for key in keys]
