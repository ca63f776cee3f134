"""A classifier over the mean of an encoder's token states, as sentence encoders pool them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

WEIGHTS_FILE = "model.safetensors"


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
    """The base encoder in float32 with a head that has not been trained.

    Args:
        base: folder of a BERT model with ``model.safetensors``.
        labels: number of labels.
        attention: implementation, as Hugging Face names it.
    """
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(base, attn_implementation=attention)
    bert = BertModel(config, add_pooling_layer=False)
    state = {key: value.float() for key, value in load_file(Path(base) / WEIGHTS_FILE).items()}
    bert.load_state_dict({key: state[key] for key in bert.state_dict()})
    return PooledNetwork(bert, labels)
