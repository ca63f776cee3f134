"""Hugging Face cross-encoders as point-wise scorers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from robust_components.models.encoder_batches import (
    in_order,
    load_network,
    reading_length,
)
from robust_components.models.pair_encoding import PairEncoder

MONO_T5 = ("Query:", "Document:", "Relevant:")
NOTES = "training.json"
"""What ``robust-components train ranker`` writes beside the weights of a whole model."""


class TransformersPairScorer:
    """Scores (query, document) pairs with a cross-encoder; batches by length, keeps the order.

    Models with one label give a logit (mapped by ``output``), with two labels the probability of
    label 1, encoder-decoder models the probability of "true" against "false" as the first word
    they write, as in monoT5 (Nogueira et al. 2020). A score depends on its own pair alone, up to
    float32 rounding: rows are padded on the right and masked, and half-precision weights are
    widened to float32, because half-precision scores would move with the batch by a hundredth.

    Args:
        network: a Hugging Face model; moved to ``device``, to float32 and to evaluation mode, and
            given the tokenizer's padding token if it has none.
        tokenizer: its fast tokenizer; see :class:`PairEncoder` for special tokens in texts.
        output: ``"probability"`` in [0, 1] (sigmoid, softmax) or ``"logit"``.
        max_length: tokens of a pair, at least 16; longer documents are cut. By default 512, or
            fewer where model or tokenizer says so.
        tokens_a_batch: most tokens of a batch, padding included, at least 1.
        answers: what an encoder-decoder writes for an irrelevant and for a relevant document, one
            token each.
        name: for certificates.
        fingerprint: identity of the weights, for certificates.
        device: a torch device.
        coverage: settings of the :class:`~robust_components.smoothing.TermCoverage` the model was
            trained beside, if any.

    Raises:
        ValueError: the model has neither one nor two labels and is no encoder-decoder, or an
            argument is outside its range.
        TypeError: the tokenizer is not a fast one.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        output: str = "probability",
        max_length: int | None = None,
        tokens_a_batch: int = 2048,
        answers: tuple[str, str] = ("false", "true"),
        name: str = "cross-encoder",
        fingerprint: str = "unknown",
        device: str = "cpu",
        coverage: Mapping[str, Any] | None = None,
    ) -> None:
        if output not in ("probability", "logit"):
            raise ValueError(f"output must be 'probability' or 'logit', got {output!r}")
        if tokens_a_batch < 1:
            raise ValueError(f"tokens_a_batch must be at least 1, got {tokens_a_batch}")
        config = network.config
        self.writes = (
            bool(config.is_encoder_decoder) and network.get_output_embeddings() is not None
        )
        if not self.writes and config.num_labels not in (1, 2):
            raise ValueError(
                f"a ranker needs a model with 1 or 2 labels, got {config.num_labels}; load a "
                "cross-encoder for ranking, or wrap the model in an object with a score method"
            )
        self.max_length = reading_length(max_length, config, tokenizer)
        pad_id = getattr(config, "pad_token_id", None)
        words = MONO_T5 if self.writes else None
        self.encoder = PairEncoder(tokenizer, self.max_length, words, pad_id=pad_id)
        if pad_id is None:  # decoders look for the last token that is none
            config.pad_token_id = self.encoder.pad_id
        self.network = network.to(device).float().eval()
        self.tokenizer = tokenizer
        self.output = output
        self.tokens_a_batch = tokens_a_batch
        self.name = name
        self.fingerprint = fingerprint
        self.device = device
        self.coverage = coverage
        self._start = _decoder_start(network) if self.writes else 0
        self._answers = (
            [one_token(tokenizer, word, "answers") for word in answers] if self.writes else []
        )

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: str = "cpu",
        token: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> TransformersPairScorer:
        """Load a cross-encoder or a monoT5-style model by folder or hub id.

        Args:
            model: folder or hub id.
            device: a torch device.
            token: for private models on the hub.
            model_kwargs: for the model's ``from_pretrained``.
            tokenizer_kwargs: for the tokenizer's ``from_pretrained``.
            options: for the constructor; ``max_length`` and ``coverage`` by default those a folder
                written by ``robust-components train ranker`` was trained with.

        Raises:
            ValueError: the weights lack a ranking head, which would be made up at random.
        """
        from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

        config = config_of(model, token, model_kwargs)
        names = config.architectures or []
        writes = config.is_encoder_decoder and not any("Classification" in name for name in names)
        network, tokenizer, described = load_network(
            model,
            AutoModelForSeq2SeqLM if writes else AutoModelForSequenceClassification,
            "ranker",
            "a cross-encoder",
            token=token,
            model_kwargs=model_kwargs,
            tokenizer_kwargs=tokenizer_kwargs,
        )
        options = {**described, **_trained_with(Path(model)), **options}
        return cls(network, tokenizer, device=device, **options)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in order; see ``output``."""
        return self.score_and_cuts(query, documents)[0]

    def score_and_cuts(
        self, query: str, documents: Sequence[str]
    ) -> tuple[list[float], list[bool]]:
        """Scores, and whether each document was cut to fit; encodes once for both."""
        if not documents:
            return [], []
        rows, cuts = self.encoder.encode([(query, document) for document in documents])
        logit = self._logits(rows)
        return (logit if self.output == "logit" else logit.sigmoid()).tolist(), cuts

    def truncates(self, query: str, documents: Sequence[str]) -> list[bool]:
        """Whether each document is cut when it is scored for ``query``."""
        return self.encoder.encode([(query, document) for document in documents])[1]

    @torch.inference_mode()
    def _logits(self, rows: Sequence[dict[str, list[int]]]) -> torch.Tensor:
        """Float64 logits of shape (rows,), computed in float32."""
        tokens, device = self.tokens_a_batch, self.device
        return in_order(self.relevance, self.encoder, rows, tokens, device).cpu()

    def relevance(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Float64 logits of shape (rows,), computed in float32; differentiable.

        Args:
            inputs: a batch as :class:`PairEncoder` pads it.
        """
        logits = self._forward(inputs).double()
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]

    def _forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self.writes:
            logits: torch.Tensor = self.network(**inputs).logits
            return logits
        first = torch.full((len(inputs["input_ids"]), 1), self._start, device=self.device)
        logits = self.network(**inputs, decoder_input_ids=first).logits[:, 0]
        return logits[:, self._answers]


