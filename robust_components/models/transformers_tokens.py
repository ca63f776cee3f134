"""Causal and encoder-decoder Hugging Face models as token models for secure decoding.

Isolation: one passage never changes another's numbers, not by a bit. Each prompt is read once,
behind the kept beginning that all prompts share: in a call of its own, or with others in a call of
a shape that follows from its own length. Answers are decoded in calls of such a shape, with masked
slots where rows are missing, or row by row where
:mod:`robust_components.models.transformers_isolation` finds that rows could change each other. The
bits are those of one machine with one number of threads.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.models.token_prompt import PromptTemplate, TokenPrompts
from robust_components.models.transformers_cache import Pairs, Prompt
from robust_components.models.transformers_calls import calls_for
from robust_components.models.transformers_isolation import (
    SlotCheck,
    batchable,
    default_slots,
    widths_of,
)
from robust_components.models.transformers_reading import PromptReader
from robust_components.models.transformers_rows import RowGroup, Shape
from robust_components.models.transformers_session import TransformersTokenSession
from robust_components.models.transformers_vocabulary import TransformersVocabulary

KEPT_BEGINNINGS = 2
"""Prompt beginnings whose keys and values are kept: with a passage and without."""

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


class TransformersTokenModel:
    """A :class:`~robust_components.models.protocols.TokenModel` over a Hugging Face model.

    One model may serve several threads; a session serves one.

    Args:
        model: a causal or encoder-decoder model, on its device and in its precision; it is set to
            evaluation.
        tokenizer: its fast tokenizer, which is copied; its chat template is used if it has one.
        template: the words of the prompt, as a :class:`PromptTemplate` or its fields.
        max_passage_tokens: longer passages are cut and flagged; at least 1.
        max_answer_tokens: longest prefix that can be asked for, at least 1.
        rows_per_call: slots of a decoding call, at least 1; a constant, since it must not depend on
            the passages. When ``None``, 16 (to 32, for an odd number of threads), and 1 for models
            whose rows cannot share a call.
        prompts_per_call: the same for calls that read prompts, each padded to 64, 96, 128, 192, ...
            tokens behind the shared beginning. When ``None``, 1 on a CPU, where a prompt of its own
            length costs less than padding, and ``rows_per_call`` elsewhere. On a CPU 5 pays for
            passages of one length.
        branch_tokens: tokens of answers whose keys and values are kept; evicted ones are computed
            again, with the same result.
        end_at_newline: whether a new line ends the answer; when ``None``, it does for causal
            models without a chat template.
        chat_options: variables for the chat template; ``{"enable_thinking": False}`` when ``None``.
        name: for certificates.
        fingerprint: identity of the weights; their SHA-256 when ``None``.

    Raises:
        ValueError: a limit out of range, a model that keeps a recurrent state or whose rows cannot
            share calls as wanted, a tokenizer that does not belong to the model or cannot write
            the abstention, or no end-of-sequence token.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        template: PromptTemplate | Mapping[str, Any] | None = None,
        max_passage_tokens: int = 512,
        max_answer_tokens: int = 64,
        rows_per_call: int | None = None,
        prompts_per_call: int | None = None,
        branch_tokens: int = 512,
        end_at_newline: bool | None = None,
        chat_options: Mapping[str, Any] | None = None,
        name: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        config = model.config
        if getattr(model, "_is_stateful", False):
            raise ValueError(
                f"model must have attention only, got {type(model).__name__}, which keeps a "
                "recurrent state that cannot be forked here; use another model"
            )
        self.rows_per_call = _slots(model, "rows_per_call", rows_per_call, default_slots(model))
        together = 1 if model.device.type == "cpu" else self.rows_per_call
        self.prompts_per_call = _slots(model, "prompts_per_call", prompts_per_call, together)
        self.branch_tokens = positive_integer("branch_tokens", branch_tokens)
        self.model = model.eval()
        self.is_encoder_decoder = bool(config.is_encoder_decoder)
        options = {"enable_thinking": False} if chat_options is None else chat_options
        self.vocabulary = TransformersVocabulary(tokenizer, options)
        self.vocabulary_size = int(model.get_input_embeddings().num_embeddings)
        self.vocabulary.check_fits(self.vocabulary_size)
        self.prompts = TokenPrompts(
            self.vocabulary,
            PromptTemplate.of(template),
            max_passage_tokens=max_passage_tokens,
            max_answer_tokens=max_answer_tokens,
            context=_context(config),
            separate_answer=self.is_encoder_decoder,
        )
        self.vocabulary.check_writable("abstention", self.prompts.abstention)
        ends = _ends(model, tokenizer)
        self.eos = ends[0]
        if end_at_newline is None:
            end_at_newline = not (self.is_encoder_decoder or tokenizer.chat_template)
        newline = self.vocabulary.starting_with_newline() if end_at_newline else frozenset()
        self.other_ends = sorted(({*ends} | newline) - {self.eos})
        self.name = name or str(getattr(config, "name_or_path", "") or type(model).__name__)
        self._fingerprint = fingerprint
        self._calls = calls_for(model)
        self._check = SlotCheck(
            self._calls,
            self.probabilities,
            words=self.prompts.sample,
            longest=self.prompts.longest,
            widths=widths_of(model),
            exact=model.dtype in (torch.float32, torch.float64),
            name=self.name,
        )
        self.reader = PromptReader(self._calls, self._check, self.prompts_per_call)
        self._beginnings: OrderedDict[tuple[int, ...], Pairs] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls, id_or_path: str | Path, *, device: str = "cpu", dtype: str = "auto", **options: Any
    ) -> TransformersTokenModel:
        """Load a model and its tokenizer.

        Args:
            id_or_path: a folder or a name on the Hugging Face hub.
            device: a torch device, such as "cpu" or "cuda:0".
            dtype: "float32", "bfloat16", "float16", "float64", or "auto" for that of the weights.
            options: for the constructor.

        Raises:
            OSError: there is no such folder or name.
            ValueError: the device is not there, or the precision unknown.
        """
        from transformers import (
            AutoConfig,
            AutoModelForCausalLM,
            AutoModelForSeq2SeqLM,
            AutoTokenizer,
        )

        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}; choose one")
        place = _device(device)
        config = AutoConfig.from_pretrained(id_or_path)
        kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(id_or_path, dtype=dtype).to(place)
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

    @property
    def check_rows(self) -> int:
        """Tokens fed so far to try out shapes of calls, each once."""
        return self._check.fed

    def open(self, query: str, passages: Sequence[str]) -> TransformersTokenSession:
        """Read every passage with the question.

        Raises:
            ValueError: the question does not fit into the model's context.
        """
        return TransformersTokenSession(self, query, passages)

    def forget(self) -> None:
        """Drop the kept prompt beginnings."""
        with self._lock:
            self._beginnings.clear()

    def shared(self, tokens: tuple[int, ...]) -> tuple[Pairs, int]:
        """Keys and values of a prompt's beginning, and tokens fed for them; two are kept."""
        with self._lock:
            fed = 0
            if tokens not in self._beginnings:
                self._beginnings[tokens] = self._calls.begin(tokens)
                fed = len(tokens) if self._beginnings[tokens] else 0
            self._beginnings.move_to_end(tokens)
            while len(self._beginnings) > KEPT_BEGINNINGS:
                self._beginnings.popitem(last=False)
            return self._beginnings[tokens], fed

    def shape_of(self, prompt: Prompt) -> Shape:
        """The shape of the decoding calls of a prompt, which follows from its own length."""
        shape = Shape.of(prompt, self.rows_per_call)
        if shape.slots > 1 and not self._check.decodes(shape, self.prompts.max_answer_tokens):
            return Shape.of(prompt, 1)
        return shape

    def group(self, prompts: Sequence[Prompt], shape: Shape) -> RowGroup:
        """Prompts of one shape, to be decoded together."""
        room = self.prompts.max_answer_tokens
        return RowGroup(self._calls, prompts, shape, room=room, kept=self.branch_tokens)

    def probabilities(self, rows: Sequence[torch.Tensor]) -> NDArray[Any]:
        """Float64 (rows, vocabulary): the softmax of each row's logits, computed by itself.

        All ends of an answer are under one token.
        """
        found: NDArray[Any] = torch.stack([self._shares(row) for row in rows]).cpu().numpy()
        return found

    def _shares(self, logits: torch.Tensor) -> torch.Tensor:
        if logits.device.type == "mps":  # has no float64
            logits = logits.cpu()
        shares = torch.softmax(logits.double(), dim=-1)
        if self.other_ends:
            shares[self.eos] += shares[self.other_ends].sum()
            shares[self.other_ends] = 0.0
        return shares


def _slots(model: Any, name: str, wanted: int | None, default: int) -> int:
    slots = default if wanted is None else positive_integer(name, wanted)
    if slots > 1 and not batchable(model):
        raise ValueError(
            f"{name} must be 1 for {type(model).__name__}, got {slots}: its rows could change each "
            "other in one call; leave it out"
        )
    return slots


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"device must be a torch device, got {name!r}; pass 'cpu' or 'cuda'"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device must be there, got {name!r}, but torch finds no CUDA device; pass 'cpu'"
        )
    return device


def _context(config: Any) -> int | None:
    """Tokens the model can read; ``None`` for models without a limit (relative positions)."""
    config = config.get_text_config()
    if config.model_type in ("t5", "mt5", "umt5"):
        return None
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """End-of-sequence tokens, the tokenizer's first."""
    given = getattr(model.generation_config, "eos_token_id", None)
    listed = given if isinstance(given, list) else [given]
    ends = [end for end in (tokenizer.eos_token_id, *listed) if end is not None]
    if not ends:
        raise ValueError(
            "the model must have an end-of-sequence token, got none; set tokenizer.eos_token"
        )
    return list(dict.fromkeys(ends))
