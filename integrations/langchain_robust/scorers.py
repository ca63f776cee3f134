"""LangChain rerankers and cross-encoders as the core's pair scorers, if they are point-wise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document

REFUSED = {
    "CrossEncoderReranker": "it gives no scores; pass its model instead",
    "DocumentCompressorPipeline": "its parts may drop or rewrite documents",
    "EmbeddingsFilter": "it drops documents; filter before or after ranking",
    "LLMChainExtractor": "it rewrites documents",
    "LLMChainFilter": "it drops documents; filter before or after ranking",
    "LLMLinguaCompressor": "it rewrites documents",
    "LLMListwiseRerank": "it shows all documents to a chat model in one prompt",
    "RankLLMRerank": "it shows several documents to a model in one prompt",
    "SmoothedRanker": "it is smoothed already",
}


def as_scorer(model: Any) -> Any:
    """``model`` as a pair scorer.

    Raises:
        TypeError: it is nothing that scores.
        ValueError: it is known not to be point-wise.
    """
    if isinstance(model, BaseDocumentCompressor):
        return CompressorScorer(model)
    if isinstance(model, BaseCrossEncoder):
        return LangChainCrossEncoderScorer(model)
    if callable(getattr(model, "score", None)):
        return model
    raise TypeError(
        "model must be a Hugging Face model name, a LangChain reranker or cross-encoder, or an "
        f"object with score(query, documents), got {type(model).__name__}; wrap a "
        "sentence_transformers.CrossEncoder in robust_components.models.cross_encoder."
        "CrossEncoderScorer"
    )


class LangChainCrossEncoderScorer:
    """A ``BaseCrossEncoder``, which scores a list of pairs."""

    fingerprint = "unknown"

    def __init__(self, model: BaseCrossEncoder) -> None:
        self.model = model
        self.name = _name(model)

    def score(self, query: str, documents: Sequence[str]) -> list[Any]:
        """The model's scores, one a document, in order."""
        return list(self.model.score([(query, document) for document in documents]))


class CompressorScorer:
    """A reranking ``BaseDocumentCompressor``, asked for every document, without their metadata.

    Raises:
        ValueError: it is known not to be point-wise.
    """

    fingerprint = "unknown"

    def __init__(self, compressor: BaseDocumentCompressor) -> None:
        for kind in type(compressor).__mro__:
            if kind.__name__ in REFUSED:
                raise ValueError(
                    f"{kind.__name__} cannot be certified: {REFUSED[kind.__name__]}; pass a "
                    "cross-encoder or a reranker that scores every document by itself"
                )
        self.compressor = compressor
        self.name = _name(compressor)

    def score(self, query: str, documents: Sequence[str]) -> list[Any]:
        """The reranker's ``relevance_score``, one a document, in order.

        Raises:
            ValueError: it left documents out, or gave no scores.
        """
        asked = [Document(text, metadata={"position": i}) for i, text in enumerate(documents)]
        compressor = self.compressor
        if "top_n" in type(compressor).model_fields:
            compressor = compressor.model_copy(update={"top_n": len(asked)})
        scores = {
            document.metadata.get("position"): document.metadata.get("relevance_score")
            for document in compressor.compress_documents(asked, query)
        }
        missing = [text for i, text in enumerate(documents) if scores.get(i) is None]
        if missing:
            raise ValueError(
                f"{self.name} gave no metadata['relevance_score'] for {len(missing)} of "
                f"{len(asked)} documents, such as {missing[0]!r}; a smoothed ranker needs a score "
                "for each"
            )
        return [scores[i] for i in range(len(asked))]


def _name(model: Any) -> str:
    """Class and model, as far as the model tells."""
    known = (getattr(model, name, None) for name in ("model_name", "model"))
    inner = next((value for value in known if isinstance(value, str)), None)
    kind = type(model).__name__
    return kind if inner is None else f"{kind}({inner})"
