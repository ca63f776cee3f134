"""Llama-shaped models with random weights, and made-up questions: for measurements of cost.

What such a model says means nothing. Attention is scaled down and the output layer up, so that the
rows of a question mostly agree on a token, as those of a trained model do; special tokens are never
the leading ones, so that every answer has the length asked for.
"""

from __future__ import annotations

import random
import re
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from robust_components.models.token_prompt import Example, PromptTemplate
from robust_components.models.transformers_tokens import TransformersTokenModel

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 2000,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "small": {
        "vocab_size": 8000,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
    },
    "1b": {
        "vocab_size": 128_256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
ATTENTION, SHARPNESS = 0.01, 256.0
"""Factors on the layers that end attention and the model."""

SHOTS = 4
SHOT_WORDS = 70
PASSAGE_WORDS = 100
QUESTION_WORDS = 10
SPECIAL = (END, UNKNOWN) = ("</s>", "<unk>")


def word(number: int) -> str:
    return f"w{number}"


def words(rng: random.Random, count: int, vocabulary: int = 1500) -> str:
    return " ".join(word(rng.randrange(vocabulary)) for _ in range(count))


def template(rng: random.Random) -> PromptTemplate:
    """The default words with four worked examples: about 400 tokens before the passage."""
    examples = [
        Example(words(rng, SHOT_WORDS), words(rng, QUESTION_WORDS), words(rng, 3))
        for _ in range(SHOTS)
    ]
    return PromptTemplate(examples=tuple(examples))


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a word: those of the template, then w0, w1, ..."""
    shown = PromptTemplate().messages(with_passage=True) + PromptTemplate().messages(
        with_passage=False
    )
    text = " ".join([PromptTemplate().abstention, *(message["content"] for message in shown)])
    known = dict.fromkeys([END, UNKNOWN, *re.findall(r"\w+|[^\w\s]+", text)])
    listed = [*known, *map(word, range(vocabulary - len(known)))]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token=UNKNOWN))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, unk_token=UNKNOWN
    )
    return wrapped


def build(
    shape: str, *, seed: int = 0, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> LlamaForCausalLM:
    """A model of that shape."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        eos_token_id=0,
        bos_token_id=None,
    )
    with torch.device(device):
        model = LlamaForCausalLM(config).to(dtype).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(ATTENTION)
        model.lm_head.weight.mul_(SHARPNESS)
        model.lm_head.weight[: len(SPECIAL)] = 0.0
    return model


def token_model(model: Any, answer_tokens: int, seed: int = 0) -> TransformersTokenModel:
    """The model as secure decoding takes it."""
    return TransformersTokenModel(
        model,
        tokenizer(model.config.vocab_size),
        template=template(random.Random(seed)),
        max_answer_tokens=answer_tokens,
        end_at_newline=False,
        name="random Llama",
        fingerprint="random",
    )


def question(passages: int, seed: int = 0) -> tuple[str, list[str]]:
    """A question and passages of a hundred words each."""
    rng = random.Random(seed)
    return words(rng, QUESTION_WORDS), [words(rng, PASSAGE_WORDS) for _ in range(passages)]
