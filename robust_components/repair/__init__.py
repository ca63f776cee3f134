"""Find and correct the few neurons attacks go through, as a patch that can be taken out.

Names are loaded when they are asked for: most need torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robust_components.repair.guard import Limits
    from robust_components.repair.patch import Patch
    from robust_components.repair.perturb import Perturbation
    from robust_components.repair.probes import Probe, probe_with, read_probes, write_probes
    from robust_components.repair.repaired import NeuronRepairedRanker
    from robust_components.repair.repairing import RepairRolledBackError, repair

__all__ = [
    "Limits",
    "NeuronRepairedRanker",
    "Patch",
    "Perturbation",
    "Probe",
    "RepairRolledBackError",
    "probe_with",
    "read_probes",
    "repair",
    "write_probes",
]

_FILES = {
    "Limits": "guard",
    "NeuronRepairedRanker": "repaired",
    "Patch": "patch",
    "Perturbation": "perturb",
    "RepairRolledBackError": "repairing",
    "repair": "repairing",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = _FILES.get(name, "probes")
    return getattr(importlib.import_module(f"{__name__}.{file}"), name)
