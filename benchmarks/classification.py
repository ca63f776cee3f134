"""What certified classification costs in accuracy and time, certifies, and withstands.

    python -m benchmarks.classification --json FILE [--data FOLDER] [--quick]

FOLDER holds sst2/, agnews/, gsm8k/, adversarial_pairs/, counterfitted_neighbors/ and
wordnet_subset/ (benchmarks/classification_data.py); without it only the ratios are measured.
The embedded classifiers are the models. Figures, for each set:

* ``rules``: accuracy and certified accuracy by edited words (plotted beside FILE), mean radius and
  its coefficient of variation, model calls and time a text. ``fixed_masks`` (soft votes, what is
  deployed), ``fixed_masks_hard``, ``hash_buckets`` (edits are insertions and deletions) on all
  texts; ``sampled`` and the published rules (benchmarks/classification_rules.py and CluCERT's own)
  on the first --sample texts, with --samples copies. ``sound`` says which rules are proofs.
* ``ablation``: the four stages with synonyms and clusters, without refining, without clustering,
  and certification alone, on the first --ablated texts.
* ``attacks`` on the plain and the smoothed classifier on the first --attacked texts, and replayed
  recorded ones. Attackers see vote shares.

Every attacked text is compared with the certificates. If one is beaten the run ends with status 1.

Ratios: ``deterministic_vs_plain``: processor time of certified classification over plain
prediction, one text of 20 to 60 words at a time, one thread; ``sampled_vs_fixed``: median of the
samples drawn over those of a fixed number.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import classification_speed
from benchmarks.classification_attacks import Campaign, Remembered
from benchmarks.classification_data import (
    Labelled,
    read_pairs,
    read_solutions,
    read_synonyms,
    read_texts,
)
from benchmarks.classification_figures import Said, summary
from benchmarks.classification_rules import RULES
from benchmarks.reporting import write_report
from robust_components.classification import CluCertClassifier, RefineCopies
from robust_components.classification.cluster import Clustering
from robust_components.models.prompt_classifier import final_number
from robust_components.smoothing import HashBuckets, RandomMask

MODELS = {"sst2": "sentiment", "agnews": "topic"}
PUBLISHED_RATE = 0.4
STAGES = ("rules", "sampled", "ablation", "attacks", "speed")


def component_rows(
    classifier: CluCertClassifier, texts: Sequence[Labelled], name: str
) -> list[Said]:
    """What the component says of each text, one at a time."""
    classifier.warm_up()
    rows = []
    for item in tqdm(texts, desc=name, mininterval=10):
        began = time.process_time()
        found = classifier.classify(item.text)
        seconds = time.process_time() - began
        right = found.label == item.label
        rows.append(Said(right, found.radius, found.copies, seconds, item.label))
    return rows


def plain_rows(model: Any, texts: Sequence[Labelled]) -> list[Said]:
    rows = []
    for item in texts:
        began = time.process_time()
        (label,) = model.classify([item.text])
        seconds = time.process_time() - began
        rows.append(Said(label == item.label, 0, 1, seconds, item.label))
    return rows


def rules(model: Any, texts: Sequence[Labelled]) -> dict[str, Any]:
    """The plain model and fixed masks, on all texts."""
    model = Remembered(model)
    hard = CluCertClassifier(model, votes="hard")
    found = {
        "plain": summary(plain_rows(model, texts)),
        "fixed_masks": summary(component_rows(CluCertClassifier(model), texts, "fixed masks")),
        "fixed_masks_hard": summary(component_rows(hard, texts, "hard votes")),
        "hash_buckets": summary(
            component_rows(CluCertClassifier(model, HashBuckets(9)), texts, "hash buckets")
        ),
    }
    del found["fixed_masks_hard"]["milliseconds_a_text"]  # the model had read the copies before
    return found


def sampled_rules(
    model: Any, texts: Sequence[Labelled], samples: int, encoder: Any
) -> dict[str, Any]:
    """Random masks: ours, and the published rules, marked where they are no proof."""
    ours = CluCertClassifier(model, RandomMask(0.9, samples, None, seed=0))
    found = {"sampled": summary(component_rows(ours, texts, "sampled"))}
    for name, (rule, sound) in RULES.items():
        rows = []
        for item in tqdm(texts, desc=name, mininterval=10):
            began = time.process_time()
            verdict = rule(model, item.text, samples)
            seconds = time.process_time() - began
            right = verdict.label == item.label
            rows.append(Said(right, verdict.radius, verdict.copies, seconds, item.label))
        found[name] = summary(rows, sound=sound)
    published = CluCertClassifier(
        model,
        RandomMask(PUBLISHED_RATE, samples, None, seed=0),
        method="clucert",
        substitute="table",
        cluster=Clustering(encoder),
    )
    rows = component_rows(published, texts, "published CluCERT")
    return {**found, "clucert_as_published": summary(rows, sound=False)}


def ablation(model: Any, texts: Sequence[Labelled], encoder: Any) -> dict[str, Any]:
    """The stages before certification, with fixed masks and hard votes."""
    refine = RefineCopies.keep_important(8)
    cluster = Clustering(encoder, variants=6)
    variants: dict[str, dict[str, Any]] = {
        "all_stages": {"refine": refine, "substitute": "table", "cluster": cluster},
        "without_refine": {"substitute": "table", "cluster": cluster},
        "without_clustering": {"refine": refine, "substitute": "table"},
        "certify_alone": {},
    }
    return {
        name: summary(
            component_rows(CluCertClassifier(model, votes="hard", **settings), texts, name)
        )
        for name, settings in variants.items()
    }


def recorded_answers(folder: Path) -> dict[str, Any]:
    """GSM8K: the label is the final number of a recorded solution.

    Only answers to whole questions were recorded, none to masked ones, so there is an accuracy and
    nothing to certify.
    """
    rows = read_solutions(folder)
    found: dict[str, Any] = {"questions": len(rows)}
    models = [name for name in rows[0] if name not in ("question", "ground_truth")] if rows else []
    for name in models:
        numbers = [final_number(str(row[name]["solution"])) for row in rows]  # type: ignore[index]
        truth = [final_number(str(row["ground_truth"])) for row in rows]
        right = [
            one is not None and one == other for one, other in zip(numbers, truth, strict=True)
        ]
        said = [bool(row[name]["is_correct"]) for row in rows]  # type: ignore[index]
        found[name] = {
            "accuracy": round(sum(right) / len(rows), 4),
            "same_verdict_as_recorded": round(
                sum(a == b for a, b in zip(right, said, strict=True)) / len(rows), 4
            ),
        }
    return found


class Evaluation:
    """All figures, written as they come."""

    def __init__(self, arguments: argparse.Namespace, load: Callable[[str], Any]) -> None:
        self.arguments = arguments
        self.load = load
        self.ratios: dict[str, float] = {}
        self.figures: dict[str, Any] = {}
        if arguments.keep and arguments.json is not None and arguments.json.is_file():
            before = json.loads(arguments.json.read_text(encoding="utf-8"))
            self.ratios, self.figures = before["ratios"], before["figures"]
            self.figures.setdefault("earlier_commands", []).append(before["command"])
        self.violations: list[str] = []

    def write(self) -> None:
        write_report(self.arguments.json, "classification", self.ratios, self.figures)

    def one_set(self, name: str, folder: Path, encoder: Callable[[], Any]) -> None:
        """Everything about one set of texts."""
        options = self.arguments
        model = self.load(MODELS[name])
        texts = read_texts(name, folder, options.seed)[: options.limit]
        described = {"texts": len(texts), "model": model.fingerprint}
        figures = self.figures.setdefault(name, described)
        if any(figures[key] != value for key, value in described.items()):
            raise ValueError(f"--keep: the figures of {name} are of another model or other texts")
        if "rules" in options.stages:
            figures["mechanism"] = CluCertClassifier(model).mechanism.to_dict()
            figures["rules"] = rules(model, texts)
            self.write()
        if "sampled" in options.stages:
            few = texts[: options.sample]
            figures["sampled_rules"] = sampled_rules(model, few, options.samples, encoder())
            self.write()
        if "ablation" in options.stages:
            figures["ablation"] = ablation(model, texts[: options.ablated], encoder())
            self.write()
        if "attacks" in options.stages:
            table = read_synonyms(folder)
            pairs = read_pairs(name, folder, options.seed)[: options.replayed]
            campaign = Campaign(
                CluCertClassifier(Remembered(model)),
                lambda word: table.get(word, []),
                seed=options.seed,
            )
            for item in tqdm(texts[: options.attacked], desc="attacks", mininterval=10):
                campaign.run(item)
            figures["attacks"] = campaign.figures()
            self.write()
            figures["replay"] = campaign.replay(pairs)
            figures["attacks"] = campaign.figures()
            self.violations += [f"{name}, {one}" for one in campaign.violations]
            self.write()

    def speed(self) -> None:
        """Ratios, on the embedded sentiment classifier."""
        number = 10 if self.arguments.quick else 100
        texts = classification_speed.made_texts(number, self.arguments.seed)
        model = self.load("sentiment")
        ratio, found = classification_speed.deterministic(model, texts, 3)
        self.ratios["deterministic_vs_plain"] = ratio
        self.figures["deterministic_vs_plain"] = found
        ratio, found = classification_speed.sampled(model, texts[: 3 if number == 10 else 40])
        self.ratios["sampled_vs_fixed"] = ratio
        self.figures["sampled_vs_fixed"] = found
        self.write()


def plots(figures: dict[str, Any], path: Path) -> None:
    """One plot of certified accuracy a set, beside the report."""
    from benchmarks import classification_plots

    for name in MODELS:
        found = figures.get(name, {})
        rules_found = {**found.get("rules", {}), **found.get("sampled_rules", {})}
        if rules_found:
            title = f"{name}, {found['texts']} texts"
            classification_plots.curves(
                rules_found, title, path.with_name(f"{path.stem}_{name}.png")
            )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument(
        "--keep", action="store_true", help="figures in that file stay unless measured anew"
    )
    parser.add_argument("--quick", action="store_true", help="a few texts of everything")
    parser.add_argument("--sets", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--limit", type=int, help="texts of a set; all by default")
    parser.add_argument("--sample", type=int, default=60, help="texts for sampled rules")
    parser.add_argument("--samples", type=int, default=1000, help="masked copies of each of them")
    parser.add_argument("--ablated", type=int, default=100, help="texts for the ablation")
    parser.add_argument("--attacked", type=int, default=300, help="texts of a set attacked")
    parser.add_argument("--replayed", type=int, default=300, help="recorded attacks of a set")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    found = parser.parse_args(arguments)
    if found.quick:
        found.limit = min(found.limit or 10, 10)
        found.sample, found.samples, found.ablated = 2, 200, 1
        found.attacked, found.replayed = 2, 5
    return found


def run(
    arguments: argparse.Namespace, load: Callable[[str], Any], encoder: Callable[[], Any]
) -> list[str]:
    """All stages asked for; returns the certificates that were beaten."""
    evaluation = Evaluation(arguments, load)
    if "speed" in arguments.stages:
        evaluation.speed()
    if arguments.data is not None:
        for name in arguments.sets:
            evaluation.one_set(name, arguments.data, encoder)
        evaluation.figures["gsm8k"] = recorded_answers(arguments.data)
        evaluation.write()
    if arguments.json is not None:
        plots(evaluation.figures, arguments.json)
    print(json.dumps({**evaluation.figures, "ratios": evaluation.ratios}, indent=2))
    return evaluation.violations


def main() -> None:
    arguments = parse()
    import torch

    from robust_components.models import load_classifier, load_encoder

    torch.set_num_threads(arguments.threads)
    beaten = run(arguments, load_classifier, load_encoder)
    if beaten:
        print("CERTIFICATES BEATEN:", *beaten, sep="\n", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
