"""Haystack rankers for tests; the fixture `toy_rankers` imports them where YAML may name them."""

from __future__ import annotations

from typing import Any

from haystack import Document, component, default_to_dict


def overlap(query: str, text: str | None) -> float:
    """Share of the query's words in the text, in [0, 1]."""
    wanted = query.lower().split()
    return sum(word in (text or "").lower().split() for word in wanted) / len(wanted)


@component
class OverlapRanker:
    """Point-wise; keeps a record of what is done to it."""

    def __init__(
        self,
        top_k: int | None = 10,
        score_threshold: float | None = None,
        scale_score: bool = False,
        offset: float = 0.0,
    ) -> None:
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.scale_score = scale_score
        self.offset = offset
        self.events: list[str] = []
        self.seen: list[tuple[str, str | None]] = []

    def to_dict(self) -> dict[str, Any]:
        return default_to_dict(
            self,
            top_k=self.top_k,
            score_threshold=self.score_threshold,
            scale_score=self.scale_score,
            offset=self.offset,
        )

    def warm_up(self) -> None:
        self.events.append("warm_up")

    async def warm_up_async(self) -> None:
        self.events.append("warm_up_async")

    def close(self) -> None:
        self.events.append("close")

    async def close_async(self) -> None:
        self.events.append("close_async")

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        self.seen += [(query, document.content) for document in documents]
        scores = [overlap(query, document.content) + self.offset for document in documents]
        if self.scale_score:  # over the candidates, as an attacker likes it
            low, high = min(scores), max(scores)
            scores = [(score - low) / ((high - low) or 1.0) for score in scores]
        scored = [
            Document(id=document.id, content=document.content, score=score)
            for document, score in zip(documents, scores, strict=True)
        ]
        scored.sort(key=lambda document: -(document.score or 0.0))
        return {"documents": scored[: self.top_k if top_k is None else top_k]}


@component
class ForgetfulRanker:
    """Returns one document, whatever it is asked."""

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document]) -> dict[str, list[Document]]:
        return {"documents": [Document(id=documents[0].id, score=0.5)]}
