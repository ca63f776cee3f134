"""One question with its passages, read by a Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from robust_components.models.token_prompt import QuestionPrompt
from robust_components.models.transformers_cache import Prompt
from robust_components.models.transformers_reading import Read, Tokens
from robust_components.models.transformers_rows import RowGroup, Shape

if TYPE_CHECKING:
    from robust_components.models.transformers_tokens import TransformersTokenModel

NOT_FINITE = "the model's logits are not finite"


class TransformersTokenSession:
    """A :class:`~robust_components.models.protocols.TokenSession`; made by ``open``.

    Every prompt is read once. ``abstention`` is Pr["I don't know" | prompt],
    the product of the probabilities of its tokens one after the other; 0 for a row that failed.
    A row fails, and alone, when its call raises or a logit is not finite.

    Attributes:
        token_rows: tokens of prompts and answers fed to the model so far, for all rows asked for.
        padding_rows: tokens fed to slots without such a row.
    """

    def __init__(self, model: TransformersTokenModel, query: str, passages: Sequence[str]) -> None:
        self._model = model
        self._query = query
        self._open = True
        self._no_passage: tuple[RowGroup, torch.Tensor] | None = None
        self.eos = model.eos
        self.truncated = [False] * len(passages)
        self.failures: list[str | None] = [None] * len(passages)
        self.abstention = np.zeros(len(passages), dtype=np.float64)
        self.padding_rows = 0
        question = model.prompts.question(query)
        shared, self.token_rows = model.shared(question.prefix)
        self._first: dict[int, NDArray[np.float64]] = {}
        self._unplaced: dict[int, Prompt] = {}
        self._groups: list[tuple[RowGroup, Mapping[int, int]]] = []
        tokens = self._tokens(passages, question)
        padding = 0.0
        for row, read in model.reader.read(question, shared, tokens).items():
            if isinstance(read, Exception):
                self._fail(row, read)
            else:
                padding += read.padding
                self._keep(row, read, question)
        self.padding_rows = round(padding)

    def _tokens(self, passages: Sequence[str], question: QuestionPrompt) -> dict[int, Tokens]:
        prompts, found = self._model.prompts, {}
        for row, passage in enumerate(passages):
            try:
                found[row], self.truncated[row] = prompts.passage(passage, question.room)
            except Exception as error:
                self._fail(row, error)
        return found

    def _fail(self, row: int, error: Exception) -> None:
        """Counts as hostile, and the other rows go on."""
        self.failures[row] = f"{type(error).__name__}: {error}"[:200]

    def _keep(self, row: int, read: Read, question: QuestionPrompt) -> None:
        self.token_rows += read.fed
        shares = self._model.probabilities(tuple(read.logits))
        if not np.isfinite(shares).all():
            self.failures[row] = NOT_FINITE
            return
        forced = shares[np.arange(len(shares)), list(question.abstention)]
        self.abstention[row] = float(np.prod(forced))
        self._first[row] = shares[0]
        self._unplaced[row] = read.prompt

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        """Float64 (len(rows), vocabulary); NaN in the rows that failed.

        Raises:
            ValueError: the prefix is longer than ``max_answer_tokens``.
            RuntimeError: the session is closed.
        """
        self._check_open()
        found = self._first
        if prefix:
            found = {}
            self._place(rows)
            for group, slots in self._groups:
                wanted = [row for row in rows if row in slots]
                if wanted:
                    found.update(self._step(group, slots, prefix, wanted))
        size = max((len(shares) for shares in found.values()), default=self._model.vocabulary_size)
        result = np.full((len(rows), size), np.nan, dtype=np.float64)
        for at, row in enumerate(rows):
            if row in found and self.failures[row] is None:
                result[at] = found[row]
        return result

    def _place(self, rows: Sequence[int]) -> None:
        """Put rows that are asked for the first time into groups, by the shape of each."""
        shapes: dict[Shape, dict[int, Prompt]] = {}
        for row in dict.fromkeys(rows):
            prompt = self._unplaced.pop(row, None)
            if prompt is not None:
                shapes.setdefault(self._model.shape_of(prompt), {})[row] = prompt
        for shape, prompts in shapes.items():
            members = list(prompts)
            for start in range(0, len(members), shape.slots):
                chosen = members[start : start + shape.slots]
                group = self._model.group([prompts[row] for row in chosen], shape)
                self._groups.append((group, {row: slot for slot, row in enumerate(chosen)}))

    def _step(
        self,
        group: RowGroup,
        slots: Mapping[int, int],
        prefix: tuple[int, ...],
        wanted: Sequence[int],
    ) -> dict[int, NDArray[np.float64]]:
        before = group.fed
        logits = group.logits(prefix)
        self.token_rows += (group.fed - before) * len(wanted)
        self.padding_rows += (group.fed - before) * (group.slots - len(wanted))
        shares = self._model.probabilities([logits[slots[row]] for row in wanted])
        for row, finite in zip(wanted, np.isfinite(shares).all(axis=1), strict=True):
            if not finite:
                self.failures[row] = self.failures[row] or NOT_FINITE
        return dict(zip(wanted, shares, strict=True))

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        """Greedy next token of the same model, asked the same without a passage.

        Raises:
            RuntimeError: the model's logits are not finite, or the session is closed.
        """
        self._check_open()
        if self._no_passage is None:
            model = self._model
            question = model.prompts.question(self._query, with_passage=False)
            shared, fed = model.shared(question.prefix)
            read = model.reader.read_one(question, shared, ())
            self.token_rows += fed + read.fed
            group = model.group([read.prompt], Shape.of(read.prompt, 1))
            self._no_passage = group, read.logits[0]
        group, logits = self._no_passage
        if prefix:
            before = group.fed
            logits = group.logits(prefix)[0]
            self.token_rows += group.fed - before
        (shares,) = self._model.probabilities([logits])
        if not np.isfinite(shares).all():
            raise RuntimeError(f"without a passage {NOT_FINITE}; use another precision or model")
        return int(shares.argmax())

    def token_text(self, token: int) -> str:
        return self._model.vocabulary.name(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self._model.vocabulary.text(tokens)

    def close(self) -> None:
        """Release keys and values; the session cannot be asked any more."""
        self._open, self._no_passage = False, None
        self._groups, self._unplaced = [], {}

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("the session is closed; open another one on the model")
