"""Synonyms that are near in an embedding: a GloVe file, or the word pieces of an encoder."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robust_components.checks import positive_integer


class EmbeddingNeighbours:
    """The nearest words by cosine.

    Args:
        words: distinct lower-case words.
        vectors: one row a word.
        count: neighbours a word, at least 1.
        threshold: least cosine of a neighbour, in [-1, 1].
        name: for certificates.

    Raises:
        ValueError: words and vectors do not fit, or a vector is not finite.
    """

    def __init__(
        self,
        words: Sequence[str],
        vectors: ArrayLike,
        *,
        count: int = 8,
        threshold: float = 0.6,
        name: str = "embedding",
    ) -> None:
        rows = np.asarray(vectors, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(words) or len(set(words)) != len(words):
            raise ValueError(
                f"need one vector for each of distinct words, got shape {rows.shape} for "
                f"{len(words)} words, {len(set(words))} of them distinct"
            )
        if not np.isfinite(rows).all():
            raise ValueError("vectors must be finite; leave out the words whose vectors are not")
        if not -1 <= threshold <= 1:
            raise ValueError(f"threshold must be in [-1, 1], got {threshold!r}; try 0.6")
        self.count = positive_integer("count", count)
        self.threshold = float(threshold)
        self.name = name
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        self._unit: NDArray[np.float32] = (rows / np.where(length == 0, 1, length)).astype(
            np.float32
        )
        self._words = list(words)
        self._place = {word: i for i, word in enumerate(words)}
        content = hashlib.sha256("\n".join(words).encode("utf-8", "surrogatepass"))
        content.update(rows.tobytes())
        self.fingerprint = f"{content.hexdigest()}, {count} from {threshold}"
        self._known = functools.lru_cache(maxsize=100_000)(self._look_up)
        self._lock = threading.Lock()

    @classmethod
    def from_file(
        cls, path: str | Path, *, most: int = 50_000, **options: Any
    ) -> EmbeddingNeighbours:
        """From a GloVe file: a word and its numbers on each line, the commonest words first.

        Args:
            path: the file, UTF-8.
            most: lines to read.
            options: as above.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a line has another number of numbers, or none.
        """
        vectors: dict[str, NDArray[np.float32]] = {}
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if number > most:
                    break
                word, *values = line.rstrip("\n").split(" ")
                try:
                    row = np.array(values, dtype=np.float32)
                except ValueError:
                    row = np.zeros(0, dtype=np.float32)
                if not row.size or (vectors and row.size != next(iter(vectors.values())).size):
                    raise ValueError(
                        f"line {number} of {path} is not a word and its numbers; pass a GloVe file "
                        "without a header"
                    )
                if any(one.isalpha() for one in word):
                    vectors.setdefault(word.lower(), row)
        if not vectors:
            raise ValueError(f"{path} holds no words; pass a GloVe file")
        options.setdefault("name", Path(path).name)
        return cls(list(vectors), np.stack(list(vectors.values())), **options)

    @classmethod
    def of_pieces(cls, pieces: Sequence[str], matrix: ArrayLike, **options: Any) -> Any:
        """From an encoder's static input embeddings: whole-word pieces of at least three letters.

        Args:
            pieces: the tokenizer's pieces, by id.
            matrix: one row a piece.
            options: as above.
        """
        rows = np.asarray(matrix, dtype=np.float32)
        whole = [
            i for i, one in enumerate(pieces) if len(one) > 2 and one.isalpha() and one.islower()
        ]
        options.setdefault("name", "word pieces")
        return cls([pieces[i] for i in whole], rows[whole], **options)

    @classmethod
    def of_encoder(cls, folder: str | Path, **options: Any) -> EmbeddingNeighbours:
        """From the word-piece matrix of a Hugging Face encoder in ``folder``.

        Raises:
            ImportError: transformers or safetensors is not installed.
            ValueError: the folder holds no word embeddings.
        """
        from safetensors import safe_open
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        with safe_open(str(Path(folder) / "model.safetensors"), "numpy") as weights:
            stored = list(weights.keys())
            names = [name for name in stored if name.endswith("word_embeddings.weight")]
            if not names:
                raise ValueError(f"{folder} holds no word_embeddings.weight; pass an encoder")
            matrix = weights.get_tensor(names[0])
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(matrix))))
        found: EmbeddingNeighbours = cls.of_pieces(
            [str(one) for one in pieces], matrix, **{"name": Path(folder).name, **options}
        )
        return found

    def synonyms(self, word: str) -> tuple[str, ...]:
        with self._lock:
            return self._known(word)

    def _look_up(self, word: str) -> tuple[str, ...]:
        place = self._place.get(word)
        if place is None:
            return ()
        near = np.round(self._unit @ self._unit[place], 5)
        near[place] = -2.0
        best = np.lexsort((np.arange(len(near)), -near))[: self.count]
        return tuple(self._words[i] for i in best if near[i] >= self.threshold)
