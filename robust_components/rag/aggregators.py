"""The aggregations by name."""

from __future__ import annotations

from typing import Any

from robust_components.rag.decoding_plan import DecodingAggregator
from robust_components.rag.keyword_aggregation import Threshold
from robust_components.rag.keyword_plan import KeywordAggregator
from robust_components.rag.keywords import KeywordExtractor, default_keywords
from robust_components.rag.outcome import Aggregator
from robust_components.rag.voting_plan import VotingAggregator


def make_aggregator(aggregation: str, **options: Any) -> Aggregator:
    """The aggregator of that name.

    Raises:
        ValueError: no such aggregation, or an option outside its range.
    """
    threshold = Threshold.from_decimals(options["alpha"], options["beta"])
    decoding = DecodingAggregator(**options["decoding"])
    if options["long_form"] and aggregation != "keyword":
        raise ValueError(
            f"long_form=True goes with aggregation='keyword', got {aggregation!r}; leave it out"
        )
    if aggregation == "voting":
        return VotingAggregator(options["choices"])
    if aggregation == "keyword":
        return KeywordAggregator(
            threshold,
            _extractor(options["keyword_extractor"], options["long_form"]),
            options["max_optional_keywords"],
            options["max_final_calls"],
        )
    if aggregation == "decoding":
        return decoding
    raise ValueError(
        f"aggregation must be 'voting', 'keyword' or 'decoding', got {aggregation!r}; choose one"
    )


def _extractor(extractor: Any, long_form: bool) -> KeywordExtractor:
    if extractor is None:
        return default_keywords(single_words=not long_form)
    if not callable(getattr(extractor, "extract", None)):
        raise TypeError(
            f"keyword_extractor must have extract(text) -> frozenset of words, got {extractor!r}; "
            "pass None for spaCy"
        )
    return extractor  # type: ignore[no-any-return]
