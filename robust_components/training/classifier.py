r"""Train a classifier on masked copies: ``robust-components train classifier``.

    robust-components train classifier --rows train.tsv --dev dev.tsv --output DIR

See robust_components.training.classifier_loss for the loss. The output is an adapter over
all-MiniLM-L6-v2, for ``load_classifier(DIR)``.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import hashlib
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoTokenizer

from robust_components.models.classifier_models import load_classifier
from robust_components.models.embedded import HUB_ID, base_fingerprint, base_path
from robust_components.models.pooled_network import fresh_network
from robust_components.models.text_classifier import TransformersTextClassifier
from robust_components.models.text_encoding import TextEncoder
from robust_components.smoothing import BalancedMask
from robust_components.training.classifier_choice import GOALS, Choice, choose
from robust_components.training.classifier_data import LabelledText, hold_out, read_texts
from robust_components.training.classifier_loss import Settings, step_loss
from robust_components.training.classifier_metrics import evaluate_texts
from robust_components.training.classifier_options import DESCRIPTION, PIECES, add_options
from robust_components.training.low_rank import LowRankNetwork
from robust_components.training.steps import Draws, Steps, usual_rate, write_checkpoint

DECAY = 0.99
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
    settings = chosen_settings(arguments)
    rows, labels = read_texts(arguments.rows, arguments.names)
    rows, held = hold_out(rows, arguments.held_out)
    if len(rows) < settings.texts:
        raise ValueError(
            f"{arguments.rows} leaves {len(rows)} rows to train on, fewer than --texts "
            f"{settings.texts} of a step; pass more rows or fewer texts"
        )
    dev = [] if arguments.dev is None else read_texts(arguments.dev, labels)[0]
    print(f"{len(rows)} rows, {len(held)} held out to watch, {len(dev)} for the report", flush=True)
    masks = deployable(arguments, settings)
    factors = arguments.head_factor or [1.0]
    if (len(masks) * len(factors) > 1 or arguments.balance) and not held:
        raise ValueError(
            "--head-factor, --deploy and --balance are chosen on the rows held out; pass one of "
            "the former and not the latter, or --held-out 200"
        )
    training = Training(settings, labels, arguments.checkpoint)
    if arguments.start_from is not None:
        training.start_from(arguments.start_from)
    training.run(rows, held, arguments.report_every)
    folder = arguments.output
    measured: dict[str, Any] = {"minutes": round(training.minutes(), 1)}
    goals = arguments.goals or GOALS
    choice = choose(training.classifier(), held, masks, factors, goals, balance=arguments.balance)
    training.deploy(choice)
    measured |= {"head_factor": choice.factor, "head_shift": choice.shift}
    training.save(folder, arguments.name or folder.name, measured)
    if dev or held:
        what = "dev" if dev else "held_out"
        found = evaluate_texts(load_classifier(folder), dev or held, choice.mechanism)
        measured[what] = {"texts": len(dev or held), **found}
        training.describe(folder, arguments.name or folder.name, measured)
        print(table(found), flush=True)


def chosen_settings(arguments: argparse.Namespace) -> Settings:
    """Settings from the options; what is not named keeps its default.

    Raises:
        ValueError: a number is outside its range.
    """
    named = {
        name: getattr(arguments, name)
        for name in (
            *("steps", "texts", "partitions", "temperature"),
            *("plain_weight", "plain_share", "copy_weight", "dropout", "rank"),
        )
    }
    named["learning_rate"] = arguments.lr
    for name in ("blocks", "spans", "radii"):
        value = getattr(arguments, name)
        named[name] = None if value is None else tuple(value)
    if named["spans"] is not None:
        named["spans"] = tuple(None if span == PIECES else span for span in named["spans"])
    elif named["blocks"] is not None:
        named["spans"] = (1,) * len(named["blocks"])
    chosen = {name: value for name, value in named.items() if value is not None}
    settings = Settings(seed=arguments.seed, **chosen)
    for name in ("steps", "texts", "rank"):
        if getattr(settings, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(settings, name)}")
    if min(settings.blocks) < 2:
        raise ValueError(f"--blocks must be at least 2, got {min(settings.blocks)}")
    if len(settings.spans) != len(settings.blocks):
        raise ValueError(
            f"--spans must be one number for each of --blocks {list(settings.blocks)}, got "
            f"{list(settings.spans)}"
        )
    if not settings.temperature > 0:
        raise ValueError(f"--temperature must be above 0, got {settings.temperature}; try 0.15")
    if not 0 < settings.plain_share <= 1:
        raise ValueError(f"--plain-share must be in (0, 1], got {settings.plain_share}")
    if not 0 <= settings.dropout < 1:
        raise ValueError(f"--dropout must be in [0, 1), got {settings.dropout}; try 0.1")
    for factor in arguments.head_factor or ():
        if not 0 < factor < math.inf:
            raise ValueError(f"--head-factor must be above 0, got {factor}; try 1 3 6")
    if min(settings.radii) < 0:
        raise ValueError(f"--radii must be at least 0, got {min(settings.radii)}")
    for span in settings.spans:
        BalancedMask(settings.blocks[0], settings.partitions, span=span)  # checks both
    return settings


def deployable(arguments: argparse.Namespace, settings: Settings) -> list[BalancedMask]:
    """The masks to choose from after training."""
    if min(arguments.deploy or [2]) < 2:
        raise ValueError(f"--deploy must be at least 2, got {min(arguments.deploy)}")
    usual = settings.deployed()
    return [dataclasses.replace(usual, blocks=n) for n in arguments.deploy or [usual.blocks]]


class Training:
    """One run over the embedded base: network, optimiser, averaged weights.

    Args:
        settings: hyper-parameters.
        labels: names of the labels.
        checkpoint: file to go on from, if it is there, and to keep; ``None`` keeps nothing.
    """

    def __init__(
        self, settings: Settings, labels: tuple[str, ...], checkpoint: Path | None = None
    ) -> None:
        self.settings = settings
        self.checkpoint = checkpoint
        self.mechanism = settings.deployed()
        self.labels = labels
        self.network = fresh_network(base_path(), len(labels))
        self.tokenizer = AutoTokenizer.from_pretrained(base_path())
        self.encoder = TextEncoder(self.tokenizer, settings.max_length)
        self.low_rank = LowRankNetwork(
            self.network, "bert", settings.rank, dropout=settings.dropout
        )
        self.rng = random.Random(settings.seed)
        self.began = time.time()

    def start_from(self, folder: Path) -> None:
        """Begin with the adapter and head of an earlier run of the same rank and labels.

        Raises:
            OSError: the folder lacks a file.
            ValueError: they do not fit.
        """
        self.low_rank.start_from(folder)

    def minutes(self) -> float:
        return (time.time() - self.began) / 60

    def run(
        self, rows: list[LabelledText], held: list[LabelledText], report_every: int = 200
    ) -> None:
        """Train to the end; the averaged weights are what stays."""
        settings, low_rank = self.settings, self.low_rank
        steps = Steps(
            low_rank.named(),
            learning_rate=settings.learning_rate,
            rate=usual_rate(settings.steps),
            steps=settings.steps,
            decay=DECAY,
        )
        draws = Draws(len(rows), settings.texts, self.rng)
        saved = self._stored(rows)
        if saved is not None:
            steps.load_state(saved)
            draws.order = saved["order"]
        for _ in steps.left():
            batch = [rows[i] for i in draws.next()]
            low_rank.merge()
            loss, parts = step_loss(low_rank, self.encoder, batch, settings, self.rng)
            steps.take(loss, parts)
            if steps.due(report_every):
                if self.checkpoint is not None:
                    self._store(self.checkpoint, steps, draws, rows)
                self._watch(steps.done, steps.averaged, held, steps.running)
        low_rank.load_state(steps.averaged)

    def _identity(self, rows: list[LabelledText]) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from."""
        digest = hashlib.sha256(repr((self.labels, rows)).encode("utf-8", "surrogatepass"))
        return {"settings": self.settings.to_dict(), "rows": digest.hexdigest()}

    def _store(
        self, checkpoint: Path, steps: Steps, draws: Draws, rows: list[LabelledText]
    ) -> None:
        kept = {
            **steps.state(),
            **self._identity(rows),
            "minutes": self.minutes(),
            "order": draws.order,
            "rng": self.rng.getstate(),
            "torch": torch.get_rng_state(),
        }
        write_checkpoint(checkpoint, kept)

    def _stored(self, rows: list[LabelledText]) -> dict[str, Any] | None:
        """The checkpoint to go on from, if there is one.

        Raises:
            ValueError: it is of other settings or rows.
        """
        if self.checkpoint is None or not self.checkpoint.is_file():
            return None
        saved: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        now = self._identity(rows)
        changed = [
            name for name in now["settings"] if saved["settings"].get(name) != now["settings"][name]
        ]
        changed += [name for name in ("rows",) if saved["rows"] != now["rows"]]
        if changed:
            raise ValueError(
                f"--checkpoint {self.checkpoint} is of another run: {', '.join(changed)} differ; "
                "repeat its options, or name a new file"
            )
        self.began = time.time() - 60 * saved["minutes"]
        self.rng.setstate(saved["rng"])
        torch.set_rng_state(saved["torch"])
        return saved

    def deploy(self, choice: Choice) -> None:
        """Take over the masks, multiply the head and shift it."""
        self.mechanism = choice.mechanism
        with torch.no_grad():
            for name, value in self.low_rank.whole.items():
                if name.startswith("classifier."):
                    value.mul_(choice.factor)
            if choice.shift is not None:
                self.low_rank.whole["classifier.bias"].add_(torch.tensor(choice.shift))
        self.low_rank.merge()

    def _watch(
        self,
        step: int,
        averaged: dict[str, Any],
        held: list[LabelledText],
        running: dict[str, float],
    ) -> None:
        found: dict[str, float] = {}
        if held:
            now = self.low_rank.state()
            self.low_rank.load_state(averaged)
            found = evaluate_texts(self.classifier(), held, self.settings.deployed())
            self.low_rank.load_state(now)
        seen = {name: round(value, 3) for name, value in running.items()}
        report = {"step": step, "minutes": round(self.minutes(), 1), **seen, **found}
        tqdm.write(json.dumps(report))

    def classifier(self) -> TransformersTextClassifier:
        """The network as it is now, in float32, as it will be deployed."""
        network = copy.deepcopy(self.network).float()
        network.load_state_dict(self.low_rank.merged_state())
        return TransformersTextClassifier(
            network,
            self.tokenizer,
            labels=self.labels,
            max_length=self.settings.max_length,
            tokens_a_batch=self.settings.tokens_a_batch,
        )

    def save(self, folder: Path, name: str, measured: dict[str, Any]) -> None:
        """Write adapter, head and description."""
        self.low_rank.save(folder, HUB_ID)
        self.describe(folder, name, measured)

    def describe(self, folder: Path, name: str, measured: dict[str, Any]) -> None:
        """Write how the classifier was made and what was measured."""
        description = {
            "name": name,
            "labels": list(self.labels),
            "base_model": HUB_ID,
            "base_fingerprint": base_fingerprint(),
            "max_length": self.settings.max_length,
            "mechanism": self.mechanism.to_dict(),
            "training": self.settings.to_dict(),
            "measured": measured,
        }
        text = json.dumps(description, indent=2) + "\n"
        (folder / "classifier.json").write_text(text, encoding="utf-8")


def table(found: dict[str, float]) -> str:
    """The report as text."""
    lines = [
        f"plain accuracy {found['plain']:.3f}",
        "certified against R words:  R=0   1     2     3",
    ]
    for votes in ("soft", "hard"):
        shares = " ".join(f"{found[f'{votes}_{r}']:.3f}" for r in range(4))
        lines.append(f"{votes + ' votes':27}{shares}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run ``python -m robust_components.training.classifier``."""
    parser = argparse.ArgumentParser(description=DESCRIPTION)
    add_options(parser)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
