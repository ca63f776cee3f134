"""Find and correct the few neurons attacks go through, as a patch that can be taken out."""

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
