"""How a ranker's logit changes with the words of a document, to first order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class WordGradients:
    """Derivatives of the logit of one pair by the embeddings of the document's words.

    Attributes:
        gradient: float32 (words, dimension), summed over a word's tokens; 0 for words that were
            cut.
        embedding: float32 (words, dimension), mean over a word's tokens.
    """

    gradient: torch.Tensor
    embedding: torch.Tensor

    @property
    def saliency(self) -> list[float]:
        """Length of each word's gradient."""
        return [float(length) for length in self.gradient.norm(dim=1)]


class Surrogate:
    """A Hugging Face ranker that gives gradients, the victim itself or one that imitates it.

    Args:
        scorer: a :class:`~robust_components.models.pair_scorer.TransformersPairScorer`, or an
            object that wraps one as ``scorer``.

    Raises:
        TypeError: it gives no gradients.
    """

    def __init__(self, scorer: Any) -> None:
        while not hasattr(scorer, "relevance") and hasattr(scorer, "scorer"):
            scorer = scorer.scorer
        if not hasattr(scorer, "relevance") or not hasattr(scorer, "encoder"):
            raise TypeError(
                f"{type(scorer).__name__} gives no gradients; pass surrogate=, a "
                "TransformersPairScorer that ranks like it"
            )
        self.scorer = scorer
        self._known: dict[str, torch.Tensor] = {}

    def words(self, query: str, words: Sequence[str]) -> WordGradients:
        """Gradients of the logit for ``query`` by the words of a document."""
        scorer = self.scorer
        (row,), _ = scorer.encoder.encode([(query, " ".join(words))])
        places = scorer.encoder.document_places(query, row)
        owners = scorer.encoder.word_of_token(words)[: len(places)]
        inputs = {
            key: torch.tensor(ids, device=scorer.device)
            for key, ids in scorer.encoder.pad([row]).items()
        }
        table = _table(scorer.network)
        shifts: list[torch.Tensor] = []

        def shift(module: Any, given: Any, output: torch.Tensor) -> torch.Tensor:
            if shifts:  # an encoder-decoder looks up what it writes too
                return output
            shifts.append(torch.zeros_like(output).requires_grad_())
            return output + shifts[0]

        hook = table.register_forward_hook(shift)
        try:
            with torch.enable_grad():
                logit = scorer.relevance(inputs).sum()
                (slopes,) = torch.autograd.grad(logit, shifts)
        finally:
            hook.remove()
        slopes = slopes[0, places.start : places.stop].float().cpu()
        gradient = torch.zeros(len(words), slopes.shape[1])
        gradient.index_add_(0, torch.tensor(owners, dtype=torch.long), slopes)
        return WordGradients(gradient, self.embeddings(words))

    def embeddings(self, words: Sequence[str]) -> torch.Tensor:
        """Float32 (words, dimension)."""
        return torch.stack([self.embedding(word) for word in words])

    def embedding(self, word: str) -> torch.Tensor:
        """Mean embedding of a word's tokens, float32 (dimension,)."""
        if word not in self._known:
            table = _table(self.scorer.network).weight.detach()
            ids = self.scorer.encoder.ids_of(word)
            rows = table[torch.tensor(ids or [self.scorer.encoder.pad_id], device=table.device)]
            self._known[word] = rows.float().mean(0).cpu()
        return self._known[word]


def _table(network: Any) -> Any:
    """The embeddings that a document's tokens are looked up in."""
    reads = network.get_encoder() if network.config.is_encoder_decoder else network
    return reads.get_input_embeddings()
