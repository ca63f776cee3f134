"""When rows may share a call: only where a row's numbers are the same bits in any company.

Which rows share a call, and in which slot a row stands, depends on the other passages; the shape of
the call does not. Kernels choose their way by shape, so that what is left to exclude is that slots
are treated differently or mixed. Three things have to hold, else every row gets calls of its own:

1. The model does not mix rows by design (:func:`batchable`).
2. On a CPU no slot gets the odd end of a loop over all rows, which is computed with other
   instructions (:func:`aligned`).
3. Tried out once for each shape, rows have the same bits in every slot, among copies of themselves
   and among others, and agree with calls of their own (:class:`SlotCheck`). The rows tried out are
   made of the prompt's own words: no passage has a part in the verdict.

Calls of one row need none of this, and are the safe choice; but a step for ten rows then takes 3.5
times as long (195 ms instead of 56 ms, 39 million parameters, one thread of a Xeon with AVX-512).
Trying out a shape costs half of what reading ten prompts does, once.
"""

from __future__ import annotations

import functools
import itertools
import threading
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_components.models.transformers_cache import Pairs, Prompt
from robust_components.models.transformers_calls import Calls, CausalCalls, ReadShape
from robust_components.models.transformers_rows import RowGroup, Shape

SLOTS = 16
"""Rows of a decoding call, in general; they fill registers and tiles."""

STRIDE = 128
"""Elements that a vectorised loop takes at once, at most."""

GRAIN = 32768
"""Elements from which on torch splits most loops among its threads on a CPU."""

SMALL = 4096
"""Loops over fewer elements it never splits."""

ROWS_TRIED = ((16, 0), (11, 5), (7, 2), (3, 9))
"""Length of each row tried out, and where in the sample it begins."""

Probabilities = Callable[[Sequence[Tensor]], NDArray[np.float64]]
Numbers = tuple[NDArray[np.float64], NDArray[np.float64]]
"""A row's probabilities, and its keys and values."""


def batchable(model: Any) -> bool:
    """Whether rows of the model can share a call at all.

    Not so for mixtures of experts (tokens are sorted by expert across rows), quantised models
    (scales may be shared by a call), and attention kernels that pack rows by their length.
    """
    config = model.config
    kinds = (f"{name} {type(module).__name__}".lower() for name, module in model.named_modules())
    return not (
        any("expert" in kind or "moe" in kind for kind in kinds)
        or getattr(config, "quantization_config", None) is not None
        or config._attn_implementation not in ("sdpa", "eager")
    )


def widths_of(model: Any) -> frozenset[int]:
    """Widths of a row's values inside the model, its vocabulary apart."""
    vocabulary = {int(model.config.get_text_config().vocab_size)}
    if (embeddings := model.get_input_embeddings()) is not None:
        vocabulary.add(int(embeddings.weight.shape[0]))
    shapes = (
        parameter.shape
        for module in model.modules()
        if not isinstance(module, torch.nn.Embedding)
        for parameter in module.parameters(recurse=False)
        if parameter.ndim == 2
    )
    return frozenset(int(size) for shape in shapes for size in shape) - vocabulary


