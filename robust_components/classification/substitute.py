"""Stage 2, substitute: words become synonyms, in one of three ways.

* :class:`Substitution` draws variants of a masked copy from a seed made of that copy, so a copy
  without edited words has the same variants. Covers edits of any kind.
* :class:`SynonymClasses` replaces every word by the representative of its class before masking: an
  attacker may swap words within their classes as often as he likes, besides the certified radius.
* :class:`SynonymKernels` draws a synonym for each visible word of each random mask. Against an
  attacker limited to synonyms, whose kernels differ by at most t in total variation, less changes:
  Delta_d = 1 - sum_j C(d,j) C(n-d,k-j) / C(n,k) (1-t)^j.

Source: CluCERT (arXiv 2512.08967), where variants read the whole text; SAFER (Ye et al. 2020) for
kernels.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.classification.synonyms import (
    SynonymSource,
    SynonymTable,
    built_in_synonyms,
    core,
    in_the_form_of,
    read_groups,
    synonyms_of,
)
from robust_components.models.protocols import SentenceEncoder
from robust_components.smoothing import join_words, split_words


def generator_of(text: str, seed: int, purpose: str) -> random.Random:
    """A random generator that is a function of ``text``: the same in every process."""
    key = f"{purpose} {seed} ".encode() + text.encode("utf-8", "surrogatepass")
    return random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=32).digest(), "big"))


def _source(source: SynonymSource | None) -> SynonymSource:
    if source is None:
        return built_in_synonyms()
    if not isinstance(source, SynonymSource):
        raise TypeError(
            f"source must have name, fingerprint and synonyms(word), got {type(source).__name__}; "
            "see SynonymTable"
        )
    return source


def cosines(vectors: Any) -> NDArray[np.float64]:
    """Cosine of every pair of rows, rounded to 6 digits, shape (rows, rows).

    Raises:
        ValueError: the vectors have another shape or are not finite.
    """
    rows = np.asarray(vectors, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"encode must return finite vectors of shape (texts, dimension), got shape {rows.shape}"
        )
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(length == 0, 1.0, length)
    near: NDArray[np.float64] = np.clip(unit @ unit.T, -1.0, 1.0).round(6).astype(np.float64)
    return near


class CosineFilter:
    """Keeps synonyms with which a masked copy keeps its meaning; reads the masked copy only.

    Args:
        encoder: embeds sentences.
        threshold: least cosine between the copy and the copy with the synonym, in [-1, 1].
    """

    def __init__(self, encoder: SentenceEncoder, threshold: float = 0.8) -> None:
        if not isinstance(encoder, SentenceEncoder):
            raise TypeError(
                f"encoder must have encode(texts), got {type(encoder).__name__}; wrap it"
            )
        if not -1 <= threshold <= 1:
            raise ValueError(f"threshold must be in [-1, 1], got {threshold!r}; try 0.8")
        self.encoder = encoder
        self.threshold = float(threshold)

    def keep(self, words: Sequence[str], found: Sequence[Sequence[str]]) -> list[list[str]]:
        """Of the synonyms ``found`` for each word, those that pass."""
        places = [(i, one) for i, others in enumerate(found) for one in others]
        texts = [join_words(words)]
        texts += [join_words([*words[:i], one, *words[i + 1 :]]) for i, one in places]
        near = cosines(self.encoder.encode(texts))[0, 1:]
        kept: list[list[str]] = [[] for _ in words]
        for (i, one), cosine in zip(places, near, strict=True):
            if cosine >= self.threshold:
                kept[i].append(one)
        return kept

    def to_dict(self) -> dict[str, Any]:
        name = getattr(self.encoder, "name", type(self.encoder).__name__)
        return {"encoder": str(name), "threshold": str(self.threshold)}


class Substitution:
    """Variants of a masked copy in which some words are synonyms.

    Args:
        source: of synonyms; our own table when ``None``.
        rate: share of the words with synonyms that are replaced, in (0, 1].
        keep: an optional :class:`CosineFilter`.
        seed: any integer.
    """

    kind: ClassVar[str] = "variants"

    def __init__(
        self,
        source: SynonymSource | None = None,
        *,
        rate: float = 0.5,
        keep: CosineFilter | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(rate, bool) or not 0 < rate <= 1:
            raise ValueError(f"rate must be in (0, 1], got {rate!r}; 0.5 replaces every other word")
        self.source = _source(source)
        self.rate = float(rate)
        self.filter = keep
        self.seed = positive_integer("seed", seed, minimum=-(2**63))

    def variants(self, text: str, number: int) -> list[str]:
        """``number`` variants, a function of ``text`` alone."""
        words = split_words(text)
        found: Sequence[Sequence[str]] = [synonyms_of(self.source, word) for word in words]
        if self.filter is not None and any(found):
            found = self.filter.keep(words, found)
        generator = generator_of(text, self.seed, "variants")
        return [
            join_words(
                generator.choice(others) if others and generator.random() < self.rate else word
                for word, others in zip(words, found, strict=True)
            )
            for _ in range(number)
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "source": self.source.name,
            "fingerprint": self.source.fingerprint,
            "rate": str(self.rate),
            "filter": None if self.filter is None else self.filter.to_dict(),
            "seed": self.seed,
        }


class SynonymClasses:
    """Replaces every word by the first word of its class; words of no class stay as they are.

    Args:
        groups: disjoint groups of lower-case words; our own when ``None``.
        name: for certificates.

    Raises:
        ValueError: a word is in two groups.
    """

    kind: ClassVar[str] = "classes"

    def __init__(
        self, groups: Iterable[Iterable[str]] | None = None, name: str | None = None
    ) -> None:
        table = built_in_synonyms() if groups is None else None
        listed = [list(group) for group in groups] if groups is not None else _built_in_groups()
        self._first: dict[str, str] = {}
        for group in listed:
            for word in group:
                if self._first.setdefault(word.lower(), group[0].lower()) != group[0].lower():
                    raise ValueError(
                        f"{word!r} is in two synonym classes; classes must be disjoint, merge them"
                    )
        self.name = name or ("synonym classes" if table is None else table.name)
        self.fingerprint = SynonymTable({w: [f] for w, f in self._first.items()}).fingerprint

    def replace(self, words: Sequence[str]) -> tuple[str, ...]:
        """``words`` with each one as its class, in lower case; punctuation stays."""
        return tuple(self._replaced(word) for word in words)

    def _replaced(self, word: str) -> str:
        before, bare, after = core(word)
        first = self._first.get(bare.lower())
        return word if first is None else f"{before}{first}{after}"

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "source": self.name, "fingerprint": self.fingerprint}


def _built_in_groups() -> list[list[str]]:
    from robust_components.classification.synonyms import BUILT_IN

    return read_groups(BUILT_IN)


class SynonymKernels:
    """Draws each visible word from itself and its synonyms, uniformly; see :mod:`.substitute`.

    The attacker may replace a word by any of its synonyms, or by a word it is a synonym of.

    Args:
        table: of synonyms; our own, whose groups are disjoint, so that kernels agree within a
            group, when ``None``.
    """

    kind: ClassVar[str] = "kernels"

    def __init__(self, table: SynonymTable | None = None) -> None:
        self.table = built_in_synonyms() if table is None else table
        if not isinstance(self.table, SynonymTable):
            raise TypeError(
                f"table must be a SynonymTable, got {type(table).__name__}: the total variation is "
                "worked out over all of its pairs"
            )
        self.variation = max(
            (
                total_variation(self.support(word), self.support(other))
                for word, others in self.table.table.items()
                for other in others
            ),
            default=Fraction(0),
        )

    def support(self, word: str) -> frozenset[str]:
        """What a lower-case word may become, each with the same probability."""
        return frozenset((word, *self.table.synonyms(word)))

    def draw(self, word: str, generator: random.Random) -> str:
        """One draw for a word as it stands in a text."""
        bare = core(word)[1].lower()
        options = sorted(self.support(bare)) if bare else [bare]
        return word if len(options) < 2 else in_the_form_of(word, generator.choice(options))

    def delta(self, words: int, shown: int, edits: int) -> Fraction:
        """Largest probability that ``edits`` synonym edits change a sample of ``words`` words."""
        return synonym_delta(words, shown, edits, self.variation)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "source": self.table.name,
            "fingerprint": self.table.fingerprint,
            "variation": str(self.variation),
        }


def total_variation(first: frozenset[str], second: frozenset[str]) -> Fraction:
    """Total variation distance of the uniform distributions on two sets, exactly."""
    one, two = Fraction(1, len(first)), Fraction(1, len(second))
    distance = len(first - second) * one + len(second - first) * two
    return (distance + len(first & second) * abs(one - two)) / 2


def synonym_delta(words: int, shown: int, edits: int, variation: Fraction) -> Fraction:
    """1 - sum_j C(d,j) C(n-d,k-j) / C(n,k) (1-t)^j: j edited words are seen and all agree."""
    edits = min(edits, words)
    if not variation:
        return Fraction(0)
    total = Fraction(0)
    for seen in range(max(0, shown - words + edits), min(edits, shown) + 1):
        ways = math.comb(edits, seen) * math.comb(words - edits, shown - seen)
        total += ways * (1 - variation) ** seen
    return 1 - total / math.comb(words, shown)


Substitute = Substitution | SynonymClasses | SynonymKernels
