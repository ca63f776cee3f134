"""Mechanisms by name and plain settings, as configuration files have them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from robust_components.smoothing.balanced_mask import BalancedMask
from robust_components.smoothing.hash_buckets import HashBuckets
from robust_components.smoothing.mechanism import FixedMechanism
from robust_components.smoothing.random_mask import RandomMask

MECHANISMS: dict[str, type[BalancedMask] | type[HashBuckets] | type[RandomMask]] = {
    kind.name: kind for kind in (BalancedMask, HashBuckets, RandomMask)
}


def mechanism_named(
    name: str, settings: Mapping[str, Any] | None = None
) -> FixedMechanism | RandomMask:
    """The mechanism ``name`` with ``settings``; defaults for what they do not name.

    Raises:
        ValueError: no mechanism, or no setting of it, has that name; or a value is out of range.
        TypeError: a value is of the wrong type.
    """
    if name not in MECHANISMS:
        raise ValueError(f"mechanism must be one of {sorted(MECHANISMS)}, got {name!r}")
    kind = MECHANISMS[name]
    settings = dict(settings or {})
    allowed = list(inspect.signature(kind).parameters)
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; it has {', '.join(allowed)}")
    return kind(**settings)
