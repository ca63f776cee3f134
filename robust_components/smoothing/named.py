"""Mechanisms by name and plain settings, as configuration files have them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from robust_components.checks import no_class
from robust_components.smoothing.balanced_mask import BalancedMask
from robust_components.smoothing.hash_buckets import HashBuckets
from robust_components.smoothing.mechanism import FixedMechanism
from robust_components.smoothing.random_mask import RandomMask

MECHANISMS: dict[str, type[BalancedMask] | type[HashBuckets] | type[RandomMask]] = {
    kind.name: kind for kind in (BalancedMask, HashBuckets, RandomMask)
}


def as_mechanism(value: Any) -> FixedMechanism | RandomMask:
    """A mechanism, or one with default settings by its name.

    Raises:
        ValueError: no mechanism has that name.
        TypeError: it is neither.
    """
    if isinstance(value, str):
        return mechanism_named(value)
    no_class("mechanism", value)
    if not isinstance(value, FixedMechanism | RandomMask):
        raise TypeError(
            f"mechanism must be a BalancedMask, HashBuckets or RandomMask, or one of "
            f"{sorted(MECHANISMS)}, got {value!r}; pass BalancedMask(10), for example"
        )
    return value


def name_and_settings(
    mechanism: Any, settings: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any] | None]:
    """Plain data for a mechanism that is named, or given itself.

    Args:
        mechanism: a name, with ``settings``; or a mechanism, without.

    Raises:
        TypeError, ValueError: it is neither, or both kinds of settings are given.
    """
    if isinstance(mechanism, str):
        return mechanism, None if settings is None else dict(settings)
    if settings is not None:
        raise ValueError(
            f"mechanism_kwargs go with the name of a mechanism, got {dict(settings)} beside "
            f"{mechanism!r}; leave them out"
        )
    plain = as_mechanism(mechanism).to_dict()
    return plain.pop("name"), plain


def mechanism_named(
    name: str, settings: Mapping[str, Any] | None = None
) -> FixedMechanism | RandomMask:
    """The mechanism ``name`` with ``settings``; defaults for what they do not name.

    Raises:
        ValueError: no mechanism, or no setting of it, has that name; or a value is out of range.
        TypeError: a value is of the wrong type.
    """
    if not isinstance(name, str) or name not in MECHANISMS:
        raise ValueError(f"mechanism must be one of {sorted(MECHANISMS)}, got {name!r}")
    kind = MECHANISMS[name]
    settings = dict(settings or {})
    allowed = list(inspect.signature(kind).parameters)
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; it has {', '.join(allowed)}")
    return kind(**settings)
