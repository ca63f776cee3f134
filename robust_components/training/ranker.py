r"""Train the embedded ranker: a cross-encoder adapter fine-tuned on masked copies.

    robust-components train ranker --rows train.jsonl --dev dev.jsonl --output DIR

Rows are JSON lines, ``{"query", "positive", "negatives"}`` or question answering rows with
``title``, ``context``, ``question`` and ``answers``. See robust_components.ranking.training for the
loss. ``--resume`` goes on from the last checkpoint beside DIR.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from robust_components.models.embedded import HUB_ID, WEIGHTS, base_fingerprint, base_path
from robust_components.models.pair_encoding import PairEncoder
from robust_components.ranking.evaluation import evaluate_lists
from robust_components.ranking.lists import TrainingRow, read_rows
from robust_components.ranking.training import Settings, forward, step_loss
from robust_components.smoothing import BalancedMask
from robust_components.training.low_rank import LowRankNetwork


def hold_out(path: Path, articles: int) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Training rows, and those of a few articles kept to watch progress."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    titles = sorted({str(record.get("title", "")) for record in records})
    if len(titles) <= articles:
        return read_rows(path), []
    held = set(random.Random(1).sample(titles, articles))
    rows = read_rows(path)
    answered = [r for r in records if r.get("answers", True)]
    inside = [str(record.get("title", "")) in held for record in answered]
    return (
        [row for row, kept in zip(rows, inside, strict=True) if not kept],
        [row for row, kept in zip(rows, inside, strict=True) if kept],
    )


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    rng = random.Random(arguments.seed)
    settings = Settings(
        steps=arguments.steps,
        seed=arguments.seed,
        learning_rate=arguments.lr,
        temperature=arguments.temperature,
        negatives=arguments.negatives,
    )
    encoder = PairEncoder(AutoTokenizer.from_pretrained(base_path()), settings.max_length)
    network = AutoModelForSequenceClassification.from_pretrained(
        base_path(), num_labels=1, attn_implementation="eager"
    )
    low_rank = LowRankNetwork(network, "bert", arguments.rank, full=arguments.full)
    if arguments.start_from:
        low_rank.start_from(arguments.start_from)
    rows, held = hold_out(arguments.rows, arguments.held_articles)
    held = random.Random(2).sample(held, min(len(held), arguments.watch))
    print(f"{len(rows)} rows, {len(held)} held out", flush=True)

    optimizer = torch.optim.AdamW(
        low_rank.parameters(), lr=settings.learning_rate, weight_decay=0.01
    )
    warmup = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warmup, max(0.02, (settings.steps - s) / settings.steps)),
    )
    averaged = low_rank.state()
    checkpoint = arguments.output.with_suffix(".checkpoint.pt")
    first, minutes = 0, 0.0
    if arguments.resume and checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=False)
        low_rank.load_state(saved["state"])
        averaged, first, minutes = saved["averaged"], saved["step"], saved["minutes"]
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        rng.setstate(saved["rng"])

    began = time.time() - 60 * minutes
    order: list[TrainingRow] = []
    progress = tqdm(
        range(first, settings.steps), initial=first, total=settings.steps, mininterval=20
    )
    running: dict[str, float] = {}
    for step in progress:
        if len(order) < settings.queries:
            order = rng.sample(rows, len(rows))
        batch = [order.pop() for _ in range(settings.queries)]
        low_rank.merge()
        loss, parts = step_loss(low_rank, encoder, batch, settings, rng)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(low_rank.parameters()), 1.0)
        optimizer.step()
        schedule.step()
        decay = min(0.995, (step + 1) / (step + 10))
        for name, value in low_rank.state().items():
            averaged[name].lerp_(value, 1 - decay)
        for name, number in parts.items():
            running[name] = 0.98 * running.get(name, number) + 0.02 * number
        progress.set_postfix({name: f"{number:.3f}" for name, number in running.items()})
        if (step + 1) % arguments.report_every == 0 or step + 1 == settings.steps:
            now = low_rank.state()
            torch.save(
                {
                    "state": now,
                    "averaged": averaged,
                    "step": step + 1,
                    "minutes": (time.time() - began) / 60,
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "rng": rng.getstate(),
                },
                checkpoint,
            )
            low_rank.load_state(averaged)
            figures = report(low_rank, encoder, held, settings)
            low_rank.load_state(now)
            minutes = (time.time() - began) / 60
            print(
                json.dumps({"step": step + 1, "minutes": round(minutes, 1), **running, **figures}),
                flush=True,
            )
    low_rank.load_state(averaged)
    save(low_rank, arguments, settings, {"minutes": round((time.time() - began) / 60, 1)})


class NetworkScorer:
    """The network in training as a pair scorer."""

    def __init__(self, network: LowRankNetwork, encoder: PairEncoder, settings: Settings) -> None:
        self.network = network
        self.encoder = encoder
        self.settings = settings

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Probabilities, one a document."""
        encoded, _ = self.encoder.encode([(query, document) for document in documents])
        with torch.inference_mode():
            logits = forward(self.network, self.encoder, encoded, self.settings.tokens_a_batch)
        return [float(score) for score in logits.sigmoid()]


def report(
    low_rank: LowRankNetwork, encoder: PairEncoder, rows: list[TrainingRow], settings: Settings
) -> dict[str, float]:
    return evaluate_lists(NetworkScorer(low_rank, encoder, settings), rows, BalancedMask())


def save(
    low_rank: LowRankNetwork,
    arguments: argparse.Namespace,
    settings: Settings,
    measured: dict[str, Any],
) -> None:
    low_rank.save(arguments.output, HUB_ID)
    description = {
        "base_model": HUB_ID,
        "base_fingerprint": base_fingerprint(),
        "max_length": settings.max_length,
        "training": settings.to_dict(),
        "measured": measured,
    }
    (arguments.output / "ranker.json").write_text(
        json.dumps(description, indent=2) + "\n", encoding="utf-8"
    )


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--rows", type=Path, required=True)
    made.add_argument("--output", type=Path, required=True)
    made.add_argument("--steps", type=int, default=Settings.steps)
    made.add_argument("--lr", type=float, default=Settings.learning_rate)
    made.add_argument("--temperature", type=float, default=Settings.temperature)
    made.add_argument("--negatives", type=int, default=Settings.negatives)
    made.add_argument("--rank", type=int, default=32)
    made.add_argument("--full", action="store_true", help="train all weights, no adapter")
    made.add_argument(
        "--start-from", type=Path, default=WEIGHTS / "reader" / "adapter_model.safetensors"
    )
    made.add_argument("--held-articles", type=int, default=2)
    made.add_argument("--watch", type=int, default=60, help="held-out lists to report on")
    made.add_argument("--report-every", type=int, default=200)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--resume", action="store_true")
    return made


def main(arguments: list[str] | None = None) -> None:
    train(parser().parse_args(arguments))


if __name__ == "__main__":
    main()
