"""What an attacker may do. A certificate names one of these, with its budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from robust_components.checks import LARGEST
from robust_components.checks import positive_integer as positive_integer


def _keep_count(threat: Any, name: str) -> None:
    number = positive_integer(name, getattr(threat, name), most=LARGEST)
    object.__setattr__(threat, name, number)


@dataclass(frozen=True)
class PassageInjection:
    """The attacker adds passages of up to ``budget`` sources, anywhere in the ranked list.

    Args:
        budget: number of hostile sources k', in 1..10^9.
        passages_per_source: most passages one hostile source can place in the list. Injected
            passages push the lowest-ranked clean ones out of a full list.
    """

    budget: int = 1
    passages_per_source: int = 1
    kind: ClassVar[str] = "passage_injection"

    def __post_init__(self) -> None:
        _keep_count(self, "budget")
        _keep_count(self, "passages_per_source")

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "budget": self.budget,
            "scope": "sources",
            "passages_per_source": self.passages_per_source,
        }


@dataclass(frozen=True)
class PassageModification:
    """The attacker rewrites all retrieved passages of up to ``budget`` sources, arbitrarily.

    A rewritten passage may drop out of the list; another source then takes its place.
    """

    budget: int = 1
    kind: ClassVar[str] = "passage_modification"

    def __post_init__(self) -> None:
        _keep_count(self, "budget")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "budget": self.budget, "scope": "sources"}


@dataclass(frozen=True)
class WordEdits:
    """The attacker edits up to ``budget`` words of one text, or of each text in ``scope``.

    Args:
        budget: number of edited words, in 1..10^9.
        operations: ``"substitute"``, or ``"any"``: insertions, deletions and moves; a substitution
            then counts as two edits, a deletion and an insertion.
    """

    budget: int = 1
    operations: str = "substitute"
    kind: ClassVar[str] = "word_edits"

    def __post_init__(self) -> None:
        _keep_count(self, "budget")
        if not isinstance(self.operations, str) or self.operations not in ("substitute", "any"):
            raise ValueError(
                f"operations must be 'substitute' or 'any', got {self.operations!r}; choose one"
            )

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "budget": self.budget,
            "scope": "words",
            "operations": self.operations,
        }


@dataclass(frozen=True)
class SynonymEdits:
    """The attacker replaces up to ``budget`` words of one text, each by one of its synonyms.

    Which words are synonyms is fixed by a table both sides know; it is named in the certificate.

    Args:
        budget: number of replaced words, in 1..10^9.
    """

    budget: int = 1
    kind: ClassVar[str] = "synonym_edits"

    def __post_init__(self) -> None:
        _keep_count(self, "budget")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "budget": self.budget, "scope": "words"}
