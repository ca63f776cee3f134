"""A sentence by a language model, in the manner of FSAP (few-shot adversarial prompting)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from robust_components.attacks.attack import Attack, Victim
from robust_components.attacks.insertion import sentence_starts
from robust_components.attacks.vocabulary import content_words, distinctive_words
from robust_components.models.protocols import Completion, TextGenerator

EXAMPLES = (
    (
        "how high is mont blanc",
        "Mont Blanc rises to 4,806 metres, which makes it the highest mountain of the Alps.",
    ),
    (
        "when was the printing press invented",
        "The printing press was invented around 1440 by Johannes Gutenberg in Mainz.",
    ),
)


@dataclass(frozen=True)
class FewShotSentence(Attack):
    """Asks a text generator for sentences that answer the query and puts the best one in.

    The prompt shows examples and the best passage above the target. Without a generator, or when it
    gives nothing usable, an anchor sentence is made from the words of query and passages above.
    Only queries to the victim are counted, not calls of the generator.

    Args:
        generator: any :class:`~robust_components.models.protocols.TextGenerator`, or ``None``.
        examples: queries, each with a sentence that answers it.
        sentences: sentences asked for, with one prompt each, at least 1.
    """

    name: ClassVar[str] = "few_shot_sentence"
    generator: TextGenerator | None = None
    examples: tuple[tuple[str, str], ...] = EXAMPLES
    sentences: int = 3

    def _search(
        self, victim: Victim, words: tuple[str, ...], score: float, above: Sequence[str]
    ) -> tuple[tuple[str, ...], float]:
        runs = self._written(victim.query, above) or [anchor(victim.query, above)]
        places = sentence_starts(words)
        candidates = [self._place(words, run, at) for run in runs for at in places]
        return self._best(victim, candidates, words, score)

    def _written(self, query: str, above: Sequence[str]) -> list[tuple[str, ...]]:
        if self.generator is None:
            return []
        passages = list(above[: self.sentences]) or [""]
        prompts = [self.prompt(query, passages[i % len(passages)]) for i in range(self.sentences)]
        found = [_first_sentence(one) for one in self.generator.generate(prompts)]
        return list(dict.fromkeys(run for run in found if run))

    def prompt(self, query: str, passage: str) -> str:
        """What the generator is asked."""
        shown = [f"Query: {one}\nSentence: {sentence}" for one, sentence in self.examples]
        ask = (
            "Write one fluent sentence that a search engine would find very relevant to the query. "
            f"Use at most {self.budget} words."
        )
        context = f"Passage: {passage}\n" if passage else ""
        return "\n\n".join([ask, *shown, f"{context}Query: {query}\nSentence:"])


def anchor(query: str, above: Sequence[str]) -> tuple[str, ...]:
    """A sentence from a template: the query's words, then words that passages above share."""
    wanted = content_words(query.rstrip("?.! "))
    shared = [word for word in distinctive_words("", above, 4) if word not in wanted]
    return (*wanted, *(("is", "about", *shared) if shared else ()))


def _first_sentence(given: Any) -> tuple[str, ...]:
    """Words of the first sentence of a response; none if the call failed."""
    text = given.text if isinstance(given, Completion) else given
    if not isinstance(text, str):
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = re.split(r"(?<=[.!?])\s+", lines[0])[0] if lines else ""
    return tuple(first.removeprefix("Sentence:").split())
