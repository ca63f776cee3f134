"""Masked copies of a text, of which an attacker with a word budget can change only a few."""

from robust_components.smoothing.balanced_mask import BalancedMask
from robust_components.smoothing.hash_buckets import HashBuckets
from robust_components.smoothing.mechanism import FixedMechanism, MaskedCopy
from robust_components.smoothing.named import as_mechanism, mechanism_named, name_and_settings
from robust_components.smoothing.random_mask import RandomMask
from robust_components.smoothing.term_coverage import TermCoverage
from robust_components.smoothing.words import join_words, split_words

__all__ = [
    "BalancedMask",
    "FixedMechanism",
    "HashBuckets",
    "MaskedCopy",
    "RandomMask",
    "TermCoverage",
    "as_mechanism",
    "join_words",
    "mechanism_named",
    "name_and_settings",
    "split_words",
]
