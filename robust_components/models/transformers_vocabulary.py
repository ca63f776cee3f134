"""A Hugging Face tokenizer as prompts need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TransformersVocabulary:
    """See :class:`~robust_components.models.token_prompt.Vocabulary`.

    Control tokens are the special ones and every other added token that is not white space, such as
    the tool and thinking marks of chat models.

    Args:
        tokenizer: a fast Hugging Face tokenizer.
        chat_options: variables for the chat template.
    """

    def __init__(self, tokenizer: Any, chat_options: Mapping[str, Any]) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ValueError(
                f"the tokenizer must be a fast one, got {type(tokenizer).__name__}; "
                "load it with AutoTokenizer"
            )
        self._tokenizer = tokenizer
        self._chat_options = dict(chat_options)
        probe = self.encode("a", markup=False)
        full = list(tokenizer("a")["input_ids"])
        at = next((i for i in range(len(full)) if full[i : i + len(probe)] == probe), len(full))
        self.leading = tuple(full[:at])
        self.trailing = tuple(full[at + len(probe) :])
        special = set(tokenizer.all_special_ids)
        self.control = {
            number: token.content
            for number, token in tokenizer.added_tokens_decoder.items()
            if token.special
            or number in special
            or (len(token.content) > 1 and token.content.strip())
        }
        for number in special - set(self.control):
            self.control[number] = tokenizer.convert_ids_to_tokens(number)

    def encode(self, text: str, *, markup: bool) -> list[int]:
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

    def name(self, token: int) -> str:
        """The token as the vocabulary writes it."""
        if token < len(self._tokenizer):
            known = self._tokenizer.convert_ids_to_tokens(token)
            if known is not None:
                return str(known)
        return f"<token {token}>"

    def text(self, tokens: Sequence[int]) -> str:
        """What the tokens spell, special ones left out."""
        decoded = self._tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(decoded).strip()

    def starting_with_newline(self) -> frozenset[int]:
        """Tokens that begin a new line."""
        numbers = range(len(self._tokenizer))
        texts = self._tokenizer.batch_decode([[number] for number in numbers])
        return frozenset(n for n, text in zip(numbers, texts, strict=True) if text.startswith("\n"))
