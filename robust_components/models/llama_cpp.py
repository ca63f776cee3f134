"""GGUF models as token models for secure decoding, run by llama.cpp.

Isolation: every passage has a sequence of its own, and one call to llama.cpp feeds one of them. A
row's numbers are bit for bit the same whatever the other passages hold, on one machine with one
build of llama.cpp; see :mod:`robust_components.models.llama_sequences`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.models.token_prompt import PromptTemplate, TokenPrompts

try:
    import llama_cpp

    from robust_components.models.llama_sequences import Kept, LlamaSequences
    from robust_components.models.llama_vocabulary import LlamaVocabulary, softmax
except ImportError as error:
    raise ImportError(
        "GGUF models need llama-cpp-python; install 'robust-components[llama-cpp]'"
    ) from error
if not hasattr(llama_cpp.llama_context_params, "kv_unified"):
    raise ImportError(
        f"llama-cpp-python {llama_cpp.__version__} shares one cache between passages; "
        "install 0.3.36 or later"
    )

KEPT_BEGINNINGS = 4
"""Prompt beginnings whose keys and values are kept."""
NOT_FINITE = "the model's logits are not finite"


class LlamaCppTokenModel:
    """A :class:`~robust_components.models.protocols.TokenModel` over a GGUF file.

    The file's own tokenizer and chat template are used.

    Args:
        path: a GGUF file of a model with a decoder and attention only.
        template: the words of the prompt, as a :class:`PromptTemplate` or its fields.
        max_passage_tokens: longer passages are cut and flagged; each sequence has room for one.
        max_answer_tokens: longest prefix that can be asked for.
        end_at_newline: whether a new line ends the answer; when ``None``, it does without a chat
            template.
        chat_options: variables for the chat template; ``{"enable_thinking": False}`` when ``None``.
        gpu_layers: layers that run on a GPU, if llama.cpp was built for one; -1 for all.
        threads: CPU threads; half the processors when ``None``.
        full_precision: keep keys and values in float32, without flash attention: twice the memory,
            and numbers close to those of transformers in float32.
        name: for certificates.
        fingerprint: identity of the weights; the file's SHA-256 when ``None``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: llama.cpp cannot read it, it is of another kind, or a limit is out of range.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        template: PromptTemplate | Mapping[str, Any] | None = None,
        max_passage_tokens: int = 512,
        max_answer_tokens: int = 64,
        end_at_newline: bool | None = None,
        chat_options: Mapping[str, Any] | None = None,
        gpu_layers: int = 0,
        threads: int | None = None,
        full_precision: bool = False,
        name: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.path = Path(path)
        if threads is None:
            threads = max(1, (os.cpu_count() or 2) // 2)
        self.threads = positive_integer("threads", threads)
        self.full_precision = bool(full_precision)
        self.pointer = _load(self.path, positive_integer("gpu_layers", gpu_layers, -1))
        self._free = weakref.finalize(self, llama_cpp.llama_model_free, self.pointer)
        options = {"enable_thinking": False} if chat_options is None else chat_options
        self.vocabulary = LlamaVocabulary(self.pointer, options)
        self.prompts = TokenPrompts(
            self.vocabulary,
            PromptTemplate.of(template),
            max_passage_tokens=max_passage_tokens,
            max_answer_tokens=max_answer_tokens,
            context=int(llama_cpp.llama_model_n_ctx_train(self.pointer)),
        )
        self.eos = self.vocabulary.eos
        if self.eos < 0:
            raise ValueError(f"{self.path} names no end-of-sequence token; convert it again")
        if end_at_newline is None:
            end_at_newline = not self.vocabulary.has_chat_template
        newline = self.vocabulary.starting_with_newline() if end_at_newline else frozenset()
        self.other_ends = sorted(({*self.vocabulary.ends} | newline) - {self.eos})
        self.name = name or self.path.name
        self._fingerprint = fingerprint
        self._beginnings: OrderedDict[tuple[int, tuple[int, ...]], Kept] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """Identity of the weights: the file's SHA-256 unless given, computed when first asked."""
        if self._fingerprint is None:
            with self.path.open("rb") as file:
                self._fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return self._fingerprint

    @fingerprint.setter
    def fingerprint(self, value: str) -> None:
        self._fingerprint = value

    def open(self, query: str, passages: Sequence[str]) -> LlamaCppTokenSession:
        """Read every passage with the question.

        Raises:
            ValueError: the question does not fit into the model's context, or there are too many
                passages.
            MemoryError: there is no room for the sequences.
            RuntimeError: llama.cpp cannot run the model.
        """
        return LlamaCppTokenSession(self, query, passages)

    def begin(self, sequences: LlamaSequences, sequence: int, tokens: tuple[int, ...]) -> None:
        """Put a prompt's beginning into an empty sequence; fed once for a number of sequences."""
        if not tokens:
            return
        key = (len(sequences.lengths), tokens)
        kept = self._beginnings.get(key)
        if kept is None:
            sequences.feed(sequence, tokens, 1)
            self._beginnings[key] = sequences.keep(sequence)
            while len(self._beginnings) > KEPT_BEGINNINGS:
                self._beginnings.popitem(last=False)
        else:
            sequences.restore(sequence, kept)

    def forget(self) -> None:
        """Drop the kept prompt beginnings."""
        self._beginnings.clear()

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Float64 softmax over the last axis, all ends of an answer under one token."""
        shares = softmax(logits)
        if self.other_ends:
            shares[..., self.eos] += shares[..., self.other_ends].sum(axis=-1)
            shares[..., self.other_ends] = 0.0
        return shares


class LlamaCppTokenSession:
    """A :class:`~robust_components.models.protocols.TokenSession`; made by ``open``.

    ``abstention`` is Pr["I don't know" | prompt], the product of the probabilities of its tokens
    one after the other; 0 for a row that failed.

    Attributes:
        token_rows: tokens of prompts and answers fed to the model so far.
    """

    def __init__(self, model: LlamaCppTokenModel, query: str, passages: Sequence[str]) -> None:
        self._model = model  # must outlive the sequences
        self.eos = model.eos
        self.truncated = [False] * len(passages)
        self.failures: list[str | None] = [None] * len(passages)
        self.abstention = np.zeros(len(passages), dtype=np.float64)
        self._question = model.prompts.question(query)
        self._plain_question = model.prompts.question(query, with_passage=False)
        count = len(passages) + _RESERVED
        self._sequences = LlamaSequences(
            model.pointer,
            count,
            self._longest(),
            size=model.vocabulary.size,
            threads=model.threads,
            full_precision=model.full_precision,
        )
        self._prompts = [0] * count
        """Tokens of each sequence's prompt."""
        self._paths: list[tuple[int, ...]] = [()] * count
        """Answer tokens after each sequence's prompt."""
        self._first: dict[int, NDArray[np.float64]] = {}
        self._without: NDArray[np.float32] | None = None
        model.begin(self._sequences, _SHARED, self._question.prefix)
        for row, passage in enumerate(passages):
            try:
                self._read(row, passage)
            except Exception as error:  # counts as hostile, and the other rows go on
                self.failures[row] = f"{type(error).__name__}: {error}"[:200]

    @property
    def token_rows(self) -> int:
        return self._sequences.fed

    def _longest(self) -> int:
        """Tokens a sequence may have: a matter of the question, not of the passages."""
        answer = max(self._model.prompts.max_answer_tokens, len(self._question.abstention))
        prompts = (
            len(q.prefix) + q.room * with_passage + len(q.suffix)
            for q, with_passage in ((self._question, True), (self._plain_question, False))
        )
        return max(prompts) + answer

    def _read(self, row: int, passage: str) -> None:
        """Feed a prompt with "I don't know" after it."""
        question, sequence = self._question, row + _RESERVED
        tokens, self.truncated[row] = self._model.prompts.passage(passage, question.room)
        if question.prefix:
            self._sequences.copy(_SHARED, sequence)
        forced = question.abstention[:-1]
        fed = (*tokens, *question.suffix, *forced)
        logits = self._sequences.feed(sequence, fed, 1 + len(forced))
        self._end_prompt(sequence, len(forced))
        if not np.isfinite(logits).all():
            self.failures[row] = NOT_FINITE
            return
        shares = self._model.probabilities(logits)
        said = shares[np.arange(len(shares)), list(question.abstention)]
        self.abstention[row] = float(np.prod(said))
        self._first[row] = shares[0]

    def _end_prompt(self, sequence: int, surplus: int) -> None:
        """Drop ``surplus`` tokens; what is left is the prompt."""
        self._prompts[sequence] = self._sequences.lengths[sequence] - surplus
        self._sequences.cut(sequence, self._prompts[sequence])

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        """Float64 (len(rows), vocabulary); NaN in the rows that failed.

        Raises:
            ValueError: the prefix is longer than ``max_answer_tokens``.
            RuntimeError: the session is closed.
        """
        self._check(prefix)
        result = np.full((len(rows), self._model.vocabulary.size), np.nan, dtype=np.float64)
        for at, row in enumerate(rows):
            if self.failures[row] is not None:
                continue
            if not prefix:
                result[at] = self._first[row]
                continue
            try:
                logits = self._after(row + _RESERVED, prefix)
            except Exception as error:  # counts as hostile, and the other rows go on
                self.failures[row] = f"{type(error).__name__}: {error}"[:200]
                continue
            if np.isfinite(logits).all():
                result[at] = self._model.probabilities(logits)
            else:
                self.failures[row] = NOT_FINITE
        return result

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        """Greedy next token of the same model, asked the same without a passage.

        Raises:
            ValueError: the prefix is longer than ``max_answer_tokens``.
            RuntimeError: the session is closed, or the model's logits are not finite.
        """
        self._check(prefix)
        if self._without is None:
            question = self._plain_question
            self._model.begin(self._sequences, _WITHOUT, question.prefix)
            self._without = self._sequences.feed(_WITHOUT, question.suffix, 1)[0]
            self._end_prompt(_WITHOUT, 0)
        logits = self._after(_WITHOUT, prefix) if prefix else self._without
        if not np.isfinite(logits).all():
            raise RuntimeError(f"without a passage {NOT_FINITE}; use another model")
        return int(self._model.probabilities(logits).argmax())

    def _check(self, prefix: tuple[int, ...]) -> None:
        if self._sequences.closed:
            raise RuntimeError("the session is closed; open another one")
        longest = self._model.prompts.max_answer_tokens
        if len(prefix) > longest:
            raise ValueError(
                f"an answer may have {longest} tokens, got {len(prefix)}; "
                "raise max_answer_tokens of the model"
            )

    def _after(self, sequence: int, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        """Logits (vocabulary,) of the token after the prompt and ``prefix``, fed one by one."""
        common = 0
        for one, other in zip(self._paths[sequence], prefix[:-1], strict=False):
            if one != other:
                break
            common += 1
        self._sequences.cut(sequence, self._prompts[sequence] + common)
        self._paths[sequence] = prefix[:common]
        for token in prefix[common:]:
            logits = self._sequences.feed(sequence, (token,), 1)
            self._paths[sequence] = (*self._paths[sequence], token)
        last: NDArray[np.float32] = logits[0]
        return last

    def token_text(self, token: int) -> str:
        return self._model.vocabulary.name(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self._model.vocabulary.text(tokens)

    def close(self) -> None:
        """Release the sequences."""
        self._sequences.close()


_SHARED, _WITHOUT, _RESERVED = 0, 1, 2
"""Sequences of the shared beginning and of the prompt without passage; rows follow."""


@contextmanager
def _quiet() -> Iterator[None]:
    """llama-cpp-python prints what llama.cpp logs; the errors raised here say what failed."""
    logger = logging.getLogger("llama-cpp-python")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        # Unset, it would print everything from here on.
        logger.setLevel(logging.ERROR if level == logging.NOTSET else level)


def _load(path: Path, gpu_layers: int) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no GGUF file at {path}; give the path of a .gguf file")
    with path.open("rb") as file:
        magic = file.read(4)
    wanted = llama_cpp.llama_model_default_params()
    wanted.n_gpu_layers = gpu_layers
    pointer = None
    if magic == b"GGUF":
        with _quiet():
            llama_cpp.llama_backend_init()
            pointer = llama_cpp.llama_model_load_from_file(str(path).encode(), wanted)
    if not pointer:
        raise ValueError(
            f"llama.cpp cannot read {path} (it begins with {magic!r}); "
            "download or convert the model again"
        )
    kinds = {
        "an encoder": llama_cpp.llama_model_has_encoder,
        "a recurrent state": llama_cpp.llama_model_is_recurrent,
        "a partly recurrent state": llama_cpp.llama_model_is_hybrid,
    }
    found = [kind for kind, has in kinds.items() if has(pointer)]
    if found:
        llama_cpp.llama_model_free(pointer)
        raise ValueError(f"{path} has {found[0]}; use a decoder with attention only")
    return pointer
