"""The aggregations by name, and the options of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robust_components.checks import exact_decimal, positive_integer
from robust_components.rag.decoding_plan import DecodingAggregator
from robust_components.rag.keyword_aggregation import Threshold
from robust_components.rag.keyword_plan import KeywordAggregator
from robust_components.rag.keywords import KeywordExtractor, default_keywords
from robust_components.rag.outcome import Aggregator
from robust_components.rag.voting_plan import VotingAggregator

OPTIONS: dict[str, dict[str, Any]] = {
    "voting": {"choices": None},
    "keyword": {
        "alpha": 0.3,
        "beta": 3,
        "keyword_extractor": None,
        "long_form": False,
        "max_optional_keywords": 12,
        "max_final_calls": 256,
    },
    "decoding": {
        "gamma": None,
        "eta": 0,
        "max_tokens": 64,
        "numerical_margin": "0.000001",
        "max_branches": 64,
    },
}
"""Options of each aggregation with their defaults."""


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    try:
        return exact_decimal("value", value, "") == exact_decimal("default", default, "")
    except ValueError:
        return type(value) is type(default) and bool(value == default)


def make_aggregator(aggregation: str, *, abstention: str, **options: Any) -> Aggregator:
    """The aggregator of that name.

    Args:
        aggregation: a key of ``OPTIONS``.
        abstention: text returned in place of an answer.
        options: options of all aggregations; those of others must have their defaults.

    Raises:
        ValueError: no such aggregation, an option outside its range, or one of another aggregation.
        TypeError: an option of the wrong type.
    """
    if not isinstance(aggregation, str) or aggregation not in OPTIONS:
        raise ValueError(
            f"aggregation must be 'voting', 'keyword' or 'decoding', got {aggregation!r}; "
            "choose one"
        )
    for other, defaults in OPTIONS.items():
        for name, default in defaults.items():
            value = options[name]
            if other != aggregation and not _same(value, default):
                raise ValueError(
                    f"{name}={value!r} goes with aggregation={other!r}, got {aggregation!r}; "
                    "leave it out"
                )
    own = {name: options[name] for name in OPTIONS[aggregation]}
    if aggregation == "voting":
        return VotingAggregator(own["choices"])
    if aggregation == "keyword":
        return KeywordAggregator(
            Threshold.from_decimals(own["alpha"], own["beta"]),
            _extractor(own["keyword_extractor"], own["long_form"]),
            positive_integer("max_optional_keywords", own["max_optional_keywords"], 0),
            positive_integer("max_final_calls", own["max_final_calls"]),
        )
    return DecodingAggregator(abstention=abstention, **own)


class FunctionKeywords:
    """A function as a keyword extractor.

    Args:
        function: gives the keywords of one response, in any iterable.
    """

    def __init__(self, function: Callable[[str], Any]) -> None:
        self.function = function
        module, name = (getattr(function, part, "") for part in ("__module__", "__qualname__"))
        self.description = f"{module}.{name}" if module and name else type(function).__name__

    def extract(self, text: str) -> frozenset[str]:
        words = self.function(text)
        if isinstance(words, str):
            raise TypeError(f"keywords must be a collection of texts, got the text {words!r}")
        return frozenset(words)


def _extractor(extractor: Any, long_form: bool) -> KeywordExtractor:
    if extractor is None:
        return default_keywords(single_words=not long_form)
    if callable(getattr(extractor, "extract", None)):
        return extractor  # type: ignore[no-any-return]
    if callable(extractor) and not isinstance(extractor, type):
        return FunctionKeywords(extractor)
    raise TypeError(
        "keyword_extractor must be a function from a text to its keywords, or have "
        f"extract(text), got {extractor!r}; pass None for spaCy"
    )
