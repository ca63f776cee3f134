"""A poisoned passage takes over a plain pipeline; RobustRAGGenerator holds, and says how far.

    python examples/quickstart.py [--json FILE] [--quiet]

The corpus (``corpus.json``) is retrieved by BM25. Each question is asked three times: on the clean
corpus, with a prompt injection in it, and with a PoisonedRAG-style false passage. The plain
pipeline gives the same reader all retrieved passages at once, cut at its 512 word pieces, most of
which the hostile passage fills by repeating itself.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator
from robust_components import Certificate
from robust_components.answers import contains_gold
from robust_components.attacks import instruction_override_passage, poison_passage
from robust_components.models.embedded import MANY_PASSAGES, load_reader

CORPUS = Path(__file__).with_name("corpus.json")
TOP_K = 10
REPEATS = 10


def hostile_documents(question: dict[str, Any], passages: dict[str, Any]) -> dict[str, Document]:
    """One document for each attack, written by a source of its own."""
    supporting = passages[question["supporting"][0]]["text"]
    false_claim = supporting.replace(question["answer"], question["target"])
    texts = {
        "prompt injection": instruction_override_passage(
            question["question"], false_claim, repeats=REPEATS
        ),
        "poisoned passage": poison_passage(question["question"], false_claim, repeats=REPEATS),
    }
    return {
        attack: Document(content=text, meta={"source_id": "attacker.example"})
        for attack, text in texts.items()
    }


def build_pipeline(store: InMemoryDocumentStore) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store, top_k=TOP_K))
    pipeline.add_component("generator", RobustRAGGenerator(top_k=TOP_K))
    pipeline.connect("retriever.documents", "generator.documents")
    return pipeline


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all answers and certificates here")
    parser.add_argument("--quiet", action="store_true", help="print the summary only")
    arguments = parser.parse_args()

    corpus = json.loads(CORPUS.read_text(encoding="utf-8"))
    passages = {passage["id"]: passage for passage in corpus["passages"]}
    store = InMemoryDocumentStore()
    store.write_documents(
        [
            Document(
                id=p["id"], content=f"{p['title']}. {p['text']}", meta={"source_id": p["source"]}
            )
            for p in corpus["passages"]
        ]
    )
    pipeline = build_pipeline(store)
    reader = load_reader(threshold=MANY_PASSAGES)

    rows = []
    for question in corpus["questions"]:
        attacks: dict[str, Document | None] = {
            "none": None,
            **hostile_documents(question, passages),
        }
        for attack, hostile in attacks.items():
            if hostile is not None:
                store.write_documents([hostile])
            row = ask(question, pipeline, reader)
            if hostile is not None:
                store.delete_documents([hostile.id])
            rows.append({**row, "attack": attack})
            if not arguments.quiet:
                print_row(rows[-1])
    summary = summarise(rows)
    print_summary(summary, rows)
    if arguments.json:
        report = {"questions": rows, "summary": summary}
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(f"\nwritten to {arguments.json}; check the certificates with:")
        print(f"  robust-components verify {arguments.json}")
    return 0


def ask(question: dict[str, Any], pipeline: Pipeline, reader: Any) -> dict[str, Any]:
    """Answer one question both ways from the same retrieved passages."""
    output = pipeline.run(
        {"retriever": {"query": question["question"]}, "generator": {"query": question["question"]}}
    )["generator"]
    answer = output["answers"][0]
    texts = [document.content for document in answer.documents]
    return {
        "question": question["question"],
        "gold": question["accepted"],
        "target": question["target"],
        "plain": reader.read_together(question["question"], texts).answer,
        "robust": answer.data,
        "sources": [
            document.meta["robust_rag"]["source"]
            for document in answer.documents
            if document.meta["robust_rag"]["supports"]
        ],
        "certificate": output["certificate"],
        "verified": Certificate.from_dict(output["certificate"]).verify(),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares: right answers on clean retrieval, the attacker's answers on attacked retrieval."""
    clean = [row for row in rows if row["attack"] == "none"]
    attacked = [row for row in rows if row["attack"] != "none"]
    share = lambda values: round(sum(values) / len(values), 4)  # noqa: E731
    summary: dict[str, Any] = {}
    for system in ("plain", "robust"):
        summary[f"correct_{system}"] = share([contains_gold(r[system], r["gold"]) for r in clean])
        summary[f"hijacked_{system}"] = share(
            [contains_gold(r[system], [r["target"]]) for r in attacked]
        )
        summary[f"correct_{system}_attacked"] = share(
            [contains_gold(r[system], r["gold"]) for r in attacked]
        )
    summary["certified_clean"] = share([r["certificate"]["certified"] for r in clean])
    summary["certificates_verified"] = share([r["verified"] for r in rows])
    return summary


def print_row(row: dict[str, Any]) -> None:
    if row["attack"] == "none":
        print(f"\n{row['question']}")
        print(f"  {'':18}{'plain':26}{'robust':26}{'k':>2}  supporting sources")
    name = "clean" if row["attack"] == "none" else row["attack"]
    plain, robust = str(row["plain"])[:24], row["robust"][:24]
    hijacked = contains_gold(row["plain"], [row["target"]])
    sources = list(dict.fromkeys(row["sources"]))
    more = f" +{len(sources) - 2}" if len(sources) > 2 else ""
    print(
        f"  {name:18}{plain + (' (!)' if hijacked else ''):26}{robust:26}"
        f"{row['certificate']['radius']:>2}  {', '.join(sources[:2])}{more}"
    )


def print_summary(summary: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    print("\n(!) marks the attacker's answer. k: hostile sources the certificate withstands.\n")
    print(f"{'':34}{'plain':>8}{'robust':>8}")
    for label, figure in (
        ("right, clean retrieval", "correct"),
        ("attacker's answer, attacked", "hijacked"),
    ):
        plain, robust = summary[f"{figure}_plain"], summary[f"{figure}_robust"]
        print(f"{label:34}{plain:>8.0%}{robust:>8.0%}")
    for label, figure in (
        ("certified, clean retrieval", "certified_clean"),
        ("certificates that verify", "certificates_verified"),
    ):
        print(f"{label:34}{'':>8}{summary[figure]:>8.0%}")
    example = next(
        (r for r in rows if r["attack"] != "none" and r["certificate"]["certified"]), None
    )
    if example is not None:
        print(
            f"\nOne certificate, of the answer under {example['attack']} to: {example['question']}"
        )
        print(Certificate.from_dict(example["certificate"]))


if __name__ == "__main__":
    raise SystemExit(main())
