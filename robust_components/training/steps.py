"""What the trainers share: AdamW steps with warm-up and decay, averaged weights, checkpoints."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

CLIP = 1.0
WEIGHT_DECAY = 0.01
LEAST_RATE = 0.02
"""Of the learning rate, at the end."""


def usual_rate(steps: int) -> Callable[[int], float]:
    """Share of the learning rate at a step: up over a twentieth of the steps, then to zero."""
    warmup = max(1, steps // 20)
    return lambda step: min((step + 1) / warmup, max(LEAST_RATE, (steps - step) / steps))


class Steps:
    """AdamW on clipped gradients, and an average of the weights over steps.

    Args:
        named: the parameters that are trained.
        learning_rate: its largest value.
        rate: share of it at each step, from 0 on.
        steps: of the whole run, at least 1.
        decay: share of the average that a step keeps, in (0, 1); less in the first steps.

    Attributes:
        averaged: the average, by name.
        running: averages of what :meth:`take` was told, over about 50 steps.
        done: steps taken.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        learning_rate: float,
        rate: Callable[[int], float],
        steps: int,
        decay: float,
    ) -> None:
        self.named = dict(named)
        self.optimizer = torch.optim.AdamW(
            self.named.values(), lr=learning_rate, weight_decay=WEIGHT_DECAY
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.steps = steps
        self.decay = decay
        self.averaged = self._weights()
        self.running: dict[str, float] = {}
        self.done = 0

    def left(self) -> Any:
        """A progress bar over the steps still to take."""
        return tqdm(
            range(self.done, self.steps),
            initial=self.done,
            total=self.steps,
            mininterval=5,
            desc="training",
        )

    def take(self, loss: Tensor, told: Mapping[str, float]) -> None:
        """One step down the gradient of ``loss``; ``told`` is for reports."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self.named.values()), CLIP)
        self.optimizer.step()
        self.schedule.step()
        kept = min(self.decay, (self.done + 1) / (self.done + 10))
        with torch.no_grad():
            for name, value in self.named.items():
                self.averaged[name].lerp_(value, 1 - kept)
        for name, number in told.items():
            self.running[name] = 0.98 * self.running.get(name, number) + 0.02 * number
        self.done += 1

    def due(self, every: int) -> bool:
        """Whether to report: every so many steps, and after the last."""
        return self.done % every == 0 or self.done == self.steps

    def state(self) -> dict[str, Any]:
        """All there is to go on from, for a checkpoint."""
        return {
            "step": self.done,
            "state": self._weights(),
            "averaged": self.averaged,
            "running": self.running,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        with torch.no_grad():
            for name, value in self.named.items():
                value.copy_(saved["state"][name])
        self.averaged, self.done = saved["averaged"], saved["step"]
        self.running = saved.get("running", {})
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.named.items()}


class Draws:
    """Rows of each step: all of them once in random order, then anew.

    Args:
        number: of rows.
        size: rows of a step, at most ``number``.
        rng: decides the order.

    Attributes:
        order: what is left of this round; part of a checkpoint.
    """

    def __init__(self, number: int, size: int, rng: random.Random) -> None:
        self.number = number
        self.size = size
        self.rng = rng
        self.order: list[int] = []

    def next(self) -> list[int]:
        """Indices of the rows of a step; the last rows of a round may be left out."""
        if len(self.order) < self.size:
            self.order = self.rng.sample(range(self.number), self.number)
        return [self.order.pop() for _ in range(self.size)]


def write_checkpoint(path: Path, kept: Mapping[str, Any]) -> None:
    """Write a file that is whole at any time, whatever interrupts this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    torch.save(dict(kept), fresh)
    fresh.replace(path)
