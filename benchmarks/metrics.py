"""How much of a reference text an answer covers; both count the words of the normalised answer."""

from __future__ import annotations

from collections import Counter

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer

from robust_components.answers import normalise_answer


class _Words(Tokenizer):  # type: ignore[misc]
    def tokenize(self, text: str) -> list[str]:
        return normalise_answer(text).split()


_ROUGE = RougeScorer(["rougeL"], tokenizer=_Words())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, counted with repetition; in [0, 1]."""
    left, right = (Counter(normalise_answer(text).split()) for text in (answer, reference))
    common = (left & right).total()
    return 2 * common / (left.total() + right.total()) if common else 0.0


def rouge_l(answer: str, reference: str) -> float:
    """ROUGE-L F: the same over the longest common subsequence; in [0, 1]."""
    return float(_ROUGE.score(reference, answer)["rougeL"].fmeasure)
