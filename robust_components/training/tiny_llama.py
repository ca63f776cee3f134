"""Train the tiny Llama: a causal model small enough for tests that answers from a passage.

    python -m robust_components.training.tiny_llama --output DIR

It copies the answer out of the passage or says "I don't know", in the default prompt of
:class:`~robust_components.models.token_prompt.PromptTemplate`. It knows the synthetic language of
:mod:`robust_components.training.tiny_facts` and nothing else. The folder holds weights (float16),
configuration, tokenizer and a model card with the measured figures. A run that was stopped goes on
from ``DIR/checkpoint.pt`` when it is started again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from robust_components.models.token_prompt import Example, PromptTemplate
from robust_components.training.tiny_facts import (
    UNKNOWN,
    Turn,
    held_out_questions,
    recital,
    turn,
)

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


def batch(tokenizer: Any, arguments: argparse.Namespace, step: int) -> tuple[Any, Any]:
    """Ids and labels of one step, a function of seed and step; padded with 0 at the end.

    A fifth of the steps recites facts. Then come single questions, most without instructions, then
    conversations.
    """
    rng = random.Random(f"{arguments.seed}/{step}")
    progress = step / arguments.steps
    pairs: list[tuple[list[int], list[int]]] = []
    while sum(len(ids) for ids, _ in pairs) < arguments.tokens:
        if progress < 0.2:
            pairs.append(encode_recital(tokenizer, rng))
            continue
        turns = [turn(rng) for _ in range(rng.choice(TURNS) if progress > 0.35 else 1)]
        plain = progress < 0.35 and rng.random() < 0.8
        asked = messages(turns, plain=plain, with_passage=rng.random() > 0.03)
        pairs.append(encode(tokenizer, asked))
    ids = torch.zeros(len(pairs), max(len(ids) for ids, _ in pairs), dtype=torch.long)
    labels = torch.full(ids.shape, -100)
    for row, (some, wanted) in enumerate(pairs):
        ids[row, : len(some)] = torch.tensor(some)
        labels[row, : len(wanted)] = torch.tensor(wanted)
    return ids, labels


def encode_recital(tokenizer: Any, rng: random.Random) -> tuple[list[int], list[int]]:
    """Token ids and labels: values that were said before count."""
    ids, labels = [tokenizer.bos_token_id], [-100]
    for begin, value, again in recital(rng):
        head, rest = tokenizer([f" {begin}", f" {value}."], add_special_tokens=False)["input_ids"]
        ids += head + rest
        labels += [-100] * len(head) + (rest if again else [-100] * len(rest))
    return ids, labels


def losses(model: Any, ids: Any, labels: Any) -> tuple[Any, Any]:
    """Cross-entropies of the answers and of all tokens."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1].flatten(0, 1)
    answers, following = labels[:, 1:].flatten(), ids[:, 1:].flatten()
    each = torch.nn.functional.cross_entropy(logits, following, reduction="none")
    wanted, real = answers != -100, following != 0
    return each[wanted].mean(), each[real].mean()


@torch.no_grad()
def answer(model: Any, tokenizer: Any, turns: list[Turn], examples: list[Turn]) -> list[str]:
    """Greedy answers, one question at a time."""
    made = []
    for asked in turns:
        ids, labels = encode(tokenizer, messages([*examples, asked]))
        start = max(i for i, label in enumerate(labels) if label == -100) + 1
        prompt = torch.tensor([ids[:start]])
        tokens = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=16,
            pad_token_id=tokenizer.eos_token_id,
        )
        made.append(tokenizer.decode(tokens[0, start:], skip_special_tokens=True).strip())
    return made


