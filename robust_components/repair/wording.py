"""The sentences of certificates about repaired rankers: figures, and that they prove nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REASON = (
    "Measured on the attacks counted in the evidence, and proved against none: another attack may "
    "succeed more often."
)
ASSUMPTIONS = (
    "The figures were measured on the probes counted in the evidence, which may hold attacks that "
    "succeeded before the repair and no others; other queries, documents and attacks may do "
    "otherwise.",
    "How far the repair went was chosen on the held-out attacks, so their figures are a little too "
    "good.",
    "The patch was applied to the model it was made for.",
)
KINDS = {
    "held_out": "held-out attacks of the kinds it was repaired with",
    "unseen": "attacks that were not used to repair it",
    "adaptive": "attacks made anew on the repaired ranker",
}


def claim(figures: Mapping[str, Any]) -> str:
    """One sentence with every count of the evidence.

    Args:
        figures: for each of :data:`KINDS` ``lists``, ``succeeded_before`` and
            ``succeeded_after``, or ``None`` where nothing was measured.
    """
    parts = []
    for name, kind in KINDS.items():
        counted = figures[name]
        if counted is None or not counted["lists"]:
            parts.append(f"{kind} were not measured")
        else:
            parts.append(
                f"{kind} raised {counted['succeeded_after']} of {counted['lists']} targets "
                f"({counted['succeeded_before']} before)"
            )
    return f"After a repair of {figures['neurons']} neurons, {'; '.join(parts)}."
