"""The extractive reader: answers with a span of the passage, or "no answer"."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robust_components.answers import normalise_answer
from robust_components.models.embedded import base_fingerprint, base_path
from robust_components.models.protocols import Reading
from robust_components.models.reader_encoding import EncodedPair, collate, encode_pair
from robust_components.models.span_network import NEVER, SpanNetwork
from robust_components.models.span_session import SpanSession, WordSpans

MAX_LENGTH = 384
MAX_POSITIONS = 512
SPANS_COUNTED = 64
MAX_CHARACTERS = 8192


class ExtractiveReader:
    """Reads each passage alone, in a forward pass of its own, and points at the answer.

    One softmax ranges over all spans of at most ``max_answer_tokens`` word pieces and "no answer".
    The reader abstains when "no answer" has at least the probability ``threshold``. It is also a
    :class:`~robust_components.models.protocols.TokenModel`: its next-token distribution is the span
    distribution, exactly (see :class:`SpanSession`).

    Every passage is a batch of one, so no passage can change another's numbers. Passages longer
    than 384 word pieces with the question are cut and flagged.

    Args:
        network: scores spans.
        tokenizer: a fast Hugging Face tokenizer.
        threshold: abstain from this probability of "no answer" on, in (0, 1].
        name: for certificates.
        fingerprint: identity of the weights, for certificates.
    """

    def __init__(
        self,
        network: SpanNetwork,
        tokenizer: Any,
        *,
        threshold: float = 0.5,
        name: str = "extractive reader",
        fingerprint: str = "unknown",
        device: str = "cpu",
    ) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"threshold must be in (0, 1], got {threshold!r}; try 0.5")
        self.network = network.eval().to(device)
        self.tokenizer = tokenizer
        self.threshold = threshold
        self.abstention_threshold = threshold
        self.name = name
        self.fingerprint = fingerprint
        self.device = device

    @classmethod
    def from_folder(
        cls, folder: str | Path, *, threshold: float | None = None, device: str = "cpu"
    ) -> ExtractiveReader:
        """Load an adapter written by ``robust_components.training.reader``.

        Raises:
            FileNotFoundError: the folder lacks a file.
            ValueError: the adapter belongs to another base model.
        """
        from peft import PeftModel
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        folder = Path(folder)
        parts = [
            folder / name
            for name in ("reader.json", "adapter_model.safetensors", "head.safetensors")
        ]
        missing = [part.name for part in parts if not part.is_file()]
        if missing:
            raise FileNotFoundError(
                f"no reader in {folder}: {', '.join(missing)} missing; train one with "
                "python -m robust_components.training.reader"
            )
        settings = json.loads(parts[0].read_text(encoding="utf-8"))
        if settings["base_fingerprint"] != base_fingerprint():
            raise ValueError(
                f"the adapter in {folder} was trained on {settings['base_model']} with SHA-256 "
                f"{settings['base_fingerprint'][:12]}..., but the installed base has "
                f"{base_fingerprint()[:12]}...; install the matching base or train the adapter anew"
            )
        config = AutoConfig.from_pretrained(base_path())
        base = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        weights = load_file(Path(base_path()) / "model.safetensors")
        weights.pop("embeddings.position_ids", None)
        base.load_state_dict(weights)
        width = base.config.hidden_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            merged = PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
        network = SpanNetwork(merged.float(), width, settings["max_answer_tokens"])
        head = {key: value.float() for key, value in load_file(parts[2]).items()}
        if head.keys() != network.head_state().keys():
            raise ValueError(
                f"{parts[2]} must hold {sorted(network.head_state())}, got {sorted(head)}; "
                "train the adapter again"
            )
        network.load_state_dict(head, strict=False)
        digest = hashlib.sha256(settings["base_fingerprint"].encode())
        for part in parts[1:]:
            digest.update(part.read_bytes())
        tokenizer = AutoTokenizer.from_pretrained(base_path())
        tokenizer.model_max_length = sys.maxsize  # long texts are cut here, not by the tokenizer
        return cls(
            network,
            tokenizer,
            threshold=settings["threshold"] if threshold is None else threshold,
            name="all-MiniLM-L6-v2 + reader adapter",
            fingerprint=digest.hexdigest()[:16],
            device=device,
        )

    @torch.no_grad()
    def _spans(
        self, query: str, passage: str, max_length: int = MAX_LENGTH
    ) -> tuple[EncodedPair, NDArray[np.float64], float]:
        """Encoded pair, log-probability of each span of pieces (length, length), P(no answer)."""
        cut = passage[:MAX_CHARACTERS]
        pair = encode_pair(self.tokenizer, query, cut, max_length)
        pair.truncated = pair.truncated or len(cut) < len(passage)
        inputs = collate([pair], self.tokenizer)
        inputs.pop("gold")
        inputs = {key: value.to(self.device) for key, value in inputs.items()}
        scores = self.network(**inputs)[0].double().cpu().numpy()
        length = len(pair.input_ids)
        return pair, scores[1:].reshape(length, length), float(np.exp(scores[0]))

    def read(self, query: str, passages: Sequence[str]) -> list[Reading]:
        """One reading a passage: its most probable answer, or an abstention.

        Spans that spell the same answer add up.
        """
        return [self._read_one(query, passage, MAX_LENGTH) for passage in passages]

    def read_together(self, query: str, passages: Sequence[str]) -> Reading:
        """Read all passages in one pass, as a plain pipeline does, cut at 512 word pieces.

        One passage can silence all others here; this is the baseline, not the defence.
        """
        return self._read_one(query, "\n".join(passages), MAX_POSITIONS)

    def _read_one(self, query: str, passage: str, max_length: int) -> Reading:
        pair, scores, no_answer = self._spans(query, passage, max_length)
        tokens = len(pair.input_ids)
        if not np.isfinite(no_answer):
            return Reading(None, failure="the reader's scores are not finite", tokens=tokens)
        mass: dict[str, float] = {}
        first: dict[str, tuple[int, int]] = {}
        for index in _largest(scores.ravel(), SPANS_COUNTED):
            i, j = divmod(int(index), tokens)
            begin, end = pair.offsets[i], pair.offsets[j]
            if begin is None or end is None or scores[i, j] < NEVER / 2:
                break
            answer = normalise_answer(passage[begin[0] : end[1]])
            mass[answer] = mass.get(answer, 0.0) + float(np.exp(scores[i, j]))
            first.setdefault(answer, (begin[0], end[1]))
        if no_answer >= self.threshold or not mass:
            return Reading(None, truncated=pair.truncated, tokens=tokens)
        best = max(mass, key=lambda answer: mass[answer])
        span = first[best]
        return Reading(
            passage[span[0] : span[1]],
            probability=mass[best],
            truncated=pair.truncated,
            tokens=tokens,
            span=span,
        )

    def combine(self, query: str, keywords: Sequence[str]) -> Reading:
        """The keyword that reads most like the answer, out of their list."""
        text = ", ".join(keywords)
        pair, scores, _ = self._spans(query, text)
        starts = {o[0]: i for i, o in enumerate(pair.offsets) if o is not None}
        ends = {o[1]: i for i, o in enumerate(pair.offsets) if o is not None}
        best, best_score, at = None, -np.inf, 0
        for keyword in keywords:
            i, j = starts.get(at), ends.get(at + len(keyword))
            if i is not None and j is not None and scores[i, j] > best_score:
                best, best_score = keyword, scores[i, j]
            at += len(keyword) + 2
        return Reading(best, truncated=pair.truncated, tokens=len(pair.input_ids))

    def open(self, query: str, passages: Sequence[str]) -> SpanSession:
        """Read all passages once and serve their span distributions token by token."""
        return SpanSession([self._word_spans(query, passage) for passage in passages])

    def _word_spans(self, query: str, passage: str) -> WordSpans:
        try:
            pair, scores, no_answer = self._spans(query, passage)
            return WordSpans.from_pieces(pair, np.exp(scores), no_answer)
        except Exception as error:  # counts as hostile, and the other rows go on
            return WordSpans.failed(error)


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of the largest values, largest first."""
    if len(values) > count:
        chosen = np.sort(np.argpartition(values, -count)[-count:])
    else:
        chosen = np.arange(len(values))
    return chosen[np.argsort(-values[chosen], kind="stable")]
