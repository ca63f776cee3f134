"""Bounds on probabilities and means from samples, and on the overlap of random masks.

Pure functions. One-sided bounds at level ``alpha`` are wrong with probability at most ``alpha``
over the samples, which must be independent draws (``betting_*``: any sequence whose conditional
mean is constant), fixed in number beforehand for Clopper-Pearson.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

BISECTIONS = 40
TRUNCATION = 0.5


def _check_level(alpha: float) -> None:
    if not sys.float_info.min <= alpha < 1.0:
        raise ValueError(
            f"alpha must be in (0, 1), and at least {sys.float_info.min:.3g}, got {alpha!r}; 0.05 "
            "gives confidence 95 %"
        )


def _check_counts(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"successes must be in 0..trials and trials >= 1, got {successes} of {trials}"
        )


def clopper_pearson_lower(successes: int, trials: int, alpha: float) -> float:
    """Lower bound on a success probability, exact for binomial counts (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    _check_level(alpha)
    _check_counts(successes, trials)
    if successes == 0:
        return 0.0
    return float(beta.ppf(alpha, successes, trials - successes + 1))


def clopper_pearson_upper(successes: int, trials: int, alpha: float) -> float:
    """Upper bound on a success probability, exact for binomial counts (Clopper & Pearson 1934)."""
    _check_counts(successes, trials)
    return 1.0 - clopper_pearson_lower(trials - successes, trials, alpha)


def betting_lower(samples: ArrayLike, alpha: float) -> float:
    """Lower bound on the mean of values in [0, 1], valid at every stopping time.

    The capital of a gambler who bets against "the mean is m" exceeds 1/alpha with probability at
    most alpha if it is (Ville). Bets are predictable plug-in empirical Bernstein
    (Waudby-Smith & Ramdas 2024, section 4), one-sided, truncated at half of all capital.

    Raises:
        ValueError: a sample lies outside [0, 1] or is not finite, or alpha outside (0, 1).
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError("samples must be a flat list of numbers in [0, 1]; scale them first")
    return float(betting_lower_rows(values[None], alpha)[0])


def betting_upper(samples: ArrayLike, alpha: float) -> float:
    """Upper bound on the mean of values in [0, 1]; see :func:`betting_lower`."""
    return 1.0 - betting_lower(1.0 - np.asarray(samples, dtype=np.float64), alpha)


def betting_lower_rows(samples: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """:func:`betting_lower` of each row of ``samples``, shape (rows, samples a row)."""
    _check_level(alpha)
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 2 or not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError("samples must be numbers in [0, 1]; scale them first")
    low = np.zeros(len(values))
    if values.size == 0:
        return low
    count = np.arange(1, values.shape[1] + 1)
    means = (0.5 + np.cumsum(values, axis=1)) / (count + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2, axis=1)) / (count + 1)
    before = np.hstack([np.full((len(values), 1), 0.25), variances[:, :-1]])
    bets = np.sqrt(2.0 * math.log(1.0 / alpha) / (before * count * np.log1p(count)))
    high = np.ones(len(values))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        # No factor of the capital rises with the mean, so refuted means form an interval from 0.
        stakes = np.minimum(bets, TRUNCATION / middle[:, None])
        capital = np.cumsum(np.log1p(stakes * (values - middle[:, None])), axis=1).max(axis=1)
        refuted = capital >= math.log(1.0 / alpha)
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def overlap_probability(words: int, shown: int, edits: int) -> Fraction:
    """Probability that a uniform ``shown``-subset of ``words`` positions hits ``edits`` given ones.

    Delta = 1 - C(words - edits, shown) / C(words, shown), exactly (hypergeometric).
    """
    if not 0 <= shown <= words or words < 1 or edits < 0:
        raise ValueError(
            f"need words >= 1, 0 <= shown <= words and edits >= 0, got words={words}, "
            f"shown={shown}, edits={edits}"
        )
    if edits > words:
        return Fraction(int(shown > 0))
    if edits <= shown:  # both fractions are equal; the one with fewer factors is taken
        return 1 - Fraction(math.perm(words - shown, edits), math.perm(words, edits))
    return 1 - Fraction(math.perm(words - edits, shown), math.perm(words, shown))
