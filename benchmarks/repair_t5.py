"""Trains a small T5-shaped ranker, scored as monoT5, for the repair benchmark.

    python -m benchmarks.repair_t5 --data FOLDER --output DIR
    python -m benchmarks.repair --data FOLDER --ranker DIR --json FILE

Encoder and decoder are random; words are looked up in the embeddings of all-MiniLM-L6-v2, whose
tokenizer it uses. Trained on chunks of FOLDER/train.jsonl: "true" after the relevant chunk, "false"
after others of the BM25 list. It is no good ranker; it is one of another architecture.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.ranking_data import RankedList
from benchmarks.repair_data import chunk_lists
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.repair.perturb_scores import logits


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--output", type=Path, required=True)
    add("--lists", type=int, default=1200)
    add("--candidates", type=int, default=10)
    add("--layers", type=int, default=3, help="of encoder and decoder each")
    add("--feed-forward", type=int, default=1536)
    add("--gated", action="store_true")
    add("--steps", type=int, default=600)
    add("--batch", type=int, default=4, help="lists a step, a relevant document and three others")
    add("--lr", type=float, default=5e-4)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def fresh_scorer(tokenizer: Any, table: torch.Tensor, options: argparse.Namespace) -> Any:
    """A random T5 whose words are looked up in ``table``, float (words, dimension)."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(options.seed)
    config = T5Config(
        vocab_size=len(table),
        d_model=table.shape[1],
        d_kv=max(8, table.shape[1] // 6),
        num_heads=6,
        d_ff=options.feed_forward,
        num_layers=options.layers,
        feed_forward_proj="gated-gelu" if options.gated else "relu",
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id,
        dropout_rate=0.0,
    )
    network = T5ForConditionalGeneration(config)
    with torch.no_grad():
        network.get_input_embeddings().weight.copy_(table)
    longest = min(192, tokenizer.model_max_length)
    return TransformersPairScorer(network, tokenizer, output="logit", max_length=longest)


def train(scorer: Any, lists: Sequence[RankedList], options: argparse.Namespace) -> list[float]:
    """Losses of the steps."""
    rng = random.Random(options.seed)
    moving = [p for p in scorer.network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(moving, lr=options.lr)
    losses = []
    for step in range(options.steps):
        for group in optimiser.param_groups:
            warm, left = (step + 1) / 30, 1 - step / options.steps
            group["lr"] = options.lr * min(1.0, warm, left)
        pairs, wanted = [], []
        for item in rng.sample(list(lists), min(options.batch, len(lists))):
            right = [t for i, t in zip(item.ids, item.documents, strict=True) if i in item.relevant]
            wrong = [t for t in item.documents if t not in right]
            shown = [rng.choice(right), *rng.sample(wrong, min(3, len(wrong)))]
            pairs += [(item.query, text) for text in shown]
            wanted += [1.0] + [0.0] * (len(shown) - 1)
        found = logits(scorer, pairs)
        loss = binary_cross_entropy_with_logits(found, torch.tensor(wanted, dtype=found.dtype))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % 50 == 0:
            print(f"step {step}, loss {losses[-1]:.3f}", flush=True)
    return losses


def main() -> None:
    options = parse()
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from robust_components.models.embedded import base_path

    torch.set_num_threads(options.threads)
    state = load_file(Path(base_path()) / "model.safetensors")
    table = state["embeddings.word_embeddings.weight"].float()
    scorer = fresh_scorer(AutoTokenizer.from_pretrained(base_path()), table, options)
    lists = chunk_lists(
        options.data / "train.jsonl", options.candidates, options.lists, options.seed
    )
    train(scorer, lists, options)
    scorer.network.save_pretrained(options.output)
    scorer.tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
