"""A classifier over the mean of an encoder's token states, as sentence encoders pool them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Logits:
    """What the network returns: float (rows, labels)."""

    logits: Tensor


class PooledNetwork(nn.Module):
    """``bert`` without its pooler, mean over the row's tokens, one linear layer ``classifier``.

    Args:
        bert: an encoder with ``last_hidden_state``.
        labels: number of labels.
    """

    def __init__(self, bert: Any, labels: int) -> None:
        super().__init__()
        self.bert = bert
        self.config = bert.config
        self.config.num_labels = labels
        self.classifier = nn.Linear(bert.config.hidden_size, labels)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> Logits:
        states = self.bert(attention_mask=attention_mask, **inputs).last_hidden_state
        kept = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * kept).sum(1) / kept.sum(1)
        return Logits(self.classifier(mean))


def fresh_network(base: str, labels: int, attention: str = "eager") -> PooledNetwork:
    """The base encoder in float32 with a head that has not been trained."""
    from transformers import AutoModel

    bert = AutoModel.from_pretrained(
        base, add_pooling_layer=False, attn_implementation=attention, dtype=torch.float32
    )
    return PooledNetwork(bert, labels)
