"""Time and memory of one repair, as the command line does it.

    python -m benchmarks.repair_cost --probes FILE --json FILE

FILE holds probes as ``python -m benchmarks.repair --cache`` writes them; --count of them are used.
Measured in this process: seconds of the whole repair, of one pass over all documents of the probes
and of the selection among 36,864 neurons with behaviour of --count probes; the largest resident
memory; the size of the patch.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.reporting import write_report


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--probes", type=Path, required=True)
    add("--json", type=Path, help="write the report here")
    add("--count", type=int, default=500)
    add("--objective", choices=("activations", "scores"), default="scores")
    add("--neurons", type=int, default=128)
    add("--model", help="ranker by folder or hub id (the embedded one)")
    add("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def selection_seconds(neurons: int, probes: int, chosen: int) -> float:
    """Of maximum marginal vulnerability on random behaviour."""
    import numpy as np

    from robust_components.repair.select import maximum_marginal_vulnerability

    behaviour = np.random.default_rng(0).random((neurons, probes), dtype=np.float32)
    began = time.perf_counter()
    maximum_marginal_vulnerability(behaviour.mean(axis=1, dtype=float), behaviour, chosen, 0.7)
    return time.perf_counter() - began


def main() -> None:
    options = parse()
    import torch

    from robust_components.models.pair_models import load_pair_scorer
    from robust_components.repair import Perturbation, read_probes, repair
    from robust_components.repair.repaired import copied
    from robust_components.repair.repairing import RepairRolledBackError

    torch.set_num_threads(options.threads)
    scorer = copied(load_pair_scorer(options.model, logits=True))
    probes = read_probes(options.probes)[: options.count]
    documents = list(dict.fromkeys((p.query, text) for p in probes for text in p.documents))
    began = time.perf_counter()
    for query in dict.fromkeys(query for query, _ in documents):
        scorer.score(query, [text for one, text in documents if one == query])
    plain = time.perf_counter() - began
    began = time.perf_counter()
    figures = {}
    try:
        patch = repair(
            scorer,
            probes,
            neurons=options.neurons,
            perturbation=Perturbation(objective=options.objective),
        )
        with tempfile.TemporaryDirectory() as folder:
            patch.save(Path(folder) / "patch")
            figures["patch_bytes"] = (Path(folder) / "patch").stat().st_size
        figures["held_out"] = patch.figures["held_out"]
    except RepairRolledBackError as error:
        figures["rolled_back"] = list(error.objections)
        figures["held_out"] = error.figures["held_out"]
    seconds = time.perf_counter() - began
    figures |= {
        "settings": {
            name: getattr(options, name) for name in ("objective", "neurons", "threads", "model")
        },
        "probes": len(probes),
        "documents": len(documents),
        "repair_seconds": round(seconds, 1),
        "scoring_seconds": round(plain, 1),
        "selection_seconds": round(selection_seconds(36_864, len(probes), 128), 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    write_report(options.json, "repair_cost", {"vs_scoring": round(seconds / plain, 2)}, figures)


if __name__ == "__main__":
    main()
