"""Attacks, for probes and evaluation."""

from robust_components.attacks.attack import Attack, AttackResult, attacker_rank, edits_between
from robust_components.attacks.character_edits import CharacterEdits
from robust_components.attacks.classification import (
    ClassificationAttack,
    ClassificationAttackResult,
    Judge,
    Judgement,
)
from robust_components.attacks.few_shot import FewShotSentence
from robust_components.attacks.guided import GradientSubstitution, MultiGranular
from robust_components.attacks.insertion import InsertedSentence, PrependedTrigger, QueryStuffing
from robust_components.attacks.misspellings import DeepWordBug, TextBugger
from robust_components.attacks.passages import (
    instruction_override_passage,
    poison_passage,
    prompt_injection_passage,
)
from robust_components.attacks.substitution import WordSubstitution
from robust_components.attacks.vocabulary import embedding_neighbours
from robust_components.attacks.word_swaps import PWWS, TextFooler

__all__ = [
    "PWWS",
    "Attack",
    "AttackResult",
    "CharacterEdits",
    "ClassificationAttack",
    "ClassificationAttackResult",
    "DeepWordBug",
    "FewShotSentence",
    "GradientSubstitution",
    "InsertedSentence",
    "Judge",
    "Judgement",
    "MultiGranular",
    "PrependedTrigger",
    "QueryStuffing",
    "TextBugger",
    "TextFooler",
    "WordSubstitution",
    "attacker_rank",
    "edits_between",
    "embedding_neighbours",
    "instruction_override_passage",
    "poison_passage",
    "prompt_injection_passage",
]
