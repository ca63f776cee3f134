"""Answers made of lower-case keywords, as the passages' responses write them."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable

from robust_components.answers import normalise_answer

OUTSIDE = "".join(set(string.punctuation) - set("-%#"))
"""Marks around a word that are not part of it."""

MAX_WORDS = 2_000
"""Words of a response that are searched."""


def as_written(answer: str, responses: Iterable[str]) -> str:
    """``answer`` as most of ``responses`` write it, the first of several such; if it has capitals,
    or no response holds it, as it is.

    The result equals ``answer`` after :func:`robust_components.answers.normalise_answer`, so what
    is certified of one holds for the other.
    """
    if answer != answer.lower():
        return answer
    found: Counter[str] = Counter()
    for response in responses:
        written = _occurrence(answer, response)
        if written is not None:
            found[written] += 1
    return found.most_common(1)[0][0] if found else answer


def _occurrence(answer: str, response: str) -> str | None:
    wanted, size = normalise_answer(answer), len(answer.split())
    words = response.split()[:MAX_WORDS]
    for start in range(len(words) - size + 1):
        window = " ".join(words[start : start + size])
        if len(window) > 2 * len(answer) + 20:
            continue
        for written in (window.strip(OUTSIDE), window):
            if normalise_answer(written) == wanted:
                return written
    return None
