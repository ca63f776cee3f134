"""Conversations for the tiny Llama: its tokenizer, its prompts, token ids with their labels."""

from __future__ import annotations

import random
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from robust_components.models.token_prompt import Example, PromptTemplate
from robust_components.training.tiny_facts import UNKNOWN, Turn, turn

SPECIAL = ("<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "[INST] {{ message['content'] }}[/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
VOCABULARY = 1280
TURNS = (1, 1, 2, 3, 5)
"""Questions a conversation has: one, or one after worked examples."""


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, which llama.cpp reproduces exactly (its pre-tokenizer "gpt-2")."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(seed)
    texts = (
        "\n".join(m["content"] for m in messages([turn(rng) for _ in range(rng.choice(TURNS))]))
        for _ in range(8000)
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", model_max_length=2048
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def messages(
    turns: list[Turn], *, with_passage: bool = True, plain: bool = False
) -> list[dict[str, str]]:
    """User and assistant messages; without passages nothing is known.

    ``plain`` leaves the instructions out.
    """
    without = {"instructions": "", "instructions_without_passage": ""}
    template = PromptTemplate(
        **(without if plain else {}),
        examples=tuple(
            Example(t.passage, t.question, t.answer if with_passage else UNKNOWN) for t in turns
        ),
    )
    return template.messages(with_passage=with_passage)[:-1]


def encode(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids and labels: answers with their end-of-sequence count, the rest is -100."""
    ids, labels = [tokenizer.bos_token_id], [-100]
    opened, closed = (tokenizer.convert_tokens_to_ids(t) for t in ("[INST]", "[/INST]"))
    for message in turns:
        text = " " + message["content"]
        plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if message["role"] == "user":
            new = [opened, *plain, closed]
            ids, labels = ids + new, labels + [-100] * len(new)
        else:
            new = [*plain, tokenizer.eos_token_id]
            ids, labels = ids + new, labels + new
    return ids, labels


def encode_recital(
    tokenizer: Any, facts: list[tuple[str, str, bool]]
) -> tuple[list[int], list[int]]:
    """Token ids and labels: values that were said before count."""
    ids, labels = [tokenizer.bos_token_id], [-100]
    for begin, value, again in facts:
        texts = [f" {begin}", f" {value}", "."]
        head, said, end = tokenizer(texts, add_special_tokens=False)["input_ids"]
        ids += head + said + end
        labels += [-100] * len(head) + (said if again else [-100] * len(said)) + [-100] * len(end)
    return ids, labels
