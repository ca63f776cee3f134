"""A Haystack ranker as the core's pair scorer, if it scores every document by itself."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

from haystack import Document

REFUSED = {
    "LLMRanker": "it shows all documents to a chat model in one prompt",
    "LostInTheMiddleRanker": "it orders documents by their place in the list and gives no scores",
    "MetaFieldRanker": "it ranks by metadata, not by the text that is masked",
    "MetaFieldGroupingRanker": "it groups by metadata and gives no scores",
    "SentenceTransformersDiversityRanker": "diversity scores a document by the others chosen",
    "PyversityRanker": "diversity scores a document by the others chosen",
}


class PointwiseRanker(Protocol):
    """A Haystack ranker: `run(query=..., documents=...)` returns `{"documents": [...]}`."""

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]: ...


class RankerScorer:
    """
    Scores texts with a Haystack ranker, asked for all of them and without their metadata.

    Whether it is point-wise is checked by name here, and by two probe texts before the first query.

    :param ranker: a ranker component.
    :raises TypeError: it has no `run(query, documents)`.
    :raises ValueError: it is known not to be point-wise, or filters or embeds metadata itself.
    """

    def __init__(self, ranker: Any) -> None:
        _check_pointwise_by_name(ranker)
        run = getattr(ranker, "run", None)
        accepted = inspect.signature(run).parameters if callable(run) else {}
        if not {"query", "documents"} <= set(accepted):
            raise TypeError(
                "ranker must be a Haystack ranker with run(query, documents), got "
                f"{type(ranker).__name__}; pass one, or a model name as model="
            )
        for name in ("score_threshold", "meta_fields_to_embed"):
            if getattr(ranker, name, None) not in (None, []):
                raise ValueError(
                    f"ranker must not have {name}={getattr(ranker, name)!r} of its own; set "
                    f"{name} on SmoothedRanker instead"
                )
        self.ranker = ranker
        self._takes_top_k = "top_k" in accepted
        model = getattr(ranker, "model", None)
        kind = type(ranker).__name__
        self.name = f"{kind}({model})" if isinstance(model, str) else kind
        self.fingerprint = "unknown"

    def score(self, query: str, documents: Sequence[str]) -> list[Any]:
        """
        The ranker's scores, one a text, in order.

        :raises ValueError: the ranker left documents out.
        """
        asked = [Document(id=str(i), content=text) for i, text in enumerate(documents)]
        limits = {"top_k": len(asked)} if self._takes_top_k else {}
        given = self.ranker.run(query=query, documents=asked, **limits)["documents"]
        scores = {document.id: document.score for document in given}
        missing = [document.content for document in asked if document.id not in scores]
        if missing:
            raise ValueError(
                f"{self.name} left out {len(missing)} of {len(asked)} documents, such as "
                f"{missing[0]!r}; a smoothed ranker needs a score for each: remove top_k and "
                "thresholds from the inner ranker"
            )
        return [scores[document.id] for document in asked]


def _check_pointwise_by_name(ranker: Any) -> None:
    for kind in type(ranker).__mro__:
        if kind.__name__ in REFUSED:
            raise ValueError(
                f"ranker must score every document by itself, and {kind.__name__} cannot be "
                f"certified: {REFUSED[kind.__name__]}; pass a cross-encoder, and place "
                f"{kind.__name__} elsewhere in the pipeline"
            )


async def warm_up_async(ranker: Any) -> None:
    """Warms up the inner ranker, if it can, on the serving event loop."""
    if hasattr(ranker, "warm_up_async"):
        await ranker.warm_up_async()
    elif hasattr(ranker, "warm_up"):
        ranker.warm_up()


async def close_async(ranker: Any) -> None:
    """Releases the inner ranker's resources, if it holds any, on the serving event loop."""
    if hasattr(ranker, "close_async"):
        await ranker.close_async()
    elif hasattr(ranker, "close"):
        ranker.close()
