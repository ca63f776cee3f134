"""Real questions with real search snippets, clean and attacked.

    python -m benchmarks.realtimeqa --data dev.json --json results.json

The data are those published with RobustRAG (50 questions; top 10 snippets with text; a passage is
title + text). The attacker puts one passage first, which pushes the tenth out: a prompt injection
(PIA) or a false passage (Poison), repeated within the passage. Figures are shares of questions:

* ``accuracy``: a gold answer occurs as whole words in the normalised answer, clean list;
* ``certified_*``: tau = 1, no attack of k' = 1 leads to an answer without a gold answer in it;
* ``*_accuracy`` and ``*_attack_success`` under each attack; success means that the attacker's
  answer occurs in the answer. ``*_abstain`` withholds answers not certified for k' = 1.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.reporting import write_report
from robust_components.answers import contains_gold
from robust_components.attacks import poison_passage, prompt_injection_passage
from robust_components.models.embedded import MANY_PASSAGES, load_reader
from robust_components.models.memo import MemoReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.threats import PassageInjection, PassageModification

TOP_K = 10
THREATS = {"injection": PassageInjection(1), "modification": PassageModification(1)}


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Questions with gold answers, the attacker's target, and clean and hostile passages."""
    questions = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        snippets = [s for s in row["context"] if (s.get("text") or "").strip()][:TOP_K]
        target = row["incorrect answer"]
        questions.append(
            {
                "question": row["question"],
                "gold": [*row["correct answer"], *row["expanded answer"]],
                "target": target,
                "clean": [f"{s['title']} {s['text']}" for s in snippets],
                "attacks": {
                    "pia": prompt_injection_passage(row["question"], target),
                    "poison": poison_passage("", row["incorrect_context"][0]).strip(),
                },
            }
        )
    return questions


def evaluate(questions: list[dict[str, Any]], reader: Any) -> dict[str, dict[str, float]]:
    """Figures for plain retrieval-augmented reading and each aggregation."""
    memo = MemoReader(reader)
    systems = {
        "voting": RobustRAGGenerator(memo, "voting", 1, top_k=TOP_K),
        "keyword": RobustRAGGenerator(memo, "keyword", 1, top_k=TOP_K),
        "decoding": RobustRAGGenerator(reader, "decoding", 1, top_k=TOP_K),
    }
    figures: dict[str, dict[str, float]] = {name: {} for name in ("plain", *systems)}
    share = 1 / len(questions)

    def count(system: str, figure: str, value: float) -> None:
        figures[system][figure] = round(figures[system].get(figure, 0.0) + value * share, 4)

    for item in tqdm(questions, desc="realtimeqa"):
        lists = {"clean": item["clean"]}
        for attack, passage in item["attacks"].items():
            lists[attack] = [passage, *item["clean"]][:TOP_K]
        for condition, passages in lists.items():
            prefix = "" if condition == "clean" else condition + "_"
            plain = reader.read_together(item["question"], passages).answer
            count("plain", f"{prefix}accuracy", contains_gold(plain, item["gold"]))
            if prefix:
                count("plain", f"{prefix}attack_success", contains_gold(plain, [item["target"]]))
            for name, system in systems.items():
                result = system.run(item["question"], passages)
                answer = None if result.abstained else result.answer
                withheld = answer if result.certificate.certified else None
                if not result.certificate.verify():
                    raise AssertionError(result.certificate.problems())
                count(name, f"{prefix}accuracy", contains_gold(answer, item["gold"]))
                count(name, f"{prefix}certified_for_1", result.certificate.certified)
                count(name, f"{prefix}accuracy_abstain", contains_gold(withheld, item["gold"]))
                if prefix:
                    hit = [item["target"]]
                    count(name, f"{prefix}attack_success", contains_gold(answer, hit))
                    count(name, f"{prefix}attack_success_abstain", contains_gold(withheld, hit))
        for name, system in systems.items():
            for kind, threat in THREATS.items():
                certificate = system.certify(
                    item["question"], item["clean"], threat, gold=item["gold"]
                )
                count(name, f"certified_{kind}", certificate.evidence["tau"])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="dev.json of RealtimeQA")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--reader", type=Path, help="folder of another reader adapter")
    parser.add_argument("--quick", action="store_true", help="first 10 questions")
    arguments = parser.parse_args()
    questions = read_questions(arguments.data)
    questions = questions[:10] if arguments.quick else questions
    figures = evaluate(questions, load_reader(arguments.reader, threshold=MANY_PASSAGES))
    write_report(arguments.json, "realtimeqa", {}, {"questions": len(questions), **figures})
    for name, row in figures.items():
        print(name, json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
