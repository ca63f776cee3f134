"""A Hugging Face tokenizer as prompts need it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any


class TransformersVocabulary:
    """See :class:`~robust_components.models.token_prompt.Vocabulary`.

    Control tokens are the special ones and every other added token that is not white space, such as
    the tool and thinking marks of chat models. The mark for what has no token is none of them.

    Args:
        tokenizer: a fast Hugging Face tokenizer; it is copied, since it remembers how it was last
            called.
        chat_options: variables for the chat template.

    Raises:
        ValueError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, chat_options: Mapping[str, Any]) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"the tokenizer must be a fast one, got {type(tokenizer).__name__}; "
                "load it with AutoTokenizer"
            )
        self._tokenizer = copy.deepcopy(tokenizer)
        self._lock = threading.Lock()
        self._chat_options = dict(chat_options)
        self.leading, self.trailing = self._around()
        self.control = self._control()

    def _control(self) -> dict[int, str]:
        tokenizer = self._tokenizer
        special = set(tokenizer.all_special_ids)
        found: dict[int, str] = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special
            or number in special
            or (len(token.content) > 1 and token.content.strip())
        }
        for number in special - set(found):
            found[number] = tokenizer.convert_ids_to_tokens(number)
        if tokenizer.unk_token_id not in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            found.pop(tokenizer.unk_token_id, None)
        return found

    def _around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Special tokens the tokenizer puts before and after a text."""
        encoded = self._tokenizer("a", return_special_tokens_mask=True)
        tokens, marks = list(encoded["input_ids"]), list(encoded["special_tokens_mask"])
        if 0 not in marks:
            return tuple(tokens), ()
        first, last = marks.index(0), len(marks) - marks[::-1].index(0)
        return tuple(tokens[:first]), tuple(tokens[last:])

    def encode(self, text: str, *, markup: bool) -> list[int]:
        with self._lock:
            encoded = self._tokenizer(
                text, add_special_tokens=False, split_special_tokens=not markup, verbose=False
            )
        return list(encoded["input_ids"])

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        if not self._tokenizer.chat_template:
            return None
        text = self._tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=messages[-1]["role"] == "user",
            **self._chat_options,
        )
        return str(text)

    def check_fits(self, embeddings: int) -> None:
        """Raise a ``ValueError`` if there is a token that the model does not know."""
        largest = max(self._tokenizer.get_vocab().values(), default=-1)
        if largest >= embeddings:
            raise ValueError(
                f"the tokenizer's ids must be below the model's {embeddings}, got {largest}; use "
                "the tokenizer that belongs to the model"
            )

    def check_writable(self, name: str, tokens: Sequence[int]) -> None:
        """Raise a ``ValueError`` if ``tokens`` hold the mark for what has no token."""
        if self._tokenizer.unk_token_id in tokens:
            raise ValueError(
                f"{name} must be text that the tokenizer can write, got {self.text(tokens)!r} for "
                "it; choose other words in the template"
            )

    def name(self, token: int) -> str:
        """The token as the vocabulary writes it."""
        known = self._tokenizer.convert_ids_to_tokens(token)
        return f"<token {token}>" if known is None else str(known)

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens spell, special ones left out; a last character lacking bytes as well."""
        decoded = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(decoded).rstrip("\ufffd").strip()

    def starting_with_newline(self) -> frozenset[int]:
        """Tokens that begin a new line."""
        numbers = range(len(self._tokenizer))
        texts = self._tokenizer.batch_decode([[number] for number in numbers])
        return frozenset(n for n, text in zip(numbers, texts, strict=True) if text.startswith("\n"))