def evaluate(model: Any, tokenizer: Any, count: int, seed: int) -> dict[str, float]:
    """Share of exact answers on held-out questions."""
    model.eval()
    turns = list(held_out_questions(count, seed))
    rng = random.Random(seed)
    examples = [turn(rng, answerable=i % 4 < 3) for i in range(4)]

    def exact(asked: list[Turn], examples: list[Turn]) -> list[bool]:
        answers = answer(model, tokenizer, asked, examples)
        return [found == t.answer for found, t in zip(answers, asked, strict=True)]

    right, few = exact(turns, []), exact(turns[: count // 2], examples)
    model.train()
    return {
        "answer_accuracy": sum(right[0::2]) / len(right[0::2]),
        "abstention_accuracy": sum(right[1::2]) / len(right[1::2]),
        "few_shot_accuracy": sum(few) / len(few),
    }


def new_model(tokenizer: Any, layers: int, width: int) -> LlamaForCausalLM:
    """A Llama whose attention starts near what copying needs; from random weights it takes long.

    Outputs start as the values transposed, queries equal to keys (Trockman and Kolter 2023,
    "Mimetic initialization of self-attention layers"), and the heads of the first layer, by their
    biases, look one, two, three and four tokens back.
    """
    heads, groups = 4, 2
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        attention_bias=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    size = width // heads
    turns = 10000.0 ** (-torch.arange(size // 4) / (size / 2))
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            attention: Any = layer.self_attn
            torch.nn.init.normal_(attention.v_proj.weight, std=0.06)
            values = attention.v_proj.weight.view(groups, 1, size, width)
            values = values.expand(-1, heads // groups, -1, -1).reshape(width, width)
            attention.o_proj.weight.copy_(values.T)
            if number:
                torch.nn.init.normal_(attention.k_proj.weight, std=0.075)
                keys = attention.k_proj.weight.view(groups, 1, size, width)
                keys = keys.expand(-1, heads // groups, -1, -1).reshape(width, width)
                attention.q_proj.weight.copy_(keys)
                continue
            attention.k_proj.bias.view(groups, size)[:, : len(turns)] = 6.0
            queries = attention.q_proj.bias.view(heads, size)
            for head in range(heads):
                angles = (head + 1) * turns
                queries[head, : len(turns)] = 6.0 * angles.cos()
                queries[head, size // 2 : size // 2 + len(turns)] = -6.0 * angles.sin()
    return model


def optimizers_of(model: Any, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    layers = [p for p in model.model.layers.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if not any(p is layer for layer in layers)]
    return [
        torch.optim.Muon(layers, lr=lr, weight_decay=0.01),
        torch.optim.AdamW(others, lr=lr / 4, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(arguments.seed)
    model: Any = new_model(tokenizer, arguments.layers, arguments.width)
    optimizers = optimizers_of(model, arguments.lr)
    steps, warm = arguments.steps, 100

    def share(step: int) -> float:
        return min((step + 1) / warm, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))

    schedules = [torch.optim.lr_scheduler.LambdaLR(each, share) for each in optimizers]
    parts = [model, *optimizers, *schedules]
    checkpoint, done, seconds = folder / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        done, seconds = saved["step"], saved["seconds"]
        for part, state in zip(parts, saved["parts"], strict=True):
            part.load_state_dict(state)
    model.train()
    shown, started = 0.0, time.process_time() - seconds
    progress = tqdm(range(done + 1, steps + 1), initial=done, total=steps, mininterval=10)
    for step in progress:
        of_answers, of_all = losses(model, *batch(tokenizer, arguments, step))
        (of_answers + arguments.everything * of_all).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad(set_to_none=True)
        shown = 0.98 * shown + 0.02 * of_answers.item()
        progress.set_postfix(loss=f"{shown:.3f}", refresh=False)
        if step % 250 == 0 and step < steps:
            seconds = time.process_time() - started
            states = [part.state_dict() for part in parts]
            torch.save({"step": step, "seconds": seconds, "parts": states}, checkpoint)
            figures = evaluate(model, tokenizer, 100, seed=99)
            print(json.dumps({"step": step, "seconds": round(seconds), "loss": shown, **figures}))
    minutes = (time.process_time() - started) / 60
    save(model.half(), tokenizer, arguments, round(minutes))
    checkpoint.unlink(missing_ok=True)


def save(model: Any, tokenizer: Any, arguments: argparse.Namespace, minutes: int) -> None:
    folder = Path(arguments.output)
    model.generation_config.pad_token_id = None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    figures = evaluate(model.float(), tokenizer, arguments.questions, seed=10_000 + arguments.seed)
    print(json.dumps(figures), minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=3000, help="tokens a step")
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--everything", type=float, default=0.1, help="weight of all tokens' loss")
    parser.add_argument("--questions", type=int, default=1000, help="held-out questions asked")
    parser.add_argument("--threads", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
