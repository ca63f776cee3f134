"""Point-wise scorers by name: the embedded ranker, a trained folder, a Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_components.models.embedded import load_ranker
from robust_components.models.named_files import check_there

if TYPE_CHECKING:
    from robust_components.models.pair_scorer import TransformersPairScorer


def load_pair_scorer(
    model: str | Path | None = None,
    *,
    logits: bool = False,
    device: str = "cpu",
    tokens_a_batch: int = 2048,
    token: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
) -> TransformersPairScorer:
    """The scorer called ``model``.

    Args:
        model: ``None`` for the embedded ranker, a folder written by ``robust-components train
            ranker``, or folder or hub id of a cross-encoder or monoT5-style model.
        logits: whether it gives logits instead of probabilities.
        device: a torch device.
        tokens_a_batch: most tokens of a batch, padding included.
        token, model_kwargs, tokenizer_kwargs: for Hugging Face models; see
            :meth:`TransformersPairScorer.from_pretrained`.

    Raises:
        ImportError, FileNotFoundError, OSError: packages or files are missing.
        ValueError: the model is no ranker.
    """
    if model is not None:
        check_there(model)
    output = "logit" if logits else "probability"
    if model is None or (Path(model) / "ranker.json").is_file():
        return load_ranker(model, device=device, output=output, tokens_a_batch=tokens_a_batch)
    try:
        from robust_components.models.pair_scorer import TransformersPairScorer
    except ImportError as error:
        raise ImportError(
            f"the ranker {model!r} needs torch and transformers; install "
            "'robust-components[transformers]' or pass a scorer of your own"
        ) from error
    return TransformersPairScorer.from_pretrained(
        str(model),
        device=device,
        token=token,
        model_kwargs=model_kwargs,
        tokenizer_kwargs=tokenizer_kwargs,
        output=output,
        tokens_a_batch=tokens_a_batch,
    )
