"""What repairing neurons does to attacks on a ranker, beside training and simpler choices.

    python -m benchmarks.repair --data FOLDER --json FILE [--quick]

FOLDER holds train.jsonl and dev.jsonl, questions with paragraphs. Probes are attacks on BM25 lists
of train.jsonl by one attack; the lists measured are of dev.jsonl, with that attack (``seen``) and
others (``unseen``). Attacks are made once, on the ranker as it is, and their documents are shown to
every method's ranker; ``adaptive`` is the seen attack made anew on the repaired one. Figures, for
every method, mean and standard deviation over seeds:

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reporting import write_report

METHODS = (
    *("none", "repair", "repair_scores", "top_k", "random_k", "mask_out"),
    *("adversarial_training", "piat", "certdr_noise", "sns"),
)
UNSEEN = ("query_stuffing", "inserted_sentence", "query_words")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--json", type=Path, help="write the report here, as figures come")
    add("--quick", action="store_true", help="very small: 10 probes, 2 lists of 4, 1 seed")
    add("--seeds", type=int, default=3)
    add("--probes", type=int, default=60, help="lists of train.jsonl that are attacked")
    add("--lists", type=int, default=20, help="lists of dev.jsonl that are measured")
    add("--candidates", type=int, default=20, help="documents of a list")
    add("--methods", nargs="+", choices=METHODS, default=METHODS)
    add("--neurons", type=int, default=128)
    add("--trade-off", type=float, default=0.7)
    add("--steps", type=int, default=80, help="steps of methods that look at scores")
    add("--step", type=float, default=1e-4, help="length of a step on scores")
    add("--training-steps", type=int, default=80)
    add("--sweep", action="store_true", help="also other numbers of neurons and trade-offs")
    add("--sweep-neurons", type=int, nargs="+", default=[32, 64, 256])
    add("--sweep-trade-offs", type=float, nargs="+", default=[0.4, 1.0])
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


def attacks_on(scorer: Any, seed: int) -> dict[str, Any]:
    """The seen attack and others it does not resemble, small enough that not all succeed."""
    from robust_components.attacks import (
        GradientSubstitution,
        InsertedSentence,
        QueryStuffing,
        embedding_neighbours,
    )

    near = embedding_neighbours(scorer, 4)
    return {
        "seen": GradientSubstitution(5, seed=seed, neighbours=near, free_words=0, tries=4),
        "query_stuffing": QueryStuffing(1, "any", seed),
        "inserted_sentence": InsertedSentence(5, "any", seed, tries=3),
        "query_words": GradientSubstitution(1, seed=seed, neighbours=near, free_words=8, tries=4),
    }


def attacked_lists(
    options: argparse.Namespace, scorer: Any, which: str, seed: int, names: Sequence[str]
) -> list[Any]:
    """Probes of every list by every named attack, kept in the cache folder."""
    from tqdm import tqdm

    from benchmarks.repair_data import chunk_lists, target_of
    from robust_components.models.memo_scorer import MemoScorer
    from robust_components.repair.probes import Probe, read_probes, write_probes

    number = options.probes if which == "train" else options.lists
    drawn = seed + 1 if which == "train" else seed
    name = f"{which}_{seed}_{number}_{options.candidates}_{scorer.fingerprint[:8]}.jsonl"
    if options.cache is not None and (options.cache / name).is_file():
        return read_probes(options.cache / name)
    items = chunk_lists(options.data / f"{which}.jsonl", options.candidates, number, drawn)
    attacks = attacks_on(scorer, drawn)
    found = []
    for item in tqdm(items, desc=f"attacks on {which}, seed {seed}", mininterval=10):
        victim = MemoScorer(scorer)
        scores = victim.score(item.query, item.documents)
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        target = target_of(item, order, drawn)
        relevant = tuple(i for i, one in enumerate(item.ids) if one in item.relevant)
        for kind in names:
            result = attacks[kind].attack(item.query, item.documents, target, victim)
            found.append(Probe(item.query, item.documents, target, result.text, kind, relevant))
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
        write_probes(options.cache / name, found)
    return found


def measured(scorer: Any, probes: Sequence[Any]) -> dict[str, Any]:
    """All figures of one ranker on attacked lists, attack by attack."""
    from robust_components.attacks.attack import attacker_rank
    from robust_components.attacks.metrics import (
        attack_success_rate,
        boost,
        reciprocal_rank,
        squared_displacement,
    )
    from robust_components.models.memo_scorer import MemoScorer

    memo = MemoScorer(scorer)
    rows: dict[str, list[dict[str, Any]]] = {}
    clean: dict[str, float] = {}
    for probe in sorted(probes, key=lambda p: p.query):
        before = memo.score(probe.query, probe.documents)
        after = list(before)
        (after[probe.target],) = memo.score(probe.query, [probe.adversarial])
        raw, share = squared_displacement(before, after, probe.target)
        clean[probe.query] = reciprocal_rank(before, probe.relevant)
        rows.setdefault(probe.attack, []).append(
            {
                "ranks": tuple(attacker_rank(one, probe.target) for one in (before, after)),
                "rr": reciprocal_rank(after, probe.relevant),
                "lsd": raw,
                "lsd_normalised": share,
                "gain": after[probe.target] - before[probe.target],
            }
        )
    found: dict[str, Any] = {"cmrr": statistics.mean(clean.values())}
    for attack, some in rows.items():
        ranks = [row["ranks"] for row in some]
        found[attack] = {
            "targets": len(some),
            "asr": attack_success_rate(ranks),
            "boost": boost(ranks),
            "rmrr": statistics.mean(row["rr"] for row in some),
            **{n: statistics.mean(r[n] for r in some) for n in ("lsd", "lsd_normalised", "gain")},
        }
    return found


class Methods:
    """Changes rankers in place, by the name of a method.

    Args:
        scorer: the ranker as it is.
        probes: attacks on it.
    """

    def __init__(self, options: argparse.Namespace, scorer: Any, probes: Sequence[Any], seed: int):
        from robust_components.repair.scan import scan

        self.options, self.seed = options, seed
        self.probes = [p for p in probes if p.adversarial != p.documents[p.target]]
        began = time.perf_counter()
        self.scan = scan(scorer, self.probes)
        self.scan_seconds = time.perf_counter() - began

    def choose(self, rule: str, neurons: int, trade_off: float) -> list[int]:
        from robust_components.repair import select

        vulnerability, behaviour = self.scan.vulnerability, self.scan.behaviour
        if rule == "random_k":
            return select.random_neurons(len(vulnerability), neurons, self.seed)
        if rule in ("top_k", "mask_out", "sns"):
            return select.top_vulnerable(vulnerability, neurons)
        return select.maximum_marginal_vulnerability(vulnerability, behaviour, neurons, trade_off)

    def apply(self, scorer: Any, name: str, neurons: int, trade_off: float) -> int:
        """Change ``scorer``, a copy of the ranker; returns how many weights were touched."""
        from benchmarks import repair_baselines as baselines
        from robust_components.repair.neurons import find_layers
        from robust_components.repair.perturb import Perturbation, perturb, read_rows
        from robust_components.repair.perturb_scores import perturb_scores

        if name == "none":
            return 0
        layers = find_layers(scorer.network)
        losses: dict[str, Any] = {
            "adversarial_training": baselines.adversarial_training,
            "piat": baselines.perturbation_invariant,
            "certdr_noise": baselines.noise_training,
        }
        chosen = self.choose(name, neurons, trade_off)
        if name == "sns":
            losses["sns"] = baselines.stabilisation(chosen)
        if name in losses:
            steps = self.options.training_steps
            named = [p for p in self.probes if p.relevant]
            return baselines.train(scorer, named, losses[name], steps=steps, seed=self.seed)
        if name == "mask_out":
            return baselines.mask_out(scorer, chosen)
        if name == "repair":
            clean, attacked = (
                [p.clean_pair for p in self.probes],
                [p.adversarial_pair for p in self.probes],
            )
            settings = Perturbation(seed=self.seed)
            rounds = perturb(scorer, layers, chosen, clean, attacked, self.scan.clean, settings)
        else:
            settings = Perturbation(
                objective="scores", step=self.options.step, rounds=1,
                steps=self.options.steps, seed=self.seed,
            )  # fmt: skip
            rounds = perturb_scores(scorer, layers, chosen, self.probes, settings)
        for _ in rounds:
            pass
        return sum(
            one.weight.numel() + (0 if one.bias is None else one.bias.numel())
            for one in read_rows(layers, chosen)
        )


def variants(options: argparse.Namespace) -> Iterator[tuple[str, str, int, float]]:
    """Label, method, neurons and trade-off of everything measured."""
    for name in options.methods:
        yield name, name, options.neurons, options.trade_off
    if options.sweep:
        for neurons in options.sweep_neurons:
            yield f"repair_scores, K={neurons}", "repair_scores", neurons, options.trade_off
        for share in options.sweep_trade_offs:
            yield f"repair_scores, lambda={share}", "repair_scores", options.neurons, share


def run(options: argparse.Namespace, write: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """All seeds and methods; ``write`` gets the figures after each."""
    import torch

    from robust_components.repair.repaired import copied

    torch.set_num_threads(options.threads)
    plain = ranker_of(options.ranker)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    for private in ("data", "json", "cache"):
        settings.pop(private, None)
    figures: dict[str, Any] = {
        "settings": settings,
        "ranker": f"{plain.name}, {plain.fingerprint}",
        "by_seed": {},
    }
    for seed in range(options.seeds):
        probes = attacked_lists(options, plain, "train", seed, ["seen"])
        lists = attacked_lists(options, plain, "dev", seed, ["seen", *UNSEEN])
        found = figures["by_seed"].setdefault(str(seed), {})
        methods = Methods(options, plain, probes, seed)
        for label, name, neurons, trade_off in variants(options):
            scorer = copied(plain)
            began = time.perf_counter()
            touched = methods.apply(scorer, name, neurons, trade_off)
            seconds = time.perf_counter() - began
            if name in ("repair", "repair_scores", "top_k", "mask_out", "sns"):
                seconds += methods.scan_seconds
            found[label] = {
                **measured(scorer, lists),
                "seconds": round(seconds, 2),
                "parameters": touched,
            }
            if label in ("repair", "repair_scores"):
                found[label]["adaptive"] = adaptive(options, plain, scorer, lists, seed)
            figures["table"] = table(figures["by_seed"])
            write(figures)
    return figures


def adaptive(
    options: argparse.Namespace, plain: Any, scorer: Any, lists: Sequence[Any], seed: int
) -> dict[str, Any]:
    """The seen attack made anew on the repaired ranker, same lists and targets."""
    from dataclasses import replace

    from robust_components.models.memo_scorer import MemoScorer

    attack = attacks_on(scorer, seed)["seen"]
    made = []
    for probe in lists:
        if probe.attack == "seen":
            result = attack.attack(probe.query, probe.documents, probe.target, MemoScorer(scorer))
            made.append(replace(probe, adversarial=result.text))
    return dict(measured(scorer, made)["seen"])


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
        for figure in ("asr", "rmrr", "boost", "gain", "lsd", "lsd_normalised"):
            columns[f"seen_{figure}"] = [r["seen"][figure] for r in runs]
            columns[f"unseen_{figure}"] = [
                statistics.mean(r[name][figure] for name in UNSEEN) for r in runs
            ]
            if all("adaptive" in r for r in runs):
                columns[f"adaptive_{figure}"] = [r["adaptive"][figure] for r in runs]
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
        options.seeds, options.steps, options.training_steps = 1, 2, 2
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
    if options.json is not None and options.sweep and "repair_scores" in rows:
        from benchmarks.repair_plots import sweep

        plot = options.json.with_name(f"{options.json.stem}_sweep.png")
        sweep(rows, options.neurons, options.trade_off, plot)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
