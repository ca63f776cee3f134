"""Causal and encoder-decoder Hugging Face models as token models for secure decoding.

Isolation: one passage never changes another's numbers. Each prompt is read in a call of its own.
Answers are then decoded either row by row, or in batches of a fixed number of slots and a fixed
width in which a row's place depends on its rank alone; models whose rows interact inside a batch
are never batched (:func:`batchable`). On one machine with one number of threads the numbers of
a row are then bit for bit the same whatever the other passages hold.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, EncoderDecoderCache

from robust_components.models.token_prompt import PromptTemplate, QuestionPrompt, TokenPrompts
from robust_components.models.transformers_cache import (
    CausalCalls,
    Pairs,
    Prompt,
    RowGroup,
    cache_from,
    pairs_of,
)
from robust_components.models.transformers_vocabulary import TransformersVocabulary
from robust_components.threats import positive_integer

SLOTS = 16
"""Rows a decoding call has where rows can be batched."""

NOT_FINITE = "the model's logits are not finite"


def batchable(model: Any) -> bool:
    """Whether a row's numbers in a batch of fixed shape depend on that row alone.

    Not so for mixtures of experts (tokens are sorted by expert across rows), quantised models
    (scales may be shared by a batch), attention kernels that pack rows by their length, and
    encoder-decoder models, whose encoded passages differ in length.
    """
    config = model.config
    experts = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return not (
        config.is_encoder_decoder
        or any(getattr(config, name, None) for name in experts)
        or getattr(config, "quantization_config", None) is not None
        or config._attn_implementation not in ("sdpa", "eager")
    )


class TransformersTokenModel:
    """A :class:`~robust_components.models.protocols.TokenModel` over a Hugging Face model.

    Args:
        model: a causal or encoder-decoder model, on its device and in its precision.
        tokenizer: its fast tokenizer; its chat template is used if it has one.
        template: the words of the prompt.
        max_passage_tokens: longer passages are cut and flagged.
        max_answer_tokens: longest prefix that can be asked for.
        rows_per_call: slots of a decoding call, a constant; 16 where :func:`batchable`, else 1,
            when ``None``.
        branch_tokens: tokens of answers whose keys and values are kept; evicted ones are computed
            again, with the same result.
        end_at_newline: whether a new line ends the answer; when ``None``, it does for causal
            models without a chat template.
        chat_options: variables for the chat template; ``{"enable_thinking": False}`` when ``None``.
        name: for certificates.
        fingerprint: identity of the weights; their SHA-256 when ``None``.

    Raises:
        ValueError: a limit out of range, a model that cannot be isolated in batches of the wanted
            size or keeps a recurrent state, or no end-of-sequence token.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        template: PromptTemplate | None = None,
        max_passage_tokens: int = 512,
        max_answer_tokens: int = 64,
        rows_per_call: int | None = None,
        branch_tokens: int = 512,
        end_at_newline: bool | None = None,
        chat_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        config = model.config
        if getattr(model, "_is_stateful", False):
            raise ValueError(
                f"{type(model).__name__} keeps a recurrent state, which cannot be forked here; "
                "use a model with attention only"
            )
        limit = SLOTS if batchable(model) else 1
        wanted = limit if rows_per_call is None else rows_per_call
        self.rows_per_call = positive_integer("rows_per_call", wanted)
        if self.rows_per_call > 1 and limit == 1:
            raise ValueError(
                f"rows_per_call must be 1 for {type(model).__name__}, got {rows_per_call}: its "
                "rows could change each other in a batch; leave it out"
            )
        self.branch_tokens = positive_integer("branch_tokens", branch_tokens)
        self.model = model.eval()
        self.is_encoder_decoder = bool(config.is_encoder_decoder)
        options = {"enable_thinking": False} if chat_options is None else chat_options
        self.vocabulary = TransformersVocabulary(tokenizer, options)
        self.prompts = TokenPrompts(
            self.vocabulary,
            template or PromptTemplate(),
            max_passage_tokens=max_passage_tokens,
            max_answer_tokens=max_answer_tokens,
            context=_context(config),
            separate_answer=self.is_encoder_decoder,
        )
        ends = _ends(model, tokenizer)
        self.eos = ends[0]
        if end_at_newline is None:
            end_at_newline = not (self.is_encoder_decoder or tokenizer.chat_template)
        newline = self.vocabulary.starting_with_newline() if end_at_newline else frozenset()
        self.other_ends = sorted(({*ends} | newline) - {self.eos})
        self.vocabulary_size = int(config.get_text_config().vocab_size)
        self.name = name or str(getattr(config, "name_or_path", "") or type(model).__name__)
        self._fingerprint = fingerprint
        self._prefixes: OrderedDict[tuple[int, ...], Pairs] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls, id_or_path: str | Path, *, device: str = "cpu", dtype: str = "auto", **options: Any
    ) -> TransformersTokenModel:
        """Load a model and its tokenizer.

        Args:
            id_or_path: a folder or a name on the Hugging Face hub.
            device: a torch device.
            dtype: "float32", "bfloat16", ..., or "auto" for that of the weights.
            options: for the constructor.
        """
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
        )

        config = AutoConfig.from_pretrained(id_or_path)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(id_or_path, dtype=dtype).to(device)
        return cls(model, AutoTokenizer.from_pretrained(id_or_path), **options)

    @property
    def fingerprint(self) -> str:
        """Identity of the weights: their SHA-256 unless given, computed when first asked for."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for key, tensor in sorted(self.model.state_dict().items()):
                digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
                raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                digest.update(raw.numpy().data)
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    @fingerprint.setter
    def fingerprint(self, value: str) -> None:
        self._fingerprint = value

    def open(self, query: str, passages: Sequence[str]) -> TransformersTokenSession:
        """Read every passage with the question.

        Raises:
            ValueError: the question does not fit into the model's context.
        """
        return TransformersTokenSession(self, query, passages)

    def forget(self) -> None:
        """Drop the kept prompt beginnings."""
        self._prefixes.clear()

    @torch.inference_mode()
    def shared(self, tokens: tuple[int, ...]) -> tuple[Pairs, int]:
        """Keys and values of a prompt's beginning, and tokens fed for them; two are kept."""
        if not tokens or self.is_encoder_decoder:
            return [], 0
        if tokens in self._prefixes:
            self._prefixes.move_to_end(tokens)
            return self._prefixes[tokens], 0
        cache = DynamicCache()
        self._feed(tokens, cache, before=0, keep=1)
        self._prefixes[tokens] = pairs_of(cache)
        while len(self._prefixes) > 2:
            self._prefixes.popitem(last=False)
        return self._prefixes[tokens], len(tokens)

    @torch.inference_mode()
    def read(
        self, prompt: QuestionPrompt, shared: Pairs, passage: tuple[int, ...]
    ) -> tuple[Prompt, torch.Tensor, int]:
        """Read one prompt and force "I don't know" after it.

        Returns:
            The prompt; float32 logits (abstention tokens, vocabulary), the first of which is that
            of the answer; and the number of tokens fed.
        """
        forced = prompt.abstention[:-1]
        if self.is_encoder_decoder:
            return self._read_pair((*prompt.prefix, *passage, *prompt.suffix), forced)
        tokens = (*passage, *prompt.suffix, *forced)
        cache = cache_from(shared)
        before = len(prompt.prefix) if shared else 0
        logits = self._feed(tokens, cache, before=before, keep=1 + len(forced))
        length = before + len(tokens) - len(forced)
        return Prompt(pairs_of(cache, 0, length), length), logits[0], len(tokens)

    def _feed(self, tokens: tuple[int, ...], cache: Any, *, before: int, keep: int) -> torch.Tensor:
        device = self.model.device
        return CausalCalls(self.model)(
            torch.tensor([tokens], device=device),
            cache,
            torch.ones((1, before + len(tokens)), dtype=torch.long, device=device),
            torch.arange(before, before + len(tokens), device=device)[None],
            keep,
        )

    def _read_pair(
        self, tokens: tuple[int, ...], forced: tuple[int, ...]
    ) -> tuple[Prompt, torch.Tensor, int]:
        """The same for an encoder and a decoder, which begins with a start token."""
        device = self.model.device
        encoder = self.model.get_encoder()
        encoded = encoder(input_ids=torch.tensor([tokens], device=device)).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        output = self.model(
            decoder_input_ids=torch.tensor([(_start(self.model), *forced)], device=device),
            encoder_outputs=(encoded,),
            past_key_values=cache,
            use_cache=True,
        )
        prompt = Prompt(
            pairs_of(cache.self_attention_cache, 0, 1),
            1,
            pairs_of(cache.cross_attention_cache),
            encoded,
        )
        return prompt, output.logits[0].float(), len(tokens) + 1 + len(forced)

    def probabilities(self, logits: torch.Tensor) -> NDArray[np.float64]:
        """Float64 softmax over the last axis, all ends of an answer under one token."""
        if logits.device.type == "mps":  # has no float64
            logits = logits.cpu()
        shares = torch.softmax(logits.double(), dim=-1)
        if self.other_ends:
            shares[..., self.eos] += shares[..., self.other_ends].sum(dim=-1)
            shares[..., self.other_ends] = 0.0
        result: NDArray[np.float64] = shares.cpu().numpy()
        return result