def aligned(width: int, slots: int, threads: int) -> bool:
    """Whether a loop over ``slots`` rows of ``width`` values leaves no odd end to any slot.

    Such an end is computed one by one, and for exponentials and the like with another last bit.
    """
    size = slots * width
    parts = {1, min(threads, -(-size // GRAIN)), threads if size > SMALL else 1}
    return all(-(-size // part) % STRIDE == 0 for part in parts)


def default_slots(model: Any) -> int:
    """Rows of a decoding call where nothing else is asked for: 1, or 16 and up to 32.

    On a CPU more than 16 where only that is :func:`aligned` for the number of threads.
    """
    if not batchable(model):
        return 1
    if model.device.type != "cpu":
        return SLOTS
    widths, threads = widths_of(model), torch.get_num_threads()
    for slots in range(SLOTS, 2 * SLOTS + 1):
        if all(aligned(width, slots, threads) for width in widths):
            return slots
    return SLOTS


class SlotCheck:
    """Tries out shapes of calls.

    Args:
        calls: the model.
        probabilities: rows of logits to probabilities.
        words: tokens the rows tried out are made of, at least one.
        longest: tokens a prompt may have, or ``None`` for no limit.
        widths: for :func:`aligned`.
        exact: whether the model computes in at least 32 bits.
        name: the model's name, for a warning.

    Attributes:
        fed: tokens fed for checks so far.
    """

    def __init__(
        self,
        calls: Calls,
        probabilities: Probabilities,
        *,
        words: Sequence[int],
        longest: int | None,
        widths: Iterable[int],
        exact: bool,
        name: str,
    ) -> None:
        self._calls = calls
        self._probabilities = probabilities
        self._words = tuple(words)
        self._longest = longest
        self._widths = tuple(widths)
        self._tolerance = 1e-3 if exact else 0.25
        self._name = name
        self._known: dict[Hashable, bool] = {}
        self._lock = threading.Lock()
        self.fed = 0

    def decodes(self, shape: Shape, room: int) -> bool:
        """Whether decoding calls of this shape treat every slot alike and agree with lone rows."""

        def answer(chosen: Sequence[int], alone: bool) -> list[Numbers]:
            prompts = [self._prompts[at] for at in chosen]
            size = Shape.of(prompts[0], 1) if alone else shape
            group = RowGroup(self._calls, prompts, size, room=room, kept=1)
            logits = group.logits((self._words[-1],))
            self.fed += size.slots
            shares = self._probabilities(tuple(logits[: len(chosen)]))
            return [
                (shares[slot], _flat(pair[slot] for layer in group.newest for pair in layer))
                for slot in range(len(chosen))
            ]

        return self._verdict(shape, (room,), shape.slots, shape.slots, answer)

    def reads(self, shape: ReadShape, shared: Pairs, forced: tuple[int, ...]) -> bool:
        """The same for calls that read several prompts."""
        calls = self._calls
        if not isinstance(calls, CausalCalls):
            return False

        def answer(chosen: Sequence[int], alone: bool) -> list[Numbers]:
            rows = [self._samples[at] for at in chosen]
            if alone:
                prefix = (0,) * shape.before  # already read
                read = [calls.read(shared, prefix, row, forced)[:2] for row in rows]
                self.fed += sum(len(row) + len(forced) for row in rows)
            else:
                read = calls.read_together(shared, rows, forced, shape)
                self.fed += shape.slots * shape.width
            return [
                (
                    self._probabilities(tuple(logits)).ravel(),
                    _flat(pair for layer in prompt.pairs for pair in layer),
                )
                for prompt, logits in read
            ]

        rows = shape.slots * shape.width
        return self._verdict(shape, forced, shape.slots, rows, answer)

    @functools.cached_property
    def _samples(self) -> list[tuple[int, ...]]:
        longest = max(ROWS_TRIED)[0] if self._longest is None else self._longest
        return [
            tuple(itertools.islice(itertools.cycle(self._words), at, at + min(length, longest)))
            for length, at in ROWS_TRIED
        ]

    @functools.cached_property
    def _prompts(self) -> list[Prompt]:
        read = [self._calls.read([], (), sample, ()) for sample in self._samples]
        self.fed += sum(fed for _, _, fed in read)
        return [prompt for prompt, _, _ in read]

    def _verdict(
        self,
        shape: Shape | ReadShape,
        rest: tuple[int, ...],
        slots: int,
        rows: int,
        answer: Callable[[Sequence[int], bool], list[Numbers]],
    ) -> bool:
        """A shape is tried out once for each number of threads; a warning says where it fails."""
        key = (shape, rest, torch.get_num_threads())
        with self._lock:
            if key not in self._known:
                problem = self._misaligned(rows) or self._tried(slots, answer)
                self._known[key] = problem is None
                if problem is not None:
                    warnings.warn(
                        f"{self._name}: rows are fed one a call, which is slower than {slots} at "
                        f"once, because {problem}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
            return self._known[key]

    def _misaligned(self, rows: int) -> str | None:
        threads = torch.get_num_threads()
        wrong = [width for width in self._widths if not aligned(width, rows, threads)]
        if self._calls.device.type != "cpu" or not wrong:
            return None
        return (
            f"{rows} times a width of {min(wrong)} leaves an odd end when computed by {threads} "
            "threads; torch.set_num_threads(1), 2 or 4 may help"
        )

    def _tried(
        self, slots: int, answer: Callable[[Sequence[int], bool], list[Numbers]]
    ) -> str | None:
        count = len(self._samples)
        try:
            mixed = answer([slot % count for slot in range(slots)], False)
            for at in range(count):
                ((alone, _),) = answer([at], True)
                alike = answer([at] * slots, False)
                for one in (*alike, *mixed[at::count]):
                    if not all(map(np.array_equal, one, alike[0])):
                        return "a row's numbers depend on its slot or on other rows"
                if not np.abs(alone - alike[0][0]).max() <= self._tolerance * alone.max():
                    return "a row's numbers are not those it has in a call of its own"
        except Exception as error:  # the model does not take masked rows
            return f"such a call raises {type(error).__name__}: {error}"[:300]
        return None


def _flat(parts: Iterable[Tensor]) -> NDArray[np.float64]:
    return np.concatenate([part.flatten().double().cpu().numpy() for part in parts])
