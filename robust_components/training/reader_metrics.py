"""SQuAD metrics for the reader: exact match, F1, answerability accuracy."""

from __future__ import annotations

import collections
import re
import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from robust_components.models.reader_encoding import collate, encode_pair

Prediction = dict[str, Any]


def normalise(text: str) -> str:
    """SQuAD v1.1 normalisation: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(prediction: str, gold: str) -> float:
    left, right = normalise(prediction).split(), normalise(gold).split()
    if not left or not right:
        return float(left == right)
    common = sum((collections.Counter(left) & collections.Counter(right)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(left), common / len(right)
    return 2 * precision * recall / (precision + recall)


@torch.no_grad()
def evaluate_reader(
    network: Any,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    averaged: dict[str, Tensor] | None = None,
    limit: int = 0,
    threshold: float = 0.5,
) -> tuple[dict[str, float], list[Prediction]]:
    """Score ``rows``; EM and F1 on answerable questions are those of the best span, forced."""
    if limit:
        rows = [rows[int(i * len(rows) / limit)] for i in range(min(limit, len(rows)))]
    network.eval()
    kept = {}
    if averaged is not None:
        for name, parameter in network.named_parameters():
            if name in averaged:
                kept[name] = parameter.detach().clone()
                parameter.copy_(averaged[name])
    pairs = [encode_pair(tokenizer, row["question"], row["context"], 384) for row in rows]
    order = sorted(range(len(rows)), key=lambda k: len(pairs[k].input_ids))
    predictions: list[Prediction] = [{} for _ in rows]
    for at in range(0, len(order), 16):
        chosen = order[at : at + 16]
        inputs = collate([pairs[k] for k in chosen], tokenizer)
        inputs.pop("gold")
        length = inputs["input_ids"].shape[1]
        log_probabilities = network(**inputs)
        best = log_probabilities[:, 1:].max(dim=1)
        for row, k in enumerate(chosen):
            i, j = divmod(int(best.indices[row]), length)
            begin, end = pairs[k].offsets[i], pairs[k].offsets[j]
            text = pairs[k].passage[begin[0] : end[1]] if begin and end else ""
            predictions[k] = {
                "text": text,
                "no_answer": float(log_probabilities[row, 0].exp()),
                "answerable": bool(rows[k]["answers"]),
            }
    for name, parameter in network.named_parameters():
        if name in kept:
            parameter.copy_(kept[name])
    answerable = [(p, r) for p, r in zip(predictions, rows, strict=True) if r["answers"]]
    said = [(p["no_answer"] < threshold) == p["answerable"] for p in predictions]
    on_yes = [s for s, p in zip(said, predictions, strict=True) if p["answerable"]]
    on_no = [s for s, p in zip(said, predictions, strict=True) if not p["answerable"]]
    return {
        "em": _mean(
            [any(normalise(p["text"]) == normalise(a) for a in r["answers"]) for p, r in answerable]
        ),
        "f1": _mean([max(token_f1(p["text"], a) for a in r["answers"]) for p, r in answerable]),
        "answerability": _mean(said),
        "answerable_recall": _mean(on_yes),
        "unanswerable_recall": _mean(on_no),
    }, predictions


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def pick_threshold(predictions: list[Prediction]) -> float:
    """The no-answer probability that maximises answerability accuracy."""
    values = sorted({round(p["no_answer"], 3) for p in predictions})

    def accuracy(threshold: float) -> int:
        return sum((p["no_answer"] < threshold) == p["answerable"] for p in predictions)

    return float(max(values, key=accuracy))
