"""What a certificate costs beside a plain prediction, and what stopping early saves."""

from __future__ import annotations

import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from robust_components.classification import CluCertClassifier
from robust_components.smoothing import RandomMask

CORPUS = Path(__file__).parent.parent / "examples" / "corpus.json"
FIXED = 1000


def made_texts(number: int, seed: int) -> list[str]:
    """Texts of 20 to 60 words, cut from the example corpus."""
    corpus = json.loads(CORPUS.read_text(encoding="utf-8"))
    words = " ".join(passage["text"] for passage in corpus["passages"]).split()
    draw = random.Random(seed)
    texts = []
    for _ in range(number):
        length = draw.randint(20, 60)
        at = draw.randrange(len(words) - length)
        texts.append(" ".join(words[at : at + length]))
    return texts


def deterministic(model: Any, texts: list[str], rounds: int) -> tuple[float, dict[str, float]]:
    """Processor time of certified classification over that of plain prediction, text by text.

    Returns:
        The median over texts of each text's fastest certified over its fastest plain run, and the
        medians in milliseconds.
    """
    classifier = CluCertClassifier(model)
    classifier.warm_up()
    plain: list[float] = []
    smoothed: list[float] = []
    for text in tqdm(texts, desc="speed", mininterval=10):
        best = [float("inf")] * 2
        for _ in range(rounds):
            began = time.process_time()
            model.probabilities([text])
            between = time.process_time()
            classifier.classify(text)
            ended = time.process_time()
            best = [min(best[0], between - began), min(best[1], ended - between)]
        plain.append(best[0])
        smoothed.append(best[1])
    ratio = statistics.median(b / a for a, b in zip(plain, smoothed, strict=True))
    figures = {
        "texts": len(texts),
        "plain_ms": round(1000 * statistics.median(plain), 3),
        "certified_ms": round(1000 * statistics.median(smoothed), 3),
    }
    return round(ratio, 3), figures


def sampled(
    model: Any, texts: list[str], rate: float = 0.9, fixed: int = FIXED
) -> tuple[float, dict[str, Any]]:
    """Model calls of sampling that stops early over those of ``fixed`` samples, and the radii.

    Returns:
        The median over texts of the samples drawn, over ``fixed``; and how the radii compare.
    """
    mask = RandomMask(rate, fixed, None, seed=0)
    early = CluCertClassifier(model, mask)
    whole = CluCertClassifier(model, mask, adaptive=False)
    shares, same, lower = [], 0, 0
    for text in tqdm(texts, desc="samples", mininterval=10):
        one, other = early.classify(text), whole.classify(text)
        shares.append(one.copies / fixed)
        same += one.radius == other.radius
        lower += one.radius < other.radius
    figures = {
        "texts": len(texts),
        "fixed_samples": fixed,
        "mask_rate": rate,
        "median_samples": round(statistics.median(shares) * fixed, 1),
        "mean_samples": round(statistics.fmean(shares) * fixed, 1),
        "same_radius": round(same / len(texts), 4),
        "lower_radius": round(lower / len(texts), 4),
    }
    return round(statistics.median(shares), 4), figures
