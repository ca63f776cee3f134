"""Text classifiers by name: the embedded ones, a trained folder, a Hugging Face model."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_components.models.embedded import WEIGHTS, need
from robust_components.models.named_files import check_there

if TYPE_CHECKING:
    from robust_components.models.text_classifier import TransformersTextClassifier

EMBEDDED = ("sentiment", "topic")


def load_classifier(
    model: str | Path = "sentiment",
    *,
    labels: Sequence[str] | None = None,
    device: str = "cpu",
    tokens_a_batch: int = 2048,
    token: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    tokenizer_kwargs: Mapping[str, Any] | None = None,
) -> TransformersTextClassifier:
    """The classifier called ``model``.

    Args:
        model: ``"sentiment"`` (negative, positive) or ``"topic"`` (Business, Sci/Tech, Sports,
            World), both embedded, trained on masked copies and loaded once for the whole
            process; a folder written by ``robust-components train classifier``; or folder or hub id
            of a sequence classifier.
        labels: names of a Hugging Face model's labels, in order; its own when ``None``.
        device: a torch device.
        tokens_a_batch: most tokens of a batch, padding included, at least 1.
        token, model_kwargs, tokenizer_kwargs: for Hugging Face models; see
            :meth:`TransformersTextClassifier.from_pretrained`.

    Raises:
        ImportError, FileNotFoundError, OSError: packages or files are missing.
        ValueError: the model is no classifier, or an argument is outside its range.
    """
    need(f"classifier {str(model)!r}", "torch", "transformers", "safetensors")
    if model in EMBEDDED or (Path(model) / "classifier.json").is_file():
        if labels is not None:
            raise ValueError(
                f"labels belong to Hugging Face models, and {str(model)!r} has its own, got "
                f"{list(labels)}; leave them out"
            )
        if model in EMBEDDED:
            return _shared(str(model), device, tokens_a_batch)
        from robust_components.models.adapter_classifier import classifier_from_folder

        return classifier_from_folder(model, device=device, tokens_a_batch=tokens_a_batch)
    check_there(model)
    from robust_components.models.text_classifier import TransformersTextClassifier

    return TransformersTextClassifier.from_pretrained(
        model,
        device=device,
        token=token,
        model_kwargs=model_kwargs,
        tokenizer_kwargs=tokenizer_kwargs,
        labels=labels,
        tokens_a_batch=tokens_a_batch,
    )


@functools.cache
def _shared(name: str, device: str, tokens_a_batch: int) -> TransformersTextClassifier:
    from robust_components.models.adapter_classifier import classifier_from_folder

    return classifier_from_folder(WEIGHTS / name, device=device, tokens_a_batch=tokens_a_batch)
