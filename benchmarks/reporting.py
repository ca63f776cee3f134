"""Shared by all benchmarks: name the machine, write results."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GiB, Python and torch."""
    try:
        model = next(
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, StopIteration, ValueError):
        model, memory = platform.processor(), 0.0
    described = {
        "processor": model,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gib": round(memory, 1),
        "python": platform.python_version(),
    }
    if "torch" in sys.modules:
        described["torch"] = sys.modules["torch"].__version__
    return described


def write_report(
    path: Path | None, name: str, ratios: dict[str, float], figures: dict[str, Any]
) -> dict[str, Any]:
    """Write ``{"name", "command", "machine", "ratios", "figures"}`` as JSON to ``path``."""
    arguments = [Path(a).name if "/" in a else a for a in sys.argv[1:]]
    report = {
        "name": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *arguments]),
        "machine": machine(),
        "ratios": ratios,
        "figures": figures,
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


@dataclass
class Peak:
    mebibytes: float = 0.0


@contextmanager
def peak_memory(device: str = "cpu") -> Iterator[Peak]:
    """The most memory in use at once within the block, beyond what was in use before it.

    On a CPU that of the process (Linux only), otherwise what torch allocates on the device.
    """
    peak = Peak()
    if device == "cpu":
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        yield peak
        peak.mebibytes = (_status("VmHWM") - before) / 2**10
    else:
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak.mebibytes = (torch.cuda.max_memory_allocated() - before) / 2**20


def _status(field: str) -> int:
    """A line of /proc/self/status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status must have {field}, got none; run on Linux")
