"""Substitutions by name, as configuration files have them."""

from __future__ import annotations

from typing import Any

from robust_components.classification.substitute import (
    Substitute,
    Substitution,
    SynonymClasses,
    SynonymKernels,
)
from robust_components.classification.wordnet import WordNetMissingError, WordNetSynonyms
from robust_components.notices import warn_caller

NAMES = ("table", "wordnet", "classes", "kernels")


def substitution(value: Any) -> Substitute | None:
    """A substitution, or the one called ``"table"``, ``"wordnet"``, ``"classes"`` or ``"kernels"``.

    Where WordNet is not installed, ``"wordnet"`` warns and uses our own table; the certificate
    names the source that was used.

    Raises:
        ValueError: there is none of that name.
        TypeError: ``value`` is something else.
    """
    if value is None or isinstance(value, Substitute):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"substitute must be a Substitution, SynonymClasses, SynonymKernels or one of "
            f"{list(NAMES)}, got {type(value).__name__}"
        )
    if value not in NAMES:
        raise ValueError(f"substitute must be one of {list(NAMES)}, got {value!r}")
    if value == "classes":
        return SynonymClasses()
    if value == "kernels":
        return SynonymKernels()
    if value == "table":
        return Substitution()
    try:
        return Substitution(WordNetSynonyms())
    except WordNetMissingError as error:
        warn_caller(f"{error}. The built-in synonym table is used instead")
        return Substitution()
