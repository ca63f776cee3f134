"""Attacks, for probes and evaluation."""

from robust_components.attacks.passages import poison_passage, prompt_injection_passage

__all__ = ["poison_passage", "prompt_injection_passage"]
