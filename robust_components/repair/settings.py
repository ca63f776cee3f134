"""Where a repair comes from, as adapters and the command line name it: a patch, or probes.

Needs no torch until something is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robust_components.models.pair_scorer import TransformersPairScorer
    from robust_components.repair.repaired import NeuronRepairedRanker

REPAIR = ("neurons", "trade_off", "held_out", "seed")
PERTURBATION = (
    *("step", "objective", "rounds", "steps", "anchor", "margin", "strength"),
    *("sample", "batch", "pooling"),
)
LIMITS = ("kendall_tau", "mrr_loss", "drift")


def check_source(patch: Any, probes: Any, repair_kwargs: Mapping[str, Any] | None) -> None:
    """Whether a repair comes from one place, with settings that exist.

    Raises:
        ValueError: it does not.
    """
    if (patch is None) == (probes is None):
        raise ValueError(
            f"one of patch and probes must be given, got patch={patch!r} and probes={probes!r}; "
            "make a patch with robust-components repair"
        )
    known = (*REPAIR, *PERTURBATION, *LIMITS)
    unknown = sorted(set(repair_kwargs or ()) - set(known))
    if unknown:
        raise ValueError(f"repair settings {unknown} are unknown; known are {', '.join(known)}")
    if repair_kwargs and patch is not None:
        raise ValueError(
            f"repair settings {sorted(repair_kwargs)} have no effect on a patch, which is a "
            "finished repair; leave them out, or pass probes"
        )


def repair_options(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Flat settings as arguments of :func:`~robust_components.repair.repairing.repair`."""
    from robust_components.repair.guard import Limits
    from robust_components.repair.perturb import Perturbation

    given = dict(given or {})
    found = {name: given[name] for name in REPAIR if name in given}
    moving = {name: given[name] for name in PERTURBATION if name in given}
    if "seed" in given:
        moving["seed"] = given["seed"]
    assert {field.name for field in fields(Perturbation)} == {*PERTURBATION, "seed"}
    found["perturbation"] = Perturbation(**moving)
    found["limits"] = Limits(**{name: given[name] for name in LIMITS if name in given})
    return found


def repaired_ranker(
    scorer: TransformersPairScorer,
    patch: str | Path | None,
    probes: str | Path | None,
    repair_kwargs: Mapping[str, Any] | None,
    top_k: int,
) -> NeuronRepairedRanker:
    """The ranker with its patch, or repaired with the probes in a file."""
    from robust_components.repair.probes import read_probes
    from robust_components.repair.repaired import NeuronRepairedRanker

    check_source(patch, probes, repair_kwargs)
    if patch is not None:
        return NeuronRepairedRanker(scorer, patch, top_k=top_k)
    assert probes is not None
    options = repair_options(repair_kwargs)
    return NeuronRepairedRanker.repair(scorer, read_probes(probes), top_k=top_k, **options)
