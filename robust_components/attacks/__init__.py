"""Attacks, for probes and evaluation."""

from robust_components.attacks.attack import Attack, AttackResult, attacker_rank, edits_between
from robust_components.attacks.insertion import InsertedSentence, PrependedTrigger, QueryStuffing
from robust_components.attacks.passages import (
    instruction_override_passage,
    poison_passage,
    prompt_injection_passage,
)
from robust_components.attacks.substitution import WordSubstitution
from robust_components.attacks.vocabulary import embedding_neighbours

__all__ = [
    "Attack",
    "AttackResult",
    "InsertedSentence",
    "PrependedTrigger",
    "QueryStuffing",
    "WordSubstitution",
    "attacker_rank",
    "edits_between",
    "embedding_neighbours",
    "instruction_override_passage",
    "poison_passage",
    "prompt_injection_passage",
]
