"""GGUF models as token models for secure decoding, run by llama.cpp.

Isolation: every passage has a sequence, and every sequence keys and values of its own
(``kv_unified=False``). One call to ``llama_decode`` feeds tokens of one sequence only, so what the
other passages hold cannot enter its arithmetic: a row's numbers are bit for bit the same whatever
they are, on one machine with one build of llama.cpp.

With separate keys and values a fork of a sequence is a copy of all of it. Branches of an answer
are therefore visited by cutting the sequence back to where they part, and what lies beyond is fed
again token by token, with the same result.
"""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robust_components.models.token_prompt import PromptTemplate, QuestionPrompt, TokenPrompts

try:
    import llama_cpp

    from robust_components.models.llama_vocabulary import LlamaVocabulary, softmax
except ImportError as error:
    raise ImportError(
        "GGUF models need llama-cpp-python; install 'robust-components[llama-cpp]'"
    ) from error

NOT_FINITE = "the model's logits are not finite"
PAD = 256
"""llama.cpp gives a sequence room in steps of this many tokens."""


class LlamaCppTokenModel:
    """A :class:`~robust_components.models.protocols.TokenModel` over a GGUF file.

    The file's own tokenizer and chat template are used.

    Args:
        path: a GGUF file of a model with a decoder and attention only.
        template: the words of the prompt.
        max_passage_tokens: longer passages are cut and flagged; each sequence has room for one.
        max_answer_tokens: longest prefix that can be asked for.
        end_at_newline: whether a new line ends the answer; when ``None``, it does without a chat
            template.
        chat_options: variables for the chat template; ``{"enable_thinking": False}`` when ``None``.
        gpu_layers: layers that run on a GPU, if llama.cpp was built for one.
        threads: CPU threads; llama.cpp's choice when ``None``.
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
        template: PromptTemplate | None = None,
        max_passage_tokens: int = 512,
        max_answer_tokens: int = 64,
        end_at_newline: bool | None = None,
        chat_options: Mapping[str, Any] | None = None,
        gpu_layers: int = 0,
        threads: int | None = None,
        name: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.pointer = _load(self.path, gpu_layers)
        self.threads = threads
        options = {"enable_thinking": False} if chat_options is None else chat_options
        self.vocabulary = LlamaVocabulary(self.pointer, options)
        self.prompts = TokenPrompts(
            self.vocabulary,
            template or PromptTemplate(),
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
        weakref.finalize(self, llama_cpp.llama_model_free, self.pointer)

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
        """
        return LlamaCppTokenSession(self, query, passages)

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
        self._model = model
        self.eos = model.eos
        self.truncated = [False] * len(passages)
        self.failures: list[str | None] = [None] * len(passages)
        self.abstention = np.zeros(len(passages), dtype=np.float64)
        self._question = model.prompts.question(query)
        self._plain_question = model.prompts.question(query, with_passage=False)
        self._sequences = _Sequences(model, len(passages) + 2, self._longest())
        self._first: dict[int, NDArray[np.float64]] = {}
        self._without: NDArray[np.float32] | None = None
        prefix = self._question.prefix
        if prefix:
            self._sequences.feed(_SHARED, prefix, 1)
        for row, passage in enumerate(passages):
            self._read(row, passage)

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
        question, sequence = self._question, row + _RESERVED
        try:
            tokens, self.truncated[row] = self._model.prompts.passage(passage, question.room)
            if question.prefix:
                self._sequences.copy(_SHARED, sequence)
            logits = self._prompt(sequence, question, tokens)
        except Exception as error:  # counts as hostile, and the other rows go on
            self.failures[row] = f"{type(error).__name__}: {error}"[:200]
            return
        if not np.isfinite(logits).all():
            self.failures[row] = NOT_FINITE
            return
        shares = self._model.probabilities(logits)
        forced = shares[np.arange(len(shares)), list(question.abstention)]
        self.abstention[row] = float(np.prod(forced))
        self._first[row] = shares[0]

    def _prompt(
        self, sequence: int, question: QuestionPrompt, passage: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Feed a prompt with "I don't know" after it; logits (abstention tokens, vocabulary)."""
        forced = question.abstention[:-1]
        tokens = (*passage, *question.suffix, *forced)
        logits = self._sequences.feed(sequence, tokens, 1 + len(forced))
        self._sequences.end_prompt(sequence, len(forced))
        return logits

    def next_probabilities(
        self, prefix: tuple[int, ...], rows: Sequence[int]
    ) -> NDArray[np.float64]:
        """Float64 (len(rows), vocabulary); NaN in the rows that failed.

        Raises:
            ValueError: the prefix is longer than ``max_answer_tokens``.
        """
        result = np.full((len(rows), self._model.vocabulary.size), np.nan, dtype=np.float64)
        for at, row in enumerate(rows):
            if self.failures[row] is not None:
                continue
            if not prefix:
                result[at] = self._first[row]
                continue
            logits = self._sequences.after(row + _RESERVED, prefix)
            if np.isfinite(logits).all():
                result[at] = self._model.probabilities(logits)
            else:
                self.failures[row] = NOT_FINITE
        return result

    def no_retrieval_token(self, prefix: tuple[int, ...]) -> int:
        """Greedy next token of the same model, asked the same without a passage.

        Raises:
            RuntimeError: the model's logits are not finite.
        """
        if self._without is None:
            question = self._plain_question
            tokens = (*question.prefix, *question.suffix)
            self._without = self._sequences.feed(_WITHOUT, tokens, 1)[0]
            self._sequences.end_prompt(_WITHOUT, 0)
        logits = self._sequences.after(_WITHOUT, prefix) if prefix else self._without
        if not np.isfinite(logits).all():
            raise RuntimeError(f"without a passage {NOT_FINITE}; use another model")
        return int(self._model.probabilities(logits).argmax())

    def token_text(self, token: int) -> str:
        return self._model.vocabulary.name(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self._model.vocabulary.text(tokens)

    def close(self) -> None:
        """Release the sequences."""
        self._sequences.close()


_SHARED, _WITHOUT, _RESERVED = 0, 1, 2
"""Sequences of the shared beginning and of the prompt without passage; rows follow."""


class _Sequences:
    """Token sequences with keys and values of their own."""

    def __init__(self, model: LlamaCppTokenModel, count: int, longest: int) -> None:
        most = int(llama_cpp.llama_max_parallel_sequences())
        if count > most:
            raise ValueError(
                f"llama.cpp holds at most {most} sequences, that is {most - _RESERVED} passages, "
                f"got {count - _RESERVED}; pass fewer"
            )
        room = -(-longest // PAD) * PAD
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max, wanted.kv_unified = count * room, count, False
        wanted.n_batch, wanted.n_ubatch = room, min(room, 512)
        wanted.swa_full = True  # else a sliding window forgets what a branch goes back to
        wanted.no_perf = True
        if model.threads is not None:
            wanted.n_threads = wanted.n_threads_batch = model.threads
        self._context = llama_cpp.llama_init_from_model(model.pointer, wanted)
        if not self._context:
            raise MemoryError(
                f"llama.cpp could not make room for {count} sequences of {room} tokens; "
                "pass fewer passages or lower max_passage_tokens"
            )
        self.close = weakref.finalize(self, llama_cpp.llama_free, self._context)
        self._model = model  # must not be freed before the context
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._longest_answer = model.prompts.max_answer_tokens
        self._lengths = [0] * count
        self._prompts = [0] * count
        self._paths: list[tuple[int, ...]] = [()] * count
        self.fed = 0
        """Tokens fed so far."""

    def feed(self, sequence: int, tokens: Sequence[int], keep: int) -> NDArray[np.float32]:
        """Append tokens in one call; logits (keep, vocabulary) of the last ones.

        Raises:
            RuntimeError: llama.cpp refuses the call.
        """
        count, start = len(tokens), self._lengths[sequence]
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
        self._lengths[sequence] = start + count
        size = self._model.vocabulary.size
        logits = np.empty((keep, size), dtype=np.float32)
        for at in range(keep):
            pointer = llama_cpp.llama_get_logits_ith(self._context, count - keep + at)
            logits[at] = np.ctypeslib.as_array(pointer, (size,))
        return logits

    def copy(self, source: int, target: int) -> None:
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._lengths[target] = self._lengths[source]

    def end_prompt(self, sequence: int, surplus: int) -> None:
        """Drop ``surplus`` tokens; what is left is the prompt."""
        self._prompts[sequence] = self._lengths[sequence] - surplus
        self._cut(sequence, 0)

    def after(self, sequence: int, prefix: tuple[int, ...]) -> NDArray[np.float32]:
        """Logits (vocabulary,) of the token after the prompt and ``prefix``, fed one by one."""
        if len(prefix) > self._longest_answer:
            raise ValueError(
                f"an answer may have {self._longest_answer} tokens; "
                "raise max_answer_tokens of the model"
            )
        common = 0
        for one, other in zip(self._paths[sequence], prefix[:-1], strict=False):
            if one != other:
                break
            common += 1
        self._cut(sequence, common)
        logits = np.empty((0, 0), dtype=np.float32)
        for token in prefix[common:]:
            logits = self.feed(sequence, (token,), 1)
            self._paths[sequence] = (*self._paths[sequence], token)
        last: NDArray[np.float32] = logits[0]
        return last

    def _cut(self, sequence: int, answer: int) -> None:
        """Keep the prompt and ``answer`` tokens after it."""
        length = self._prompts[sequence] + answer
        if length < self._lengths[sequence]:
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)
        self._lengths[sequence] = length
        self._paths[sequence] = self._paths[sequence][:answer]


def _load(path: Path, gpu_layers: int) -> Any:
    logger = logging.getLogger("llama-cpp-python")
    if logger.level == logging.NOTSET:  # it would print everything
        logger.setLevel(logging.ERROR)
    if not path.is_file():
        raise FileNotFoundError(f"no GGUF file at {path}; give the path of a .gguf file")
    with path.open("rb") as file:
        magic = file.read(4)
    wanted = llama_cpp.llama_model_default_params()
    wanted.n_gpu_layers = gpu_layers
    pointer = None
    if magic == b"GGUF":
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
