"""Where synonyms come from: tables. All are fixed functions of one word.

Our own small table works at once; WordNet, GloVe and an encoder's word pieces are in
:mod:`.wordnet` and :mod:`.neighbours`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

BUILT_IN = Path(__file__).parent / "data" / "synonyms.txt"


@runtime_checkable
class SynonymSource(Protocol):
    """Gives the synonyms of a word, always the same ones.

    Attributes:
        name: for certificates.
        fingerprint: stands for its content.
    """

    name: str
    fingerprint: str

    def synonyms(self, word: str) -> Sequence[str]:
        """Synonyms of a lower-case word without punctuation; the word itself is not among them."""
        ...


def core(word: str, *, masked: bool = False) -> tuple[str, str, str]:
    """A word as it stands in a text in three parts: what precedes it, the word, what follows.

    The word reaches from the first letter or digit to the last. Numbers have no core.

    Args:
        word: without white space.
        masked: the text is masked, so that words in brackets are mask tokens and have no core.
    """
    places = [at for at, one in enumerate(word) if one.isalnum()]
    bracketed = word[:1] in ("[", "<") and word[-1:] in ("]", ">")
    if (masked and bracketed) or not any(one.isalpha() for one in word):
        return word, "", ""
    start, end = places[0], places[-1] + 1
    return word[:start], word[start:end], word[end:]


def in_the_form_of(word: str, synonym: str) -> str:
    """``synonym`` with the punctuation and the capitals of ``word``, as it stands in a text."""
    before, bare, after = core(word)
    if not bare:
        return word
    if len(bare) > 1 and bare.isupper():
        synonym = synonym.upper()
    elif bare[0].isupper():
        synonym = synonym[:1].upper() + synonym[1:]
    return f"{before}{synonym}{after}"


def synonyms_of(source: SynonymSource, word: str) -> tuple[str, ...]:
    """Synonyms of a word as it stands in a text, in its form; none with spaces."""
    bare = core(word, masked=True)[1].lower()
    if not bare:
        return ()
    found = (one for one in source.synonyms(bare) if len(one.split()) == 1 and one != bare)
    return tuple(dict.fromkeys(in_the_form_of(word, one) for one in found))


class SynonymTable:
    """Synonyms from a table, such as one of a domain.

    Args:
        table: maps a word to its synonyms; capitals play no part.
        name: for certificates.

    Raises:
        ValueError: an entry is not one word, or has punctuation at its ends.
    """

    def __init__(self, table: Mapping[str, Iterable[str]], name: str = "table") -> None:
        self.table: dict[str, tuple[str, ...]] = {}
        for word, others in table.items():
            plain = [_plain(one) for one in (word, *others)]
            self.table[plain[0]] = tuple(one for one in dict.fromkeys(plain) if one != plain[0])
        self.name = name
        listed = "\n".join(f"{word}\t{' '.join(self.table[word])}" for word in sorted(self.table))
        self.fingerprint = hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()

    @classmethod
    def of_groups(cls, groups: Iterable[Iterable[str]], name: str = "groups") -> SynonymTable:
        """From groups in which every word is a synonym of every other."""
        table: dict[str, list[str]] = {}
        for group in groups:
            words = list(dict.fromkeys(word.lower() for word in group))
            for word in words:
                table.setdefault(word, []).extend(one for one in words if one != word)
        return cls(table, name)

    @classmethod
    def from_file(cls, path: str | Path, name: str | None = None) -> SynonymTable:
        """From a UTF-8 text file with a group a line, words separated by spaces; # comments.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no group of two words.
        """
        groups = read_groups(path)
        return cls.of_groups(groups, name or Path(path).name)

    def synonyms(self, word: str) -> tuple[str, ...]:
        return self.table.get(word, ())


def _plain(word: str) -> str:
    lower = word.lower()
    if core(lower)[1] != lower or len(lower.split()) != 1:
        raise ValueError(
            f"a synonym table holds single words with a letter and without punctuation at their "
            f"ends, got {word!r}; leave it out"
        )
    return lower


def read_groups(path: str | Path) -> list[list[str]]:
    """The groups of a file; see :meth:`SynonymTable.from_file`."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    groups = [line.split() for line in lines if not line.lstrip().startswith("#")]
    groups = [group for group in groups if group]
    if not any(len(group) > 1 for group in groups):
        raise ValueError(
            f"{path} holds no synonyms; write words that mean the same on one line, with spaces "
            "between them"
        )
    return groups


@functools.cache
def built_in_synonyms() -> SynonymTable:
    """Our own table: some hundred frequent English words in groups."""
    return SynonymTable.from_file(BUILT_IN, "built-in synonyms")
