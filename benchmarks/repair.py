"""What repairing neurons does to attacks on a ranker, beside training and simpler choices.

    python -m benchmarks.repair --data FOLDER --json FILE [--quick]

FOLDER holds train.jsonl and dev.jsonl, questions with paragraphs, of which BM25 lists of chunks are
made. Probes are attacks of several kinds (``seen``) on lists of train.jsonl. Measured are lists of
dev.jsonl, with those kinds and with others (``unseen``), and if --web names a table of MS MARCO
lists, those as well. Attacks are made once, on the ranker as it is, and their documents are shown
to every method's ranker; ``adaptive`` are the seen kinds made anew on the repaired one. Figures,
for every method, mean and standard deviation over seeds, kinds of attack weighing the same:

* ``cmrr``, ``rmrr``: MRR@10 on clean and attacked lists; ``asr``: share of targets that gain a
  place against the rest of the list under the method's own scores, ties counted for the attacker;
  ``gain``: logits an attack adds; ``lsd``: squared displacement, raw and normalised;
* ``seconds`` and ``parameters`` touched.

Methods: ``none``; ``repair`` (published loss), ``repair_scores``, each by maximum marginal
vulnerability; ``top_k``, ``random_k`` (the same steps on scores, other neurons); ``mask_out``;
``adversarial_training``, ``piat``, ``certdr_noise``, ``sns`` (all weights).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.repair_attacks import FIGURES, SEEN, UNSEEN, adaptive, attacked_lists, measured
from benchmarks.repair_methods import METHODS, STRENGTH, Methods, variants
from benchmarks.reporting import write_report


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--json", type=Path, help="write the report here, as figures come")
    add("--quick", action="store_true", help="very small: 1 seed, 10 probes, 2 lists of 4")
    add("--known", type=Path, nargs="*", default=[], help="reports whose rows are taken over")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--probes", type=int, default=125, help="lists of train.jsonl, attacked by each kind")
    add("--probe-candidates", type=int, default=20, help="documents of such a list")
    add("--lists", type=int, default=12, help="lists of dev.jsonl, and of the table")
    add("--candidates", type=int, default=100, help="documents of a list of dev.jsonl")
    add("--targets", type=int, default=9, help="of a list of dev.jsonl")
    add("--adaptive", type=int, default=45, help="targets attacked anew")
    add("--web", type=Path, help="a table of lists with stored ranks, such as dev500.tsv")
    add("--methods", nargs="+", choices=METHODS, default=METHODS)
    add("--neurons", type=int, default=256)
    add("--trade-off", type=float, default=0.7)
    add("--steps", type=int, default=300, help="steps of methods that look at scores")
    add("--training-steps", type=int, default=60, help="steps of methods that train all weights")
    add("--sweep", type=int, nargs="*", default=[], metavar="SEED",
        help="seeds with other numbers of neurons and trade-offs")  # fmt: skip
    add("--sweep-neurons", type=int, nargs="+", default=[32, 64, 128])
    add("--sweep-trade-offs", type=float, nargs="+", default=[0.4, 1.0])
    add("--strengths", type=float, nargs="*", default=[0.5, 1.0], help="of repair_scores besides")
    add("--cache", type=Path, help="folder for attacked lists, to go on after a stop")
    add("--ranker", help="folder of another ranker, such as a T5-shaped one")
    add("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def ranker_of(folder: str | None) -> Any:
    """A ranker of its own, giving logits."""
    from robust_components.models.embedded import WEIGHTS
    from robust_components.models.pair_models import load_pair_scorer
    from robust_components.repair.repaired import copied

    return copied(load_pair_scorer(folder or str(WEIGHTS / "ranker"), logits=True))


def run(options: argparse.Namespace, write: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """All seeds and methods; ``write`` gets the figures after each."""
    import torch

    from robust_components.repair.repaired import copied

    torch.set_num_threads(options.threads)
    plain = ranker_of(options.ranker)
    settings = {k: v.name if isinstance(v, Path) else v for k, v in vars(options).items()}
    for private in ("data", "json", "cache", "known"):
        settings.pop(private, None)
    figures: dict[str, Any] = {
        "settings": settings,
        "ranker": f"{plain.name}, {plain.fingerprint}",
        "by_seed": {},
    }
    for report in options.known:
        known = json.loads(report.read_text(encoding="utf-8"))["figures"]
        check_known(report, known, figures)
        for seed, rows in known["by_seed"].items():
            figures["by_seed"].setdefault(seed, {}).update(rows)
    for seed in options.seeds:
        found = figures["by_seed"].setdefault(str(seed), {})
        wanted = [one for one in variants(options, seed) if one[0] not in found]
        if not wanted:
            continue
        probes = attacked_lists(options, plain, "train", seed, SEEN)
        lists = attacked_lists(options, plain, "dev", seed, [*SEEN, *UNSEEN])
        web = (
            []
            if options.web is None
            else attacked_lists(options, plain, "web", seed, [*SEEN, *UNSEEN])
        )
        methods = Methods(options, plain, probes, seed)
        for label, name, neurons, trade_off in wanted:
            scorer = copied(plain)
            began = time.perf_counter()
            touched = methods.apply(scorer, name, neurons, trade_off)
            seconds = time.perf_counter() - began
            if name in ("repair", "repair_scores", "top_k", "mask_out", "sns"):
                seconds += methods.scan_seconds
            row = {**measured(scorer, lists), "seconds": round(seconds, 2), "parameters": touched}
            if web:
                row["web"] = measured(scorer, web)
            if label in ("repair", "repair_scores"):
                row["adaptive"] = adaptive(options, scorer, lists, seed)
            found[label] = row
            for share in options.strengths if label == "repair_scores" else ():
                other = between(plain, scorer, share / STRENGTH)
                found[f"{label}, strength={share}"] = {
                    **measured(other, lists),
                    **{name: row[name] for name in ("seconds", "parameters")},
                }
            figures["table"] = table(figures["by_seed"])
            write(figures)
    figures["table"] = table(figures["by_seed"])
    write(figures)
    return figures


def between(plain: Any, repaired: Any, share: float) -> Any:
    """A ranker with weights ``share`` of the way from one to the other."""
    from robust_components.repair.repaired import copied

    found = copied(plain)
    new = repaired.network.state_dict()
    for name, old in found.network.state_dict().items():
        if old.is_floating_point():
            old += share * (new[name] - old)
    return found


def check_known(report: Path, known: dict[str, Any], figures: dict[str, Any]) -> None:
    """Whether rows of a report may stand beside this run's.

    Raises:
        ValueError: another ranker, or settings that change figures are others.
    """
    free = ("seeds", "sweep", "methods", "threads", "sweep_neurons", "sweep_trade_offs")
    said, own = (
        {k: v for k, v in f["settings"].items() if k not in free} for f in (known, figures)
    )
    if known["ranker"] != figures["ranker"] or said != own:
        raise ValueError(f"{report} was made with {known['ranker']} and {said}, not with {own}")


def table(by_seed: dict[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of what the paper's tables show."""
    labels = list(dict.fromkeys(label for found in by_seed.values() for label in found))
    rows: dict[str, Any] = {}
    for label in labels:
        runs = [found[label] for found in by_seed.values() if label in found]
        columns: dict[str, list[float]] = {
            "cmrr": [r["cmrr"] for r in runs],
            "seconds": [r["seconds"] for r in runs],
            "parameters": [r["parameters"] for r in runs],
        }
        for figure in FIGURES:
            for group in ("seen", "unseen", "adaptive"):
                if all(group in r for r in runs):
                    columns[f"{group}_{figure}"] = [r[group][figure] for r in runs]
            if all("web" in r for r in runs):
                for group in ("seen", "unseen"):
                    columns[f"web_{group}_{figure}"] = [r["web"][group][figure] for r in runs]
        if all("web" in r for r in runs):
            columns["web_cmrr"] = [r["web"]["cmrr"] for r in runs]
        rows[label] = {"seeds": len(runs)} | {
            name: {
                "mean": round(statistics.mean(values), 4),
                "spread": round(statistics.stdev(values), 4) if len(values) > 1 else None,
            }
            for name, values in columns.items()
        }
    return rows


def main() -> None:
    options = parse()
    if options.quick:
        options.probes, options.lists, options.candidates = 10, 2, 4
        options.seeds, options.steps, options.training_steps = [0], 2, 2
        options.targets, options.adaptive = 1, 2
        options.methods = ["none", "repair_scores", "adversarial_training"]

    def write(figures: dict[str, Any]) -> None:
        rows = figures["table"]
        ratios = {}
        if "adversarial_training" in rows and "repair_scores" in rows:
            seconds = [
                rows[n]["seconds"]["mean"] for n in ("repair_scores", "adversarial_training")
            ]
            ratios["vs_adversarial_training"] = round(seconds[0] / seconds[1], 3)
        write_report(options.json, "repair", ratios, figures)

    rows = run(options, write)["table"]
    if options.json is not None and any(label.startswith("repair_scores, ") for label in rows):
        from benchmarks.repair_plots import sweep

        own = {"K": options.neurons, "lambda": options.trade_off, "strength": STRENGTH}
        sweep(rows, own, options.json.with_name(f"{options.json.stem}_sweep.png"))
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