def _trained_with(folder: Path) -> dict[str, Any]:
    """Length and term coverage a ranker was trained with, if its folder says so."""
    if not (folder / NOTES).is_file():
        return {}
    notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    ours = isinstance(notes, dict) and {"base_model", "training", "measured"} <= notes.keys()
    return {name: notes.get(name) for name in ("max_length", "coverage")} if ours else {}


def _decoder_start(network: Any) -> int:
    start = network.generation_config.decoder_start_token_id
    if start is None:
        raise ValueError(
            "the encoder-decoder names no decoder_start_token_id; set it in the model's "
            "generation_config"
        )
    return int(start)


def one_token(tokenizer: Any, word: str, argument: str) -> int:
    """The id of a word a model writes as its answer.

    Args:
        argument: what the word was passed as, for the error.

    Raises:
        ValueError: the word is several tokens, none, or unknown to the tokenizer.
    """
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        found = "unknown" if len(ids) == 1 else f"{len(ids)}"
        raise ValueError(
            f"{argument} must be one token each for this tokenizer, {word!r} is {found}; pass what "
            "the model was trained to write"
        )
    return int(ids[0])


def config_of(model: str | Path, token: str | None, model_kwargs: Mapping[str, Any] | None) -> Any:
    """A Hugging Face model's configuration."""
    from transformers import AutoConfig

    trusted = (model_kwargs or {}).get("trust_remote_code", False)
    return AutoConfig.from_pretrained(model, token=token, trust_remote_code=trusted)