class TransformersTokenSession:
    """A :class:`~robust_components.models.protocols.TokenSession`; made by ``open``.

    ``abstention`` is Pr["I don't know" | prompt], the product of the probabilities of its tokens
    one after the other; 0 for a row that failed.

    Attributes:
        token_rows: tokens of prompts and answers fed to the model so far.
        padding_rows: tokens fed to slots without a row that was asked for.
    """

    def __init__(self, model: TransformersTokenModel, query: str, passages: Sequence[str]) -> None:
        self._model = model
        self._query = query
        self._no_passage: tuple[RowGroup, torch.Tensor] | None = None
        self.eos = model.eos
        self.truncated = [False] * len(passages)
        self.failures: list[str | None] = [None] * len(passages)
        self.abstention = np.zeros(len(passages), dtype=np.float64)
        self.token_rows = self.padding_rows = 0
        question = model.prompts.question(query)
        shared, self.token_rows = model.shared(question.prefix)
        self._first: dict[int, NDArray[np.float64]] = {}
        prompts: dict[int, Prompt] = {}
        for row, passage in enumerate(passages):
            prompt = self._read(row, passage, question, shared)
            if prompt is not None:
                prompts[row] = prompt
        # One more column than any prompt can need, so that some column is masked in every slot.
        width = len(question.prefix) + question.room + len(question.suffix) + 1
        self._groups = self._grouped(prompts, width)

    def _read(
        self, row: int, passage: str, question: QuestionPrompt, shared: Pairs
    ) -> Prompt | None:
        model = self._model
        try:
            tokens, self.truncated[row] = model.prompts.passage(passage, question.room)
            prompt, logits, fed = model.read(question, shared, tokens)
        except Exception as error:  # counts as hostile, and the other rows go on
            self.failures[row] = f"{type(error).__name__}: {error}"[:200]
            return None
        self.token_rows += fed
        if not bool(torch.isfinite(logits).all()):
            self.failures[row] = NOT_FINITE
            return None
        shares = model.probabilities(logits)
        forced = shares[np.arange(len(shares)), list(question.abstention)]
        self.abstention[row] = float(np.prod(forced))
        self._first[row] = shares[0]
        return prompt

    def _grouped(self, prompts: Mapping[int, Prompt], width: int) -> list[tuple[int, RowGroup]]:
        """Rows of rank 0 to 15, 16 to 31, ..., each in the slot of its rank."""
        size, groups = self._model.rows_per_call, []
        for start in range(0, len(self.failures), size):
            members = {r - start: prompts[r] for r in range(start, start + size) if r in prompts}
            if members:
                groups.append((start, self._group(members, size, width)))
        return groups

    def _group(self, rows: Mapping[int, Prompt], slots: int, width: int) -> RowGroup:
        model = self._model
        return RowGroup(
            model.model,
            rows,
            slots=slots,
            width=width if slots > 1 else next(iter(rows.values())).length,
            room=model.prompts.max_answer_tokens,
            kept=model.branch_tokens,
        )

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        """Float64 (len(rows), vocabulary); NaN in the rows that failed.

        Raises:
            ValueError: the prefix is longer than ``max_answer_tokens``.
        """
        found = {} if prefix else self._first
        for start, group in self._groups if prefix else ():
            wanted = [row for row in rows if row - start in group.rows]
            if wanted:
                found.update(self._step(group, start, prefix, wanted))
        size = max((len(shares) for shares in found.values()), default=self._model.vocabulary_size)
        result = np.full((len(rows), size), np.nan, dtype=np.float64)
        for at, row in enumerate(rows):
            if row in found and self.failures[row] is None:
                result[at] = found[row]
        return result

    def _step(
        self, group: RowGroup, start: int, prefix: tuple[int, ...], wanted: Sequence[int]
    ) -> dict[int, NDArray[np.float64]]:
        before = group.fed
        logits = group.logits(prefix)
        self.token_rows += (group.fed - before) * len(wanted)
        self.padding_rows += (group.fed - before) * (len(logits) - len(wanted))
        finite = torch.isfinite(logits).all(dim=-1).tolist()
        shares = self._model.probabilities(logits)
        for row in wanted:
            if not finite[row - start]:
                self.failures[row] = self.failures[row] or NOT_FINITE
        return {row: shares[row - start] for row in wanted}

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        """Greedy next token of the same model, asked the same without a passage.

        Raises:
            RuntimeError: the model's logits are not finite.
        """
        if self._no_passage is None:
            model = self._model
            question = model.prompts.question(self._query, with_passage=False)
            shared, fed = model.shared(question.prefix)
            prompt, first, more = model.read(question, shared, ())
            self.token_rows += fed + more
            self._no_passage = self._group({0: prompt}, 1, 0), first[0]
        group, logits = self._no_passage
        if prefix:
            before = group.fed
            logits = group.logits(prefix)[0]
            self.token_rows += group.fed - before
        if not bool(torch.isfinite(logits).all()):
            raise RuntimeError(f"without a passage {NOT_FINITE}; use another precision or model")
        return int(self._model.probabilities(logits).argmax())

    def token_text(self, token: int) -> str:
        return self._model.vocabulary.name(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self._model.vocabulary.text(tokens)

    def close(self) -> None:
        """Release keys and values."""
        self._groups, self._no_passage = [], None


def _context(config: Any) -> int | None:
    """Tokens the model can read; ``None`` for models without a limit (relative positions)."""
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0 and config.model_type not in ("t5", "mt5", "umt5"):
            return value
    return None


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """End-of-sequence tokens, the tokenizer's first."""
    given = getattr(model.generation_config, "eos_token_id", None)
    listed = given if isinstance(given, list) else [given]
    ends = [end for end in (tokenizer.eos_token_id, *listed) if end is not None]
    if not ends:
        raise ValueError("the model has no end-of-sequence token; set tokenizer.eos_token")
    return list(dict.fromkeys(ends))


def _start(model: Any) -> int:
    """The token an encoder-decoder model's answers begin with."""
    for config in (model.generation_config, model.config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            value = getattr(config, name, None)
            if value is not None:
                return int(value)
    raise ValueError("the model has no decoder_start_token_id; set it in its generation_config")
