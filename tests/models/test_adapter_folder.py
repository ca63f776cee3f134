"""Merged weights do not depend on the order in which a machine adds numbers up."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from safetensors.torch import load_file

from robust_components.models.adapter_folder import UPDATES
from robust_components.models.embedded import WEIGHTS


@pytest.mark.parametrize("kind", ["ranker", "sentiment", "topic"])
def test_products_of_shipped_updates_are_exact(kind):
    updates = load_file(WEIGHTS / kind / UPDATES)
    for key in [key for key in updates if ".lora_A." in key][::7]:
        down, up = updates[key], updates[key.replace(".lora_A.", ".lora_B.")]
        assert down.dtype == up.dtype == torch.float16
        order = torch.randperm(len(down), generator=torch.Generator().manual_seed(0))
        straight = up.double() @ down.double()
        assert torch.equal(straight, up[:, order].double() @ down[order].double())
