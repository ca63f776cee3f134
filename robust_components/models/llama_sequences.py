"""Token sequences in llama.cpp, each with keys and values of its own.

One call to ``llama_decode`` feeds tokens of one sequence only, and a sequence's keys and values are
apart from the others' (``kv_unified=False``). Neither the numbers in a call nor its shape then
depend on any other sequence: what was measured with llama-cpp-python 0.3.36 on a CPU, with one and
two threads, flash attention on and off, float32 and float16 caches, was the same bit for bit
whatever the others held and in whatever order they were fed. With one cache for all sequences
(``kv_unified=True``) it was not: a longer neighbour moves a row's keys and changes its sums.

The shared beginning of the prompts is fed once, kept for questions with as many passages, and
copied into the sequences (``llama_memory_seq_cp``). A branch of an
answer is visited by cutting its sequence back to where the two part: with separate caches a copy
for each branch would double the memory and take as long as feeding a token or two. A search that
goes depth first feeds every node of its tree once.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

STEP = 256
"""llama.cpp gives a sequence room in steps of this many tokens."""
MOST_AT_ONCE = 512
"""Tokens in one matrix product; longer prompts are fed in several."""


@dataclass(frozen=True)
class Kept:
    """Keys and values of a sequence, outside of a context.

    Attributes:
        data: bytes in llama.cpp's own format.
        length: number of tokens.
    """

    data: ctypes.Array[ctypes.c_uint8]
    length: int


class LlamaSequences:
    """A llama.cpp context with ``count`` sequences of at most ``longest`` tokens.

    Args:
        pointer: a ``llama_model``; the caller keeps it alive.
        count: number of sequences.
        longest: tokens a sequence may have.
        size: vocabulary.
        threads: CPU threads.
        full_precision: float32 keys and values without flash attention, not llama.cpp's choice.

    Attributes:
        lengths: tokens in each sequence.
        fed: tokens fed so far.

    Raises:
        ValueError: more sequences than llama.cpp can hold.
        MemoryError: there is no room for them.
    """

    def __init__(
        self,
        pointer: Any,
        count: int,
        longest: int,
        *,
        size: int,
        threads: int,
        full_precision: bool,
    ) -> None:
        most = int(llama_cpp.llama_max_parallel_sequences())
        if count > most:
            raise ValueError(
                f"llama.cpp holds at most {most} sequences, two of them reserved, "
                f"got {count}; pass fewer passages"
            )
        room = -(-longest // STEP) * STEP
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max, wanted.kv_unified = count * room, count, False
        wanted.n_batch, wanted.n_ubatch = room, min(room, MOST_AT_ONCE)
        wanted.n_outputs_max, wanted.n_outputs_max_per_seq = 0, 0
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.swa_full = True  # else a sliding window forgets what a branch goes back to
        wanted.no_perf = True
        if full_precision:
            wanted.type_k = wanted.type_v = llama_cpp.GGML_TYPE_F32
            wanted.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama_cpp.llama_init_from_model(pointer, wanted)
        if not self._context:
            raise MemoryError(
                f"llama.cpp could not make room for {count} sequences of {room} tokens; "
                "pass fewer passages or lower max_passage_tokens"
            )
        self._free = weakref.finalize(self, llama_cpp.llama_free, self._context)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._size = size
        self.lengths = [0] * count
        self.fed = 0

    @property
    def closed(self) -> bool:
        return not self._free.alive

    def close(self) -> None:
        """Free the context; nothing may be fed any more."""
        self._free()

    def feed(self, sequence: int, tokens: Sequence[int], keep: int) -> NDArray[np.float32]:
        """Append tokens in one call; logits (keep, vocabulary) of the last ones.

        Raises:
            RuntimeError: llama.cpp refuses the call, or the model has no logits.
        """
        count, start = len(tokens), self.lengths[sequence]
        batch = llama_cpp.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for i, token in enumerate(tokens):
                batch.token[i], batch.pos[i] = token, start + i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
                batch.logits[i] = i >= count - keep
            status = llama_cpp.llama_decode(self._context, batch)
        finally:
            llama_cpp.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama_decode failed with status {status}")
        self.fed += count
        self.lengths[sequence] = start + count
        logits = np.empty((keep, self._size), dtype=np.float32)
        for at in range(keep):
            pointer = llama_cpp.llama_get_logits_ith(self._context, count - keep + at)
            if not pointer:
                raise RuntimeError("the model gives no logits; use a causal language model")
            logits[at] = np.ctypeslib.as_array(pointer, (self._size,))
        return logits

    def copy(self, source: int, target: int) -> None:
        """Make an empty sequence a copy of another one."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self.lengths[target] = self.lengths[source]

    def keep(self, sequence: int) -> Kept:
        """What a sequence holds, for another context of the same model and number of sequences."""
        size = int(llama_cpp.llama_state_seq_get_size(self._context, sequence))
        buffer = (ctypes.c_uint8 * size)()
        if llama_cpp.llama_state_seq_get_data(self._context, buffer, size, sequence) != size:
            raise RuntimeError(f"llama.cpp did not hand out the {size} bytes of a sequence")
        return Kept(buffer, self.lengths[sequence])

    def restore(self, sequence: int, kept: Kept) -> None:
        """Fill an empty sequence with what another one held.

        Raises:
            RuntimeError: llama.cpp refuses, as it does for another number of sequences.
        """
        size = len(kept.data)
        if llama_cpp.llama_state_seq_set_data(self._context, kept.data, size, sequence) != size:
            raise RuntimeError(f"llama.cpp did not take the {size} bytes of a sequence")
        self.lengths[sequence] = kept.length

    def cut(self, sequence: int, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        if length < self.lengths[sequence]:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)
            self.lengths[sequence] = length
