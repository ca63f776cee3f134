"""Synonyms from a local WordNet, read by NLTK: Debian's ``wordnet-base`` or NLTK's own data."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import threading
import warnings
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/share/wordnet")
NEEDED = ("index.noun", "data.noun", "index.verb", "data.verb", "index.adj", "data.adj")
INSTALL = (
    "install Debian's packages wordnet-base and wordnet-sense-index (apt-get install "
    "--no-install-recommends wordnet-base wordnet-sense-index), or NLTK's data (python -m "
    "nltk.downloader wordnet), or pass the folder as path="
)
_NOUNS = (
    "Tops act animal artifact attribute body cognition communication event feeling food group "
    "location motive object person phenomenon plant possession process quantity relation shape "
    "state substance time"
)
_VERBS = (
    "body change cognition communication competition consumption contact creation emotion motion "
    "perception possession social stative weather"
)


class WordNetMissingError(RuntimeError):
    """WordNet, or the NLTK package that reads it, is not installed."""


def lexicographer_files() -> str:
    """The table ``lexnames`` of WordNet 3.0, which Debian does not ship; see lexnames(5WN)."""
    names = [("adj.all", 3), ("adj.pert", 3), ("adv.all", 4)]
    names += [(f"noun.{one}", 1) for one in _NOUNS.split()]
    names += [(f"verb.{one}", 2) for one in _VERBS.split()]
    names.append(("adj.ppl", 3))
    return "".join(f"{i:02d}\t{name}\t{part}\n" for i, (name, part) in enumerate(names))


class WordNetSynonyms:
    """Single-word synonyms of the commonest senses of a word.

    Args:
        path: folder with WordNet's files; Debian's, or NLTK's data, when ``None``.
        senses: how many senses of a word are looked at, commonest first, at least 1.

    Raises:
        WordNetMissingError: WordNet or NLTK is not installed.
    """

    def __init__(self, path: str | Path | None = None, senses: int = 3) -> None:
        if senses < 1:
            raise ValueError(f"senses must be >= 1, got {senses!r}; 3 takes the commonest ones")
        if importlib.util.find_spec("nltk") is None:
            raise WordNetMissingError(
                "reading WordNet needs NLTK, which is not installed; install "
                "'robust-components[clucert]'"
            )
        self.path = _folder(path)
        self.senses = senses
        self.name = "WordNet"
        index = hashlib.sha256((self.path / "index.noun").read_bytes()).hexdigest()
        self.fingerprint = f"{index}, {senses} senses"
        self._lock = threading.Lock()
        self._reader = _reader(str(self.path))
        self._known = functools.lru_cache(maxsize=100_000)(self._look_up)

    def synonyms(self, word: str) -> tuple[str, ...]:
        with self._lock:  # NLTK's reader is not safe to share between threads
            return self._known(word)

    def _look_up(self, word: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        senses = self._reader.synsets(word)
        if (self.path / "cntlist.rev").is_file():  # across parts of speech, the commonest first
            senses = sorted(senses, key=lambda sense: -_uses(sense, word))
        for sense in senses[: self.senses]:
            for name in sense.lemma_names():
                if name.isalpha() and name.islower() and name != word:
                    found[name] = None
        return tuple(found)


def _uses(sense: Any, word: str) -> int:
    """How often the texts WordNet was counted on use the word in this sense."""
    return sum(lemma.count() for lemma in sense.lemmas() if lemma.name() == word)


def _folder(path: str | Path | None) -> Path:
    tried = [Path(path)] if path is not None else [DEBIAN, *_nltk_folders()]
    for folder in tried:
        if all((folder / name).is_file() for name in NEEDED):
            return folder
    where = ", ".join(str(folder) for folder in tried)
    raise WordNetMissingError(f"WordNet was not found in {where}; {INSTALL}")


def _nltk_folders() -> list[Path]:
    import nltk

    return [Path(folder) / "corpora" / "wordnet" for folder in nltk.data.path]


@functools.cache
def _reader(folder: str) -> Any:
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):  # type: ignore[misc]
        def open(self, file: str) -> Any:
            if file == "lexnames" and not (Path(folder) / file).is_file():
                return io.StringIO(lexicographer_files())
            return super().open(file)

        def map_wn(self, version: str = "wordnet") -> None:
            """No map to another version: only other languages need it."""

    if folder not in nltk.data.path:
        nltk.data.path.append(folder)  # NLTK opens files below registered folders only
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*multilingual.*")
        return Reader(folder, None)
