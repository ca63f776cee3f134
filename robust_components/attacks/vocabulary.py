"""Words an attacker would use: from the query, from documents above, near in an embedding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any


def content_words(text: str) -> list[str]:
    """Distinct words of ``text`` in order, without punctuation at their ends."""
    stripped = (re.sub(r"^\W+|\W+$", "", word) for word in text.split())
    return list(dict.fromkeys(word for word in stripped if word))


def distinctive_words(query: str, above: Sequence[str], count: int) -> list[str]:
    """Up to ``count`` words: of the query, the longest first, then the commonest long words of the
    documents in ``above``."""
    wanted = sorted(content_words(query), key=lambda word: (-len(word), word))
    counts = Counter(word for text in above for word in content_words(text) if len(word) > 4)
    common = sorted(counts, key=lambda word: (-counts[word], word))
    return list(dict.fromkeys([*wanted, *common]))[:count]


def embedding_neighbours(scorer: Any, count: int = 8) -> Callable[[str], list[str]]:
    """Neighbours of a word in the input embeddings of a Hugging Face ranker.

    Args:
        scorer: has ``network`` and ``tokenizer``, as
            :class:`~robust_components.models.pair_scorer.TransformersPairScorer`.
        count: neighbours a word.

    Returns:
        A function from a word to its nearest whole words by cosine; none for words of several
        pieces.
    """
    import torch

    weights = scorer.network.get_input_embeddings().weight.detach().float()
    unit = torch.nn.functional.normalize(weights, dim=1)
    pieces = scorer.tokenizer.convert_ids_to_tokens(range(len(weights)))
    whole: list[int] = [i for i, piece in enumerate(pieces) if piece and piece.isalpha()]
    ids = {pieces[i]: i for i in whole}
    rows = unit[torch.tensor(whole)]

    def near(word: str) -> list[str]:
        at = ids.get(word.lower().strip(".,;:!?()\"'"))
        if at is None:
            return []
        best = (rows @ unit[at]).topk(min(count + 1, len(whole))).indices.tolist()
        return [pieces[whole[i]] for i in best if whole[i] != at][:count]

    return near
