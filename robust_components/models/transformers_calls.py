"""How causal and encoder-decoder models are called: what they read, and one token more."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, EncoderDecoderCache

from robust_components.models.transformers_cache import (
    Pairs,
    Prompt,
    cache_from,
    cut,
    pairs_of,
)


@dataclass(frozen=True)
class Beside:
    """What an encoder made of some rows: keys and values, the states, and which columns count."""

    pairs: Pairs
    encoded: Tensor
    mask: Tensor


@dataclass(frozen=True)
class ReadShape:
    """The shape of a call that reads several prompts.

    Attributes:
        slots: prompts of a call.
        before: tokens of the shared beginning.
        width: columns for what each prompt adds, and for what is forced; one at least is masked.
    """

    slots: int
    before: int
    width: int


class Calls(Protocol):
    """A model as sessions call it.

    Attributes:
        device: where its inputs belong.
    """

    @property
    def device(self) -> torch.device: ...

    def begin(self, tokens: tuple[int, ...]) -> Pairs:
        """Keys and values of a beginning that many prompts share; none where it cannot be."""
        ...

    def read(
        self,
        shared: Pairs,
        prefix: tuple[int, ...],
        rest: tuple[int, ...],
        forced: tuple[int, ...],
    ) -> tuple[Prompt, Tensor, int]:
        """Read ``prefix + rest``, then ``forced`` as the beginning of an answer.

        Args:
            shared: what ``begin(prefix)`` gave.

        Returns:
            The prompt without what was forced; float32 logits (1 + len(forced), vocabulary), of the
            answer's first token and of what follows each forced one; the number of tokens fed.
        """
        ...

    def step(
        self, tokens: Tensor, cache: Cache, mask: Tensor, positions: Tensor, beside: Beside | None
    ) -> Tensor:
        """Float32 logits (rows, vocabulary) after one more token a row.

        Args:
            tokens: (rows, 1).
            cache: keys and values so far.
            mask: (rows, columns), which columns a row may see, its own new one included.
            positions: (rows, 1), the place of the token in its row.
            beside: what the encoder made of each row, for encoder-decoder models.
        """
        ...


class CausalCalls:
    """A decoder-only model. Arguments that its ``forward`` does not take are left out."""

    def __init__(self, model: Any) -> None:
        self._model = model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        taken = inspect.signature(inner.forward).parameters
        self._positions = "position_ids" in taken
        self._keeps = "logits_to_keep" in taken

    @property
    def device(self) -> torch.device:
        return torch.device(self._model.device)

    @torch.inference_mode()
    def begin(self, tokens: tuple[int, ...]) -> Pairs:
        if not tokens:
            return []
        cache = DynamicCache()
        self._feed(tokens, cache, before=0, keep=1)
        return pairs_of(cache)

    @torch.inference_mode()
    def read(
        self,
        shared: Pairs,
        prefix: tuple[int, ...],
        rest: tuple[int, ...],
        forced: tuple[int, ...],
    ) -> tuple[Prompt, Tensor, int]:
        before = len(prefix) if shared else 0
        tokens = (*rest, *forced) if shared else (*prefix, *rest, *forced)
        cache = cache_from(shared)
        logits = self._feed(tokens, cache, before=before, keep=1 + len(forced))
        length = before + len(tokens) - len(forced)
        return Prompt(cut(cache, 0, before, length), length, shared), logits[0], len(tokens)

    @torch.inference_mode()
    def read_together(
        self,
        shared: Pairs,
        rests: Sequence[tuple[int, ...]],
        forced: tuple[int, ...],
        shape: ReadShape,
    ) -> list[tuple[Prompt, Tensor]]:
        """:meth:`read` for some prompts in one call, each at the right end of a slot."""
        before, end = shape.before, shape.before + shape.width
        tokens = torch.zeros((shape.slots, shape.width), dtype=torch.long)
        positions = torch.zeros_like(tokens)
        mask = torch.zeros((shape.slots, end), dtype=torch.long)
        mask[:, :before] = 1
        mask[:, -1] = 1  # an empty slot looks at something
        starts = []
        for slot, rest in enumerate(rests):
            row = torch.tensor((*rest, *forced))
            tokens[slot, -len(row) :] = row
            positions[slot, -len(row) :] = torch.arange(before, before + len(row))
            mask[slot, -len(row) :] = 1
            starts.append(end - len(row))
        size = (shape.slots, -1, -1, -1)
        cache = cache_from([(keys.expand(size), values.expand(size)) for keys, values in shared])
        tokens, mask, positions = (part.to(self.device) for part in (tokens, mask, positions))
        logits = self._call(tokens, cache, mask, positions, keep=1 + len(forced))
        read = []
        for slot, (rest, start) in enumerate(zip(rests, starts, strict=True)):
            pairs = cut(cache, slot, start, end - len(forced))
            read.append((Prompt(pairs, before + len(rest), shared), logits[slot]))
        return read

    @torch.inference_mode()
    def step(
        self, tokens: Tensor, cache: Cache, mask: Tensor, positions: Tensor, beside: Beside | None
    ) -> Tensor:
        return self._call(tokens, cache, mask, positions, keep=1)[:, -1]

    def _feed(self, tokens: tuple[int, ...], cache: Cache, *, before: int, keep: int) -> Tensor:
        """One row, nothing of it masked."""
        end = before + len(tokens)
        return self._call(
            torch.tensor([tokens], device=self.device),
            cache,
            torch.ones((1, end), dtype=torch.long, device=self.device),
            torch.arange(before, end, device=self.device)[None],
            keep,
        )

    def _call(
        self, tokens: Tensor, cache: Cache, mask: Tensor, positions: Tensor, keep: int
    ) -> Tensor:
        options: dict[str, Any] = {"position_ids": positions} if self._positions else {}
        if self._keeps:
            options["logits_to_keep"] = keep
        output = self._model(
            input_ids=tokens, past_key_values=cache, attention_mask=mask, use_cache=True, **options
        )
        logits: Tensor = output.logits[:, -keep:].float()
        return logits


class SeqToSeqCalls:
    """An encoder-decoder model: the encoder reads the prompt, the decoder writes the answer.

    Every position of the encoder sees the passage, so that nothing of a prompt can be shared.

    Raises:
        ValueError: the model does not say which token its answers begin with.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._start = _start(model)

    @property
    def device(self) -> torch.device:
        return torch.device(self._model.device)

    def begin(self, tokens: tuple[int, ...]) -> Pairs:
        return []

    @torch.inference_mode()
    def read(
        self,
        shared: Pairs,
        prefix: tuple[int, ...],
        rest: tuple[int, ...],
        forced: tuple[int, ...],
    ) -> tuple[Prompt, Tensor, int]:
        tokens = torch.tensor([(*prefix, *rest)], device=self.device)
        encoded = self._model.get_encoder()(
            input_ids=tokens, attention_mask=torch.ones_like(tokens)
        ).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        written = torch.tensor([(self._start, *forced)], device=self.device)
        logits = self._call(written, cache, encoded, torch.ones_like(tokens))
        prompt = Prompt(cut(cache.self_attention_cache, 0, 0, 1), 1)
        prompt = replace(prompt, cross=pairs_of(cache.cross_attention_cache), encoded=encoded)
        return prompt, logits[0], tokens.shape[1] + written.shape[1]

    @torch.inference_mode()
    def step(
        self, tokens: Tensor, cache: Cache, mask: Tensor, positions: Tensor, beside: Beside | None
    ) -> Tensor:
        assert beside is not None
        both = EncoderDecoderCache(cache, cache_from(beside.pairs))
        return self._call(tokens, both, beside.encoded, beside.mask, mask)[:, -1]

    def _call(
        self,
        tokens: Tensor,
        cache: Cache,
        encoded: Tensor,
        encoded_mask: Tensor,
        mask: Tensor | None = None,
    ) -> Tensor:
        logits: Tensor = self._model(
            decoder_input_ids=tokens,
            encoder_outputs=(encoded,),
            attention_mask=encoded_mask,
            decoder_attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        ).logits
        return logits.float()


def calls_for(model: Any) -> Calls:
    """The calls of a model, by its ``config.is_encoder_decoder``."""
    return SeqToSeqCalls(model) if model.config.is_encoder_decoder else CausalCalls(model)


def _start(model: Any) -> int:
    """The token an encoder-decoder model's answers begin with."""
    for config in (model.generation_config, model.config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            value = getattr(config, name, None)
            if value is not None:
                return int(value)
    raise ValueError(
        "the model must say which token its answers begin with, got decoder_start_token_id None; "
        "set it in its generation_config"
    )
