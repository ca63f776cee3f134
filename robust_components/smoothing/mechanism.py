"""What all smoothing mechanisms offer: a text becomes masked copies, an attacker touches few.

Source: (de)randomized smoothing (Levine & Feizi 2020, 2021), RobustMask (arXiv 2512.23307).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from robust_components.smoothing.words import join_words
from robust_components.threats import WordEdits


@dataclass(frozen=True)
class MaskedCopy:
    """One masked copy of a text.

    Attributes:
        text: what the model sees.
        partition: number of the partition the copy belongs to.
        touchable: whether an edit inside the threat model can change this copy.
        visible: positions of the words shown, ascending.
    """

    text: str
    partition: int
    touchable: bool
    visible: tuple[int, ...]


@runtime_checkable
class FixedMechanism(Protocol):
    """A fixed family of masked copies; what is deployed is made of the scores of all of them.

    Attributes:
        name: for certificates.
        blocks: copies a partition.
        partitions: number of partitions.
        operations: edits covered, ``"substitute"`` or ``"any"``.
    """

    name: ClassVar[str]

    @property
    def blocks(self) -> int: ...

    @property
    def partitions(self) -> int: ...

    @property
    def operations(self) -> str: ...

    def copies(self, words: Sequence[str]) -> list[MaskedCopy]:
        """``blocks * partitions`` copies, partition by partition."""
        ...

    def touched(self, threat: WordEdits) -> int:
        """Largest number of copies of one partition that the attacker can change."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain data, for certificates and YAML."""
        ...


def show(words: Sequence[str], visible: Sequence[int], mask_token: str | None) -> str:
    """The text with hidden words deleted or, with ``mask_token``, replaced one for one."""
    if mask_token is None:
        return join_words(words[i] for i in visible)
    shown = set(visible)
    return join_words(word if i in shown else mask_token for i, word in enumerate(words))
