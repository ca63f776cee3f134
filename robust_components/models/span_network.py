"""The network behind the extractive reader: one distribution over {no answer} and all short spans.

A BERT-style encoder reads ``[CLS] question [SEP] passage [SEP]`` (token types 0 and 1). A span
``(i, j)`` of the passage has the logit ``start_i + end_j + <left_i, right_j>``, "no answer" has a
logit read at ``[CLS]``; one softmax over all of them gives the span distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAIR_DIMENSION = 64
NEVER = -1e9


class SpanNetwork(nn.Module):
    """Scores every span of at most ``max_answer_tokens`` word pieces, and "no answer".

    Args:
        encoder: a module returning ``last_hidden_state`` of shape (batch, length, hidden).
        hidden_size: width of ``last_hidden_state``.
        max_answer_tokens: longest span, in word pieces.
    """

    def __init__(self, encoder: nn.Module, hidden_size: int, max_answer_tokens: int = 30) -> None:
        super().__init__()
        self.encoder = encoder
        self.max_answer_tokens = max_answer_tokens
        self.boundaries = nn.Linear(hidden_size, 2)
        self.pair = nn.Linear(hidden_size, 2 * PAIR_DIMENSION)
        self.no_answer = nn.Linear(hidden_size, 1)

    def head_state(self) -> dict[str, Tensor]:
        """Weights of everything but the encoder, for saving beside an adapter."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("encoder.")}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        can_start: Tensor,
        can_end: Tensor,
    ) -> Tensor:
        """Return log-probabilities of shape (batch, 1 + length * length).

        Column 0 is "no answer"; column ``1 + i * length + j`` is the span of positions i..j.
        ``can_start`` and ``can_end`` are boolean (batch, length): word boundaries of the passage.
        """
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state.float()
        with torch.autocast(hidden.device.type, enabled=False):
            start, end = self.boundaries(hidden).unbind(-1)
            left, right = self.pair(hidden).chunk(2, dim=-1)
            spans = left @ right.transpose(1, 2) / PAIR_DIMENSION**0.5
            spans = spans + start.unsqueeze(2) + end.unsqueeze(1)
            length = spans.shape[1]
            position = torch.arange(length, device=spans.device)
            distance = position.unsqueeze(0) - position.unsqueeze(1)
            allowed = (distance >= 0) & (distance < self.max_answer_tokens)
            allowed = allowed & can_start.unsqueeze(2) & can_end.unsqueeze(1)
            spans = spans.masked_fill(~allowed, NEVER)
            logits = torch.cat([self.no_answer(hidden[:, 0]), spans.flatten(1)], dim=1)
            return torch.log_softmax(logits, dim=1)
