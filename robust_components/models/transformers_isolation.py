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
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robust_components.models.transformers_cache import Prompt
from robust_components.models.transformers_calls import Calls
from robust_components.models.transformers_rows import RowGroup, Shape

SLOTS = 16
"""Slots come in multiples of this: as many rows as fill a vector register or a tile."""

STRIDE = 128
"""Elements that a vectorised loop takes at once, at most."""

GRAIN = 32768
"""Elements from which on torch splits a loop among its threads on a CPU."""

ROWS_TRIED = ((16, 0), (11, 5), (7, 2), (3, 9))
"""Length of each row tried out, and where in the sample it begins."""

Probabilities = Callable[[Tensor], NDArray[np.float64]]


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
    parts = {1, threads, min(threads, -(-size // GRAIN))}
    return all(-(-size // part) % STRIDE == 0 for part in parts)


class SlotCheck:
    """Tries out shapes of calls.

    Args:
        calls: the model.
        probabilities: logits (rows, vocabulary) to probabilities.
        vocabulary: number of tokens.
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
        vocabulary: int,
        words: Sequence[int],
        longest: int | None,
        widths: Iterable[int],
        exact: bool,
        name: str,
    ) -> None:
        self._calls = calls
        self._probabilities = probabilities
        self._vocabulary = vocabulary
        self._words = tuple(words)
        self._longest = longest
        self._widths = tuple(widths)
        self._tolerance = 1e-3 if exact else 0.25
        self._name = name
        self._known: dict[tuple[Shape, int, int], bool] = {}
        self._lock = threading.Lock()
        self.fed = 0

    def holds(self, shape: Shape, room: int) -> bool:
        """Whether calls of this shape treat every slot alike and agree with calls of one row.

        A shape is tried out once for each number of threads; a warning says where it fails.
        """
        key = (shape, room, torch.get_num_threads())
        with self._lock:
            if key not in self._known:
                problem = self._misaligned(shape) or self._tried(shape, room)
                self._known[key] = problem is None
                if problem is not None:
                    warnings.warn(
                        f"{self._name}: answers are decoded one row a call, which is slower than "
                        f"{shape.slots} at once, because {problem}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
            return self._known[key]

    def _misaligned(self, shape: Shape) -> str | None:
        threads = torch.get_num_threads()
        wrong = [width for width in self._widths if not aligned(width, shape.slots, threads)]
        if self._calls.device.type != "cpu" or not wrong:
            return None
        return (
            f"{shape.slots} rows of width {min(wrong)} leave an odd end when computed by {threads} "
            "threads; torch.set_num_threads(1), 2 or 4 may help"
        )

    def _tried(self, shape: Shape, room: int) -> str | None:
        token, vocabulary = self._words[-1], self._vocabulary
        try:
            rows = [self._read(length, offset) for length, offset in ROWS_TRIED]
            mixed = self._after(
                [rows[slot % len(rows)] for slot in range(shape.slots)], shape, room, token
            )
            for at, row in enumerate(rows):
                alone = self._after([row], Shape.of(row, 1), room, token)[0]
                alike = self._after([row] * shape.slots, shape, room, token)
                if any(not np.array_equal(alike[0], one) for one in (*alike, *mixed[at::4])):
                    return "a row's numbers depend on its slot or on other rows"
                apart = np.abs(alone - alike[0])[:vocabulary].max()
                if not apart <= self._tolerance * alone[:vocabulary].max():
                    return "a row's numbers are not those it has in a call of its own"
        except Exception as error:  # the model does not take masked rows
            return f"such a call raises {type(error).__name__}: {error}"[:300]
        return None

    def _read(self, length: int, offset: int) -> Prompt:
        length = length if self._longest is None else min(length, self._longest)
        words = itertools.cycle(self._words)
        tokens = tuple(itertools.islice(words, offset, offset + length))
        prompt, _, fed = self._calls.read([], (), tokens, ())
        self.fed += fed
        return prompt

    def _after(
        self, prompts: Sequence[Prompt], shape: Shape, room: int, token: int
    ) -> NDArray[np.float64]:
        """For each slot the distribution after ``token``, then the token's keys and values."""
        group = RowGroup(self._calls, prompts, shape, room=room, kept=1)
        self.fed += shape.slots
        shares = self._probabilities(group.logits((token,)))
        inner = [part.flatten(1).double().cpu().numpy() for pair in group.newest for part in pair]
        return np.concatenate([shares, *inner], axis=1)
