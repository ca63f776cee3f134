"""What Hugging Face models that read texts or pairs share: batches, lengths, identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from robust_components.models.text_encoding import Row, length_sorted

USUAL_LENGTH = 512


class Padder(Protocol):
    """Fills rows up to the longest."""

    def pad(self, rows: Sequence[Row]) -> dict[str, list[list[int]]]: ...


def padded(
    encoder: Padder, rows: Sequence[Row], tokens: int, device: str = "cpu"
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Batches of rows of about equal length: their indices, and the network's inputs for them.

    Args:
        rows: encoded.
        tokens: most tokens of a batch, padding included.
    """
    for places in length_sorted([len(row["input_ids"]) for row in rows], tokens):
        filled = encoder.pad([rows[i] for i in places])
        yield places, {key: torch.tensor(ids, device=device) for key, ids in filled.items()}


def in_order(
    forward: Callable[[dict[str, torch.Tensor]], torch.Tensor],
    encoder: Padder,
    rows: Sequence[Row],
    tokens: int,
    device: str = "cpu",
) -> torch.Tensor:
    """What ``forward`` gives for padded batches of about equal length, in the order of ``rows``.

    Args:
        forward: from input tensors of a batch to one row of output for each.
        rows: encoded, at least one.
        tokens: most tokens of a batch, padding included.
    """
    parts: list[torch.Tensor] = []
    order: list[int] = []
    for places, inputs in padded(encoder, rows, tokens, device):
        parts.append(forward(inputs))
        order.extend(places)
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[back]


def reading_length(max_length: int | None, config: Any, tokenizer: Any) -> int:
    """The length asked for, or the usual one, and never more positions than the model has.

    Raises:
        ValueError: more tokens are asked for than the model reads.
    """
    positions = getattr(config, "max_position_embeddings", None)
    limits = [int(tokenizer.model_max_length)]
    if isinstance(positions, int) and positions > 0:
        limits.append(positions)
    if max_length is None:
        return min(USUAL_LENGTH, *limits)
    if max_length > limits[-1]:
        raise ValueError(
            f"max_length must be at most {limits[-1]}, what the model reads, got {max_length}; "
            "lower it"
        )
    return max_length


def refuse_untrained(model: object, missing: Sequence[str], what: str, instead: str) -> None:
    """Refuse weights that lack a head, which Hugging Face would make up at random.

    Args:
        missing: names of parameters the weights lack.
        what: what the model was taken for, such as ``"ranker"``.
        instead: what to load instead, such as ``"a cross-encoder"``.

    Raises:
        ValueError: something is missing.
    """
    if missing:
        raise ValueError(
            f"{model} is no trained {what}: its weights lack {', '.join(sorted(missing)[:3])}, "
            f"which would be made up at random; load {instead}, or train one with "
            f"robust-components train {what}"
        )


def load_network(
    model: str | Path,
    kind: Any,
    what: str,
    instead: str,
    *,
    token: str | None,
    model_kwargs: Mapping[str, Any] | None,
    tokenizer_kwargs: Mapping[str, Any] | None,
) -> tuple[Any, Any, dict[str, str]]:
    """A Hugging Face network of this kind (an ``AutoModel`` class), its tokenizer, its identity.

    Args:
        what, instead: see :func:`refuse_untrained`.

    Returns:
        network, tokenizer, and their ``name`` and ``fingerprint``.

    Raises:
        ValueError: the weights lack the head, which would be made up at random.
    """
    from transformers import AutoTokenizer

    network, found = kind.from_pretrained(
        model,
        **{"dtype": torch.float32, "token": token, **(model_kwargs or {})},
        output_loading_info=True,
    )
    refuse_untrained(model, found["missing_keys"], what, instead)
    tokenizer = AutoTokenizer.from_pretrained(model, token=token, **(tokenizer_kwargs or {}))
    described = {"name": str(model), "fingerprint": fingerprint_of(network, tokenizer)}
    return network, tokenizer, described


def fingerprint_of(network: Any, tokenizer: Any) -> str:
    """SHA-256 of weights, configuration and tokenizer, before anything is moved or widened."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    digest.update(network.config.to_json_string().encode())
    if getattr(tokenizer, "is_fast", False):
        data = json.loads(tokenizer.backend_tokenizer.to_str())
        data["truncation"] = data["padding"] = None  # of the last call, not of the tokenizer
        digest.update(json.dumps(data, sort_keys=True).encode())
    return digest.hexdigest()
