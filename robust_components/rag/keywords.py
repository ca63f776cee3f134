"""Keywords of a response: content words and the phrases between stop words (paper, section 3.1)."""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

from robust_components.answers import normalise_answer

_FUNCTION_WORDS = frozenset({"ADP", "AUX", "CCONJ", "DET", "INTJ", "PART", "PRON", "SCONJ"})


@runtime_checkable
class KeywordExtractor(Protocol):
    """Turns one response into its set of keywords, reading that response alone."""

    def extract(self, text: str) -> frozenset[str]: ...


class SpacyKeywords:
    """Lower-cased lemmas of the content words, and each run of two or more of them as a phrase.

    Uses the trained pipeline ``pipeline`` when it is installed; otherwise a blank English pipeline
    with lookup lemmas, splitting at stop words. A response of stop words alone is its own keyword.

    Args:
        pipeline: name of a spaCy pipeline package.
        phrases: also return runs of content words.
        single_words: also return words on their own, and a response of stop words alone. Without
            them only phrases of several words count, as for long answers in the paper.
        max_characters: longer responses are cut, so that one response cannot exhaust memory.
    """

    def __init__(
        self,
        pipeline: str = "en_core_web_sm",
        *,
        phrases: bool = True,
        single_words: bool = True,
        max_characters: int = 20_000,
    ) -> None:
        if not (phrases or single_words):
            raise ValueError("phrases and single_words are both False; keep at least one")
        self.pipeline = pipeline
        self.phrases = phrases
        self.single_words = single_words
        self.max_characters = max_characters
        self._nlp: Any = None
        self._lock = threading.Lock()

    @property
    def description(self) -> str:
        self.load()
        pipeline = f"{self._nlp.meta.get('name') or 'blank'} {self._nlp.meta['lang']}"
        return pipeline if self.single_words else pipeline + ", phrases only"

    def load(self) -> None:
        """Load the pipeline; called by the first :meth:`extract`.

        Raises:
            ImportError: spaCy is not installed.
        """
        with self._lock:
            if self._nlp is not None:
                return
            if importlib.util.find_spec("spacy") is None:
                raise ImportError(
                    "keyword aggregation needs spaCy to extract keywords; install "
                    "'robust-components[spacy]' or pass keyword_extractor="
                )
            import spacy

            if spacy.util.is_package(self.pipeline):
                self._nlp = spacy.load(self.pipeline, exclude=["ner"])
                return
            nlp = spacy.blank("en")
            if importlib.util.find_spec("spacy_lookups_data") is not None:
                nlp.add_pipe("lemmatizer", config={"mode": "lookup"})
                nlp.initialize()
            self._nlp = nlp

    def extract(self, text: str) -> frozenset[str]:
        self.load()
        document = self._nlp(text[: self.max_characters])
        found: set[str] = set()
        for run in _content_runs(document):
            if self.single_words:
                found.update((token.lemma_ or token.text).lower() for token in run)
            if self.phrases and len(run) > 1:
                found.add(" ".join(document[run[0].i : run[-1].i + 1].text.lower().split()))
        if self.single_words and not found and text.strip():
            found.add(normalise_answer(text[: self.max_characters]))
        return frozenset(found)


def _is_content(token: Any) -> bool:
    if token.is_space or token.is_punct:
        return False
    if token.like_num:
        return True
    if token.is_stop:
        return False
    return token.pos_ not in _FUNCTION_WORDS


def _content_runs(document: Sequence[Any]) -> Iterator[list[Any]]:
    for content, tokens in groupby(document, key=_is_content):
        if content:
            yield list(tokens)


@functools.cache
def default_keywords(*, single_words: bool = True) -> SpacyKeywords:
    """One extractor of each kind for the whole process; spaCy pipelines are large."""
    return SpacyKeywords(single_words=single_words)
