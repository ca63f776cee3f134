"""The certificate of a repaired ranker: what was measured, bound to model, patch and list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from robust_components.certificate import Certificate, Guarantee, Statement
from robust_components.repair import wording
from robust_components.repair.patch import Patch
from robust_components.threats import WordEdits


def counted(figures: Mapping[str, Any] | None) -> dict[str, int] | None:
    """The counts of one kind of attack, out of a patch's figures."""
    if figures is None:
        return None
    before, after = figures["before"], figures["after"]
    return {
        "lists": int(after["lists"]),
        "succeeded_before": int(before["succeeded"]),
        "succeeded_after": int(after["succeeded"]),
    }


def empirical_certificate(
    patch: Patch,
    query: str,
    documents: Sequence[str],
    *,
    threat: WordEdits,
    model: Mapping[str, Any],
    cost: Mapping[str, Any],
) -> Certificate:
    """Figures of the repair, never certified: radius 0 whatever they are.

    Args:
        patch: of the repair.
        query, documents: what was ranked.
        threat: the word edits asked about.
        model: name and fingerprint of the repaired ranker.
        cost: model passes and seconds.
    """
    figures = {name: counted(patch.figures.get(name)) for name in wording.KINDS}
    drift = patch.figures["clean_drift"]
    evidence: dict[str, Any] = {
        "inputs": {"query": _digest(query), "passages": [_digest(one) for one in documents]},
        "attacks": {
            **figures,
            "neurons": int(patch.settings["neurons"]),
        },
        "clean": {
            "kendall_tau": repr(float(drift["kendall_tau"])),
            "largest_change": repr(float(drift["largest"])),
        },
        "patch": patch.digest,
        "base": patch.base,
        "probes": patch.probes,
    }
    return Certificate(
        claim=wording.claim(evidence["attacks"]),
        certified=False,
        guarantee=Guarantee.EMPIRICAL,
        threat=threat.to_dict(),
        statement=Statement.OBSERVED,
        radius=0,
        method="neuron_repair",
        evidence=evidence,
        assumptions=wording.ASSUMPTIONS,
        reason=wording.REASON,
        model=dict(model),
        cost=dict(cost),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
