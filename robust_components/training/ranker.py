r"""Train a ranker on masked copies: ``robust-components train ranker``.

    robust-components train ranker --rows train.jsonl --dev dev.jsonl --output DIR

See robust_components.ranking.training for the loss. Without ``--base`` and ``--full`` the output is
an adapter over all-MiniLM-L6-v2, for ``load_ranker(DIR)``; otherwise an ordinary Hugging Face
folder. Either is a ``model=`` of the adapters. ``--resume`` goes on from the checkpoint beside DIR.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from robust_components.models.embedded import HUB_ID, WEIGHTS, base_fingerprint, base_path
from robust_components.models.pair_encoding import PairEncoder
from robust_components.models.pair_models import load_pair_scorer
from robust_components.models.pair_scorer import NOTES, TransformersPairScorer
from robust_components.ranking.evaluation import evaluate_lists
from robust_components.ranking.lists import TrainingRow
from robust_components.ranking.training import Settings, step_loss
from robust_components.smoothing import RandomMask, TermCoverage
from robust_components.training.low_rank import LowRankNetwork
from robust_components.training.ranker_data import training_rows
from robust_components.training.ranker_options import DESCRIPTION, add_options
from robust_components.training.ranker_report import (
    deployed,
    deployed_coverage,
    dev_rows,
    figures,
    table,
)
from robust_components.training.steps import Draws, Steps, usual_rate, write_checkpoint

READER = WEIGHTS / "reader" / "adapter_model.safetensors"
FULL_RATE = 5e-5
DECAY = 0.995
"""Of the average over steps that is kept in the end."""


def train(arguments: argparse.Namespace) -> None:
    """Train, save and report.

    Raises:
        ValueError: an option or a row is unusable; says which.
        OSError: a file or model cannot be read.
    """
    torch.manual_seed(arguments.seed)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    dev = dev_rows(arguments)
    rows, held = training_rows(arguments, dev)
    base = arguments.base or base_path()
    tokenizer = AutoTokenizer.from_pretrained(base)
    settings = chosen_settings(arguments, tokenizer)
    if len(rows) < settings.queries:
        raise ValueError(
            f"{arguments.rows} has {len(rows)} usable rows, fewer than --queries "
            f"{settings.queries} of a step; pass more rows or fewer queries"
        )
    network, has_head = load_base(base)
    print(f"{len(rows)} rows, {len(held)} held out to watch, {len(dev)} for the report", flush=True)
    if not has_head:
        print(
            "the base has no ranking head: figures without fine-tuning are those of a random one",
            flush=True,
        )
    training = Training(arguments, settings, network, tokenizer)
    if arguments.resume and training.checkpoint.is_file():
        training.load()
    if dev and training.before is None:
        scorer = TransformersPairScorer(network, tokenizer, max_length=settings.max_length)
        training.before = figures("before", scorer, dev, settings, arguments)
    training.run(rows, held)
    folder = arguments.output
    measured: dict[str, Any] = {
        "minutes": round(training.minutes(), 1),
        "base_had_a_head": has_head,
    }
    training.save(folder, measured)
    if dev and training.before is not None:
        after = figures("after", load_pair_scorer(str(folder)), dev, settings, arguments)
        measured["dev"] = {"lists": len(dev), "before": training.before, "after": after}
        training.describe(folder, measured)
        print(table(training.before, after), flush=True)


def load_base(base: str) -> tuple[Any, bool]:
    """The network to fine-tune, with one label, and whether its ranking head was trained before.

    Raises:
        ValueError: it has a head with more labels.
    """
    config = AutoConfig.from_pretrained(base)
    classifies = any("SequenceClassification" in name for name in config.architectures or [])
    if classifies and config.num_labels != 1:
        raise ValueError(
            f"--base {base} has {config.num_labels} labels; pass a cross-encoder with one label, "
            "or an encoder without a head"
        )
    network, found = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=1,
        attn_implementation="eager",
        dtype=torch.float32,
        output_loading_info=True,
    )
    return network, not found["missing_keys"]


def chosen_settings(arguments: argparse.Namespace, tokenizer: Any) -> Settings:
    """Settings from the options; what is not named keeps its default."""
    named = {
        "steps": arguments.steps,
        "queries": arguments.queries,
        "negatives": arguments.negatives,
        "temperature": arguments.temperature,
        "learning_rate": arguments.lr or (FULL_RATE if arguments.full else None),
        "plain_share": arguments.plain_share,
        "hardest": arguments.hardest,
        "coverage": arguments.coverage,
        "blocks": None if arguments.blocks is None else tuple(arguments.blocks),
        "radii": None if arguments.radii is None else tuple(arguments.radii),
    }
    longest = min(Settings.max_length, int(tokenizer.model_max_length))
    settings = Settings(
        seed=arguments.seed,
        mechanism=arguments.mechanism,
        mask_rate=arguments.mask_rate,
        mask_token=tokenizer.mask_token if arguments.mechanism == RandomMask.name else None,
        max_length=longest,
        **{name: value for name, value in named.items() if value is not None},
    )
    for name in ("steps", "queries", "negatives", "hardest"):
        if getattr(settings, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(settings, name)}")
    if min(settings.blocks) < 2:
        raise ValueError(f"--blocks must be at least 2, got {min(settings.blocks)}")
    if min(settings.radii) < 0:
        raise ValueError(f"--radii must be at least 0, got {min(settings.radii)}")
    if not 0 < settings.plain_share <= 1:
        raise ValueError(f"--plain-share must be in (0, 1], got {settings.plain_share}")
    if settings.coverage != "0":
        TermCoverage(settings.coverage)
        if settings.mechanism == RandomMask.name:
            raise ValueError("--coverage does not go with random_mask; leave it out")
    deployed(settings)  # checks the mask rate
    return settings


class Training:
    """One run: network, optimiser, averaged weights, checkpoint.

    Args:
        arguments: see :func:`add_options`.
        network: moved into a :class:`LowRankNetwork` when training begins.
    """

    def __init__(
        self, arguments: argparse.Namespace, settings: Settings, network: Any, tokenizer: Any
    ) -> None:
        self.arguments = arguments
        self.settings = settings
        self.network = network
        self.tokenizer = tokenizer
        pad_id = network.config.pad_token_id
        self.encoder = PairEncoder(tokenizer, settings.max_length, pad_id=pad_id)
        self.rng = random.Random(arguments.seed)
        self.checkpoint: Path = arguments.output.with_suffix(".checkpoint.pt")
        self.saved: dict[str, Any] | None = None
        self.before: dict[str, float] | None = None
        self.began = time.time()

    def minutes(self) -> float:
        return (time.time() - self.began) / 60

    def load(self) -> None:
        """Read the checkpoint, to go on from."""
        self.saved = torch.load(self.checkpoint, weights_only=False)
        kept, now = self.saved["settings"], self.settings.to_dict()
        changed = sorted(name for name in now if kept.get(name) != now[name])
        if changed:
            raise ValueError(
                f"--resume needs the settings of {self.checkpoint}, but {', '.join(changed)} "
                "changed; repeat them, or train anew without --resume"
            )
        self.before = self.saved["before"]
        self.began = time.time() - 60 * self.saved["minutes"]
        self.rng.setstate(self.saved["rng"])

    def run(self, rows: list[TrainingRow], held: list[TrainingRow]) -> None:
        """Train to the end; the averaged weights are what stays."""
        settings, arguments = self.settings, self.arguments
        self.low_rank = self._low_rank()
        steps = Steps(
            self.low_rank.named(),
            learning_rate=settings.learning_rate,
            rate=usual_rate(settings.steps),
            steps=settings.steps,
            decay=DECAY,
        )
        draws = Draws(len(rows), settings.queries, self.rng)
        if self.saved is not None:
            steps.load_state(self.saved)
            draws.order = self.saved.get("order", [])  # early checkpoints lack it
        progress = steps.left()
        for _ in progress:
            batch = [rows[i] for i in draws.next()]
            self.low_rank.merge()
            loss, parts = step_loss(self.low_rank, self.encoder, batch, settings, self.rng)
            steps.take(loss, parts)
            progress.set_postfix({name: f"{number:.3f}" for name, number in steps.running.items()})
            if steps.due(arguments.report_every):
                self._store(steps, draws)
                self._watch(steps, held)
        self.low_rank.load_state(steps.averaged)

    def _low_rank(self) -> LowRankNetwork:
        arguments = self.arguments
        body = self.network.base_model_prefix
        low_rank = LowRankNetwork(self.network, body, arguments.rank, full=arguments.full)
        start = arguments.start_from
        embedded = arguments.base is None and not arguments.full
        if start is None and embedded and arguments.rank == 32 and READER.is_file():
            start = READER
        if start is not None:
            low_rank.start_from(start)
        return low_rank

    def _store(self, steps: Steps, draws: Draws) -> None:
        kept = {
            **steps.state(),
            "settings": self.settings.to_dict(),
            "before": self.before,
            "minutes": self.minutes(),
            "order": draws.order,
            "rng": self.rng.getstate(),
        }
        write_checkpoint(self.checkpoint, kept)

    def _watch(self, steps: Steps, held: list[TrainingRow]) -> None:
        found: dict[str, float] = {}
        if held:
            now = self.low_rank.state()
            self.low_rank.load_state(steps.averaged)
            coverage = deployed_coverage(self.settings)
            mechanism = deployed(self.settings)
            found = evaluate_lists(self.scorer(), held, mechanism, coverage=coverage)
            self.low_rank.load_state(now)
        minutes = round(self.minutes(), 1)
        report = {"step": steps.done, "minutes": minutes, **steps.running, **found}
        tqdm.write(json.dumps(report))

    def scorer(self) -> TransformersPairScorer:
        """The network as it is now, in float32, as it will be deployed."""
        return TransformersPairScorer(
            self.trained_network(), self.tokenizer, max_length=self.settings.max_length
        )

    def trained_network(self) -> Any:
        """A float32 copy with the updates merged in."""
        network = copy.deepcopy(self.network).float()
        network.load_state_dict(self.low_rank.merged_state())
        network.config.dtype = torch.float32
        return network

    def save(self, folder: Path, measured: dict[str, Any]) -> None:
        """Write the ranker: an adapter over the embedded base, or a Hugging Face folder."""
        if self.arguments.base is None and not self.arguments.full:
            self.low_rank.save(folder, HUB_ID)
        else:
            self.trained_network().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
        self.describe(folder, measured)

    def describe(self, folder: Path, measured: dict[str, Any]) -> None:
        """Write how the ranker was made and what was measured."""
        adapter = self.arguments.base is None and not self.arguments.full
        coverage = deployed_coverage(self.settings)
        origin = {"base_model": HUB_ID, "base_fingerprint": base_fingerprint()}
        description = {
            **(origin if adapter else {"base_model": self.arguments.base or HUB_ID}),
            "max_length": self.settings.max_length,
            "coverage": None if coverage is None else coverage.to_dict(),
            "training": self.settings.to_dict(),
            "measured": measured,
        }
        name = "ranker.json" if adapter else NOTES
        text = json.dumps(description, indent=2) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run ``python -m robust_components.training.ranker``."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    add_options(parser)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
