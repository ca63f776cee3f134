"""Attacks, for probes and evaluation."""

from robust_components.attacks.passages import (
    instruction_override_passage,
    poison_passage,
    prompt_injection_passage,
)

__all__ = ["instruction_override_passage", "poison_passage", "prompt_injection_passage"]
