"""The tokenizer inside a GGUF file as prompts need it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

WORD_MARK = "\u2581"
"""What SentencePiece writes for a space."""


class LlamaVocabulary:
    """See :class:`~robust_components.models.token_prompt.Vocabulary`.

    Control tokens are the special ones and every other added token that is not white space. The
    mark for what has no token is none of them.

    Args:
        model: a ``llama_model`` pointer, which must outlive this object.
        chat_options: variables for the chat template.
    """

    def __init__(self, model: Any, chat_options: Mapping[str, Any]) -> None:
        self._vocabulary = vocabulary = llama_cpp.llama_model_get_vocab(model)
        self.size = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        bos, eos = llama_cpp.llama_vocab_bos(vocabulary), llama_cpp.llama_vocab_eos(vocabulary)
        self.eos = int(eos)
        self.ends = [t for t in range(self.size) if llama_cpp.llama_vocab_is_eog(vocabulary, t)]
        adds = llama_cpp.llama_vocab_get_add_bos(vocabulary) and bos >= 0
        self.leading: tuple[int, ...] = (int(bos),) if adds else ()
        self.trailing: tuple[int, ...] = ()
        self._opening: list[int] = []
        if self.name(self.encode("a", markup=False)[0]).startswith(WORD_MARK):
            self._opening = self.encode("\n", markup=False)
        self.control = {t: self.name(t) for t in range(self.size) if self._is_control(t)}
        self._chat_options = dict(chat_options)
        source = llama_cpp.llama_model_chat_template(model, None)
        names = {
            "eos_token": self.name(eos) if eos >= 0 else "",
            "bos_token": self.name(bos) if bos >= 0 else "",
        }
        self._formatters: dict[bool, Any] = {}
        if source:
            with _template_errors():
                self._formatters = {
                    opens: Jinja2ChatFormatter(
                        source.decode("utf-8"), add_generation_prompt=opens, **names
                    )
                    for opens in (True, False)
                }

    @property
    def has_chat_template(self) -> bool:
        return bool(self._formatters)

    def _is_control(self, token: int) -> bool:
        kind = llama_cpp.llama_vocab_get_attr(self._vocabulary, token)
        if kind & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL:
            return True
        text = self.name(token)
        added = bool(kind & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED)
        return added and len(text) > 1 and bool(text.replace(WORD_MARK, " ").strip())

    def encode(self, text: str, *, markup: bool) -> list[int]:
        """Token ids. SentencePiece would put a space before every text: it is kept from that."""
        if self._opening:
            tokens = self._encode("\n" + text, markup)
            if tokens[: len(self._opening)] == self._opening:
                return tokens[len(self._opening) :]
        return self._encode(text, markup)

    def _encode(self, text: str, markup: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), buffer, room, False, markup
        )
        if count < 0:
            raise ValueError(f"llama.cpp could not tokenise a text of {len(data)} bytes")
        return list(buffer[:count])

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        if not self._formatters:
            return None
        formatter = self._formatters[messages[-1]["role"] == "user"]
        with _template_errors():
            made = formatter(messages=[dict(m) for m in messages], **self._chat_options)
        return str(made.prompt)

    def name(self, token: int) -> str:
        """The token as the vocabulary writes it."""
        text = llama_cpp.llama_vocab_get_text(self._vocabulary, token)
        return str(text, "utf-8", "backslashreplace")

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens spell, special ones left out; a last character lacking bytes as well."""
        return self._spell(tokens).rstrip("\ufffd").strip()

    def starting_with_newline(self) -> frozenset[int]:
        """Tokens that begin a new line."""
        return frozenset(t for t in range(self.size) if self._spell([t]).startswith("\n"))

    def _spell(self, tokens: Sequence[int]) -> str:
        numbers = (llama_cpp.llama_token * len(tokens))(*tokens)

        def write(buffer: Any, room: int) -> int:
            return int(
                llama_cpp.llama_detokenize(
                    self._vocabulary, numbers, len(tokens), buffer, room, False, False
                )
            )

        return _collect(write, 32 + 16 * len(tokens)).decode("utf-8", "replace")


@contextmanager
def _template_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the template's author wrote
        raise ValueError(
            f"the chat template in the GGUF file fails: {error}; convert the model with another one"
        ) from error


def _collect(write: Callable[[Any, int], int], room: int) -> bytes:
    """Bytes that a C function writes; it returns minus the needed room when that is too small."""
    buffer = ctypes.create_string_buffer(room)
    count = write(buffer, room)
    if count < 0:
        buffer = ctypes.create_string_buffer(-count)
        count = write(buffer, -count)
    return buffer.raw[:count]


def softmax(logits: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Float64 softmax over the last axis."""
    exact = logits.astype(np.float64)
    shares = np.exp(exact - exact.max(axis=-1, keepdims=True))
    result: np.ndarray[Any, np.dtype[np.float64]] = shares / shares.sum(axis=-1, keepdims=True)
    return result
