"""Three ways to answer from passages with one model, and how many tokens each feeds.

* vanilla: all passages in one prompt, greedy decoding with a cache;
* published: secure decoding as published (Xiang et al. 2024), written anew in the plain way. The
  abstention check, decoding and certification each read all k + 1 prompts, the last one without
  passage, in a padded batch; decoding keeps a cache within a phase. Unlike the published code it
  computes no more logits than it needs.
* ours: the package.

All take the same tokens for instructions, passages and question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from robust_components.models.transformers_tokens import TransformersTokenModel
from robust_components.rag.decoding import IsolatedSources, decode
from robust_components.rag.decoding_step import DecodingSettings
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.scenarios import PassageList

GAMMA = "1"
"""No passage abstains: every way decodes with all of them."""


@dataclass
class Answer:
    """Tokens emitted, and the largest certified budget where one was computed."""

    tokens: tuple[int, ...]
    certified: int | None = None


@dataclass
class Fed:
    """Token-rows fed to a model: rows times tokens of each call, padding included."""

    rows: int = 0
    calls: list[tuple[int, ...]] = field(default_factory=list)


@contextmanager
def counting(model: Any) -> Iterator[Fed]:
    """Count what ``model`` is fed."""
    fed = Fed()

    def note(_: Any, arguments: Any, named: dict[str, Any]) -> None:
        tokens = named["input_ids"] if "input_ids" in named else arguments[0]
        fed.rows += tokens.numel()
        fed.calls.append(tuple(tokens.shape))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield fed
    finally:
        handle.remove()


@torch.inference_mode()
def vanilla(
    tokens: TransformersTokenModel, query: str, passages: Sequence[str], steps: int
) -> Answer:
    prompt = tokens.prompts.question(query)
    read = [t for text in passages for t in tokens.prompts.passage(text, prompt.room)[0]]
    row = torch.tensor([[*prompt.prefix, *read, *prompt.suffix]], device=tokens.model.device)
    cache, emitted = DynamicCache(), []
    while True:
        output = tokens.model(row, past_key_values=cache, use_cache=True, logits_to_keep=1)
        emitted.append(int(output.logits[0, -1].argmax()))
        if len(emitted) == steps:
            return Answer(tuple(emitted))
        row = torch.tensor([[emitted[-1]]], device=row.device)


def prompts_of(
    tokens: TransformersTokenModel, query: str, passages: Sequence[str]
) -> list[tuple[int, ...]]:
    """One prompt a passage, and the one without."""
    prompt = tokens.prompts.question(query)
    alone = tokens.prompts.question(query, with_passage=False)
    read = [tokens.prompts.passage(text, prompt.room)[0] for text in passages]
    listed = [(*prompt.prefix, *passage, *prompt.suffix) for passage in read]
    return [*listed, (*alone.prefix, *alone.suffix)]


@dataclass
class _Batch:
    """Prompts side by side, padded on the left, with their cache."""

    model: Any
    mask: Tensor
    cache: DynamicCache

    @classmethod
    def of(
        cls, model: Any, prompts: Sequence[tuple[int, ...]], keep: int = 1
    ) -> tuple[_Batch, Tensor]:
        """The batch, and float32 logits (prompts, keep, vocabulary) of its last tokens."""
        width, device = max(map(len, prompts)), model.device
        rows = torch.zeros((len(prompts), width), dtype=torch.long, device=device)
        mask = torch.zeros_like(rows)
        for at, prompt in enumerate(prompts):
            rows[at, width - len(prompt) :] = torch.tensor(prompt, device=device)
            mask[at, width - len(prompt) :] = 1
        batch = cls(model, mask, DynamicCache())
        return batch, batch._call(rows, (mask.cumsum(dim=1) - 1).clamp(min=0), keep)

    def step(self, token: int) -> Tensor:
        """Float32 logits (prompts, vocabulary) after one token more in every row."""
        positions = self.mask.sum(dim=1, keepdim=True)
        self.mask = torch.cat([self.mask, self.mask.new_ones((len(self.mask), 1))], dim=1)
        return self._call(torch.full_like(positions, token), positions, 1)[:, -1]

    def _call(self, rows: Tensor, positions: Tensor, keep: int) -> Tensor:
        logits: Tensor = self.model(
            input_ids=rows,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits
        return logits.float()


@torch.inference_mode()
def published(
    tokens: TransformersTokenModel,
    query: str,
    passages: Sequence[str],
    steps: int,
    *,
    certificate: bool,
    corruption_size: int = 1,
) -> Answer:
    """For eta = 0; the certificate is the published one against modification."""
    prompts = prompts_of(tokens, query, passages)
    kept = [prompts[at] for at in _responding(tokens, query, prompts)]
    kept.append(prompts[-1])
    emitted, _ = _decode(tokens.model, kept, steps)
    if not certificate:
        return Answer(emitted)
    again, gaps = _decode(tokens.model, kept, steps)
    if again != emitted:
        raise RuntimeError(f"certification took another path: {again} instead of {emitted}")
    return Answer(emitted, corruption_size * (min(gaps) > 2 * corruption_size))


def _responding(
    tokens: TransformersTokenModel, query: str, prompts: Sequence[tuple[int, ...]]
) -> list[int]:
    """Prompts with a passage after which "I don't know" is less probable than gamma."""
    abstention = tokens.prompts.question(query).abstention
    written = [(*prompt, *abstention) for prompt in prompts]
    _, logits = _Batch.of(tokens.model, written, keep=len(abstention) + 1)
    shares = torch.softmax(logits[:-1, :-1].double(), dim=-1)
    forced = shares[:, torch.arange(len(abstention)), list(abstention)].prod(dim=1)
    return [at for at, value in enumerate(forced.tolist()) if value < float(GAMMA)]


def _decode(
    model: Any, prompts: Sequence[tuple[int, ...]], steps: int
) -> tuple[tuple[int, ...], list[float]]:
    """The leading token of the summed distributions, step by step, and its lead."""
    emitted: list[int] = []
    gaps: list[float] = []
    batch, first = _Batch.of(model, prompts)
    logits = first[:, -1]
    while True:
        sums = torch.softmax(logits[:-1].double(), dim=-1).sum(dim=0)
        leading = sums.topk(2)
        emitted.append(int(leading.indices[0]))
        gaps.append(float(leading.values[0] - leading.values[1]))
        if len(emitted) == steps:
            return tuple(emitted), gaps
        logits = batch.step(emitted[-1])


def ours(
    tokens: TransformersTokenModel,
    query: str,
    passages: Sequence[str],
    steps: int,
    *,
    certificate: bool,
) -> Answer:
    """The component as it is used, or decoding alone."""
    if certificate:
        generator = RobustRAGGenerator(tokens, "decoding", gamma=GAMMA, max_tokens=steps)
        result = generator.run(query, passages)
        emitted = tokens.vocabulary.encode(result.answer, markup=False)
        return Answer(tuple(emitted), result.certificate.radius)
    session = tokens.open(query, passages)
    try:
        listed = PassageList(
            tuple(map(str, range(len(passages)))), (False,) * len(passages), len(passages)
        )
        settings = DecodingSettings(gamma=GAMMA, max_tokens=steps)
        return Answer(decode(IsolatedSources(session, listed, settings)).tokens)
    finally:
        session.close()
