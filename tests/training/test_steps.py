"""Steps of the trainers: against the loop written out, and gone on from a checkpoint."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("torch")

import torch

from robust_components.training.steps import Draws, Steps, usual_rate, write_checkpoint

NUMBER = 30


def network():
    torch.manual_seed(3)
    return torch.nn.Linear(4, 2)


def loss_of(model, step):
    inputs = torch.arange(8.0).reshape(2, 4) * (step % 5 - 2)
    return model(inputs).square().sum()


def steps_of(model):
    return Steps(
        model.named_parameters(),
        learning_rate=0.05,
        rate=usual_rate(NUMBER),
        steps=NUMBER,
        decay=0.9,
    )


def test_steps_are_those_of_the_loop_written_out():
    model, other = network(), network()
    steps = steps_of(model)
    for step in steps.left():
        loss = loss_of(model, step)
        steps.take(loss, {"loss": loss.item()})
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.05, weight_decay=0.01)
    averaged = {name: value.detach().clone() for name, value in other.named_parameters()}
    running = None
    for step in range(NUMBER):
        optimizer.param_groups[0]["lr"] = 0.05 * min(step + 1, max(0.02, 1 - step / NUMBER))
        loss = loss_of(other, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(other.parameters(), 1.0)
        optimizer.step()
        share = 1 - min(0.9, (step + 1) / (step + 10))
        for name, value in other.named_parameters():
            averaged[name].lerp_(value.detach(), share)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
    for name, value in other.named_parameters():
        assert torch.allclose(dict(model.named_parameters())[name], value, atol=1e-6)
        assert torch.allclose(steps.averaged[name], averaged[name], atol=1e-6)
        assert not torch.equal(averaged[name], dict(network().named_parameters())[name])
    assert steps.running["loss"] == pytest.approx(running)
    assert steps.done == NUMBER


@pytest.mark.parametrize("stop", [1, 11, NUMBER])
def test_a_run_goes_on_from_its_checkpoint(stop, tmp_path):
    whole = network()
    steps = steps_of(whole)
    for step in steps.left():
        steps.take(loss_of(whole, step), {})
        if steps.done == stop:
            write_checkpoint(tmp_path / "new" / "state.pt", steps.state())
    model = network()
    again = steps_of(model)
    again.load_state(torch.load(tmp_path / "new" / "state.pt", weights_only=True))
    assert again.done == stop
    for step in again.left():
        again.take(loss_of(model, step), {})
    for name, value in steps.averaged.items():
        assert torch.equal(again.averaged[name], value)
        assert torch.equal(
            dict(model.named_parameters())[name], dict(whole.named_parameters())[name]
        )
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state.pt"]


def test_reports_are_due_now_and_then_and_at_the_end():
    model = network()
    steps = steps_of(model)
    due = []
    for step in steps.left():
        steps.take(loss_of(model, step), {})
        due += [steps.done] if steps.due(7) else []
    assert due == [7, 14, 21, 28, 30]


def test_every_row_is_drawn_once_a_round():
    draws = Draws(7, 3, random.Random(0))
    rounds = [draws.next() + draws.next() for _ in range(4)]
    for drawn in rounds:
        assert len(set(drawn)) == 6
        assert set(drawn) <= set(range(7))
    assert len({tuple(drawn) for drawn in rounds}) == 4
