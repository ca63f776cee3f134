"""Prompts of isolated passages, each read once: alone, or several in a call of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from robust_components.models.token_prompt import QuestionPrompt
from robust_components.models.transformers_cache import Pairs, Prompt
from robust_components.models.transformers_calls import Calls, CausalCalls, ReadShape
from robust_components.models.transformers_isolation import SlotCheck

WIDTHS = (64, 96)
"""Columns for what a prompt adds to the shared beginning: these, or twice, four times, ..."""

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """A prompt that was read, with "I don't know" forced after it.

    Attributes:
        prompt: without what was forced.
        logits: float32 (abstention tokens, vocabulary); the first row is that of the answer.
        fed: tokens fed for it.
        padding: tokens fed besides, its share of what the call was padded with.
    """

    prompt: Prompt
    logits: Tensor
    fed: int
    padding: float = 0.0


class PromptReader:
    """Reads prompts.

    Args:
        calls: the model.
        check: says which shapes keep rows apart.
        slots: prompts of a call; a constant, so that passages have no part in it.
    """

    def __init__(self, calls: Calls, check: SlotCheck, slots: int) -> None:
        self._calls = calls
        self._check = check
        self._slots = slots

    def read_one(self, question: QuestionPrompt, shared: Pairs, passage: Tokens) -> Read:
        """Read one prompt in a call of its own."""
        rest, forced = (*passage, *question.suffix), question.abstention[:-1]
        return Read(*self._calls.read(shared, question.prefix, rest, forced))

    def read(
        self, question: QuestionPrompt, shared: Pairs, passages: Mapping[int, Tokens]
    ) -> dict[int, Read | Exception]:
        """Read the prompt of every passage, by its row; one that raises does not stop the others.

        The shape of the call in which a prompt is read follows from its own length.
        """
        found: dict[int, Read | Exception] = {}
        shapes: dict[ReadShape, list[int]] = {}
        for row, passage in passages.items():
            shape = self._shape(question, shared, passage)
            if shape is None:
                found[row] = self._alone(question, shared, passage)
            else:
                shapes.setdefault(shape, []).append(row)
        for shape, rows in shapes.items():
            for start in range(0, len(rows), shape.slots):
                chosen = rows[start : start + shape.slots]
                found |= self._together(
                    question, shared, {row: passages[row] for row in chosen}, shape
                )
        return found

    def _shape(self, question: QuestionPrompt, shared: Pairs, passage: Tokens) -> ReadShape | None:
        forced = question.abstention[:-1]
        if self._slots == 1 or (question.prefix and not shared):
            return None
        length = len(passage) + len(question.suffix) + len(forced)
        shape = ReadShape(self._slots, len(question.prefix), _wide(length))
        return shape if self._check.reads(shape, shared, forced) else None

    def _alone(self, question: QuestionPrompt, shared: Pairs, passage: Tokens) -> Read | Exception:
        try:
            return self.read_one(question, shared, passage)
        except Exception as error:  # counts as hostile, and the other rows go on
            return error

    def _together(
        self,
        question: QuestionPrompt,
        shared: Pairs,
        passages: Mapping[int, Tokens],
        shape: ReadShape,
    ) -> dict[int, Read | Exception]:
        assert isinstance(self._calls, CausalCalls)
        forced = question.abstention[:-1]
        rests = [(*passage, *question.suffix) for passage in passages.values()]
        try:
            read = self._calls.read_together(shared, rests, forced, shape)
        except Exception as error:  # one shape, one fate: no memory for it, say
            return dict.fromkeys(passages, error)
        fed = [len(rest) + len(forced) for rest in rests]
        padding = (shape.slots * shape.width - sum(fed)) / len(fed)
        return {
            row: Read(prompt, logits, own, padding)
            for row, (prompt, logits), own in zip(passages, read, fed, strict=True)
        }


def _wide(length: int) -> int:
    """Columns that hold ``length`` tokens and leave one to mask."""
    scale = 1
    while True:
        for width in WIDTHS:
            if width * scale > length:
                return width * scale
        scale *= 2
