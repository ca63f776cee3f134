"""What secure decoding with a certificate costs, beside plain RAG and the published flow.

    python -m benchmarks.rag --json results.json [--quick]
    python -m benchmarks.rag --device cuda --shape 1b --dtype bfloat16 --json results.json

One Llama-shaped model with random weights, k passages of about 100 tokens, four worked examples of
about 400 tokens in every prompt, answers of 20 tokens (eta = 0; no passage abstains). The ways are
those of :mod:`benchmarks.rag_flows`; they take turns, and figures are medians. Ours begins every
time with nothing in its cache, the beginning of the prompt included; ``warm`` is with that kept
from the question before. All ways of secure decoding must emit the same tokens. ``same_tokens`` is
the share of turns in which they do; it may be below 1 in half precision only, where padding alone
can tip the balance between two tokens.

Ratios are ours over theirs, at k = 10 with the certificate:

* ``token_rows_vs_published``, ``wall_vs_published``: against the published flow;
* ``wall_vs_vanilla``, ``memory_vs_vanilla``: against plain RAG. Memory is the peak, weights
  included, each way in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.rag_flows import Answer, counting, ours, published, vanilla
from benchmarks.random_llama import SHAPES, build, question, token_model
from benchmarks.reporting import peak_memory, write_report

STEPS = 20
HEADLINE = 10
Way = Callable[..., Answer]
WAYS: dict[str, Way] = {
    "vanilla": vanilla,
    "published": partial(published, certificate=False),
    "published_certified": partial(published, certificate=True),
    "ours": partial(ours, certificate=False),
    "ours_certified": partial(ours, certificate=True),
    "ours_certified_warm": partial(ours, certificate=True),
}
SECURE = [name for name in WAYS if name != "vanilla"]


def run_one(name: str, tokens: Any, passages: int, seed: int) -> dict[str, Any]:
    """One answer: seconds, token-rows, tokens emitted."""
    if not name.endswith("warm"):
        tokens.forget()
    query, texts = question(passages, seed)
    synchronise(tokens.model)
    with counting(tokens.model) as fed:
        began = time.perf_counter()
        answer = WAYS[name](tokens, query, texts, STEPS)
        synchronise(tokens.model)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "rows": fed.rows, "answer": answer}


def synchronise(model: Any) -> None:
    if model.device.type == "cuda":
        torch.cuda.synchronize()


def measure(tokens: Any, size: int, repeats: int) -> dict[str, Any]:
    """Medians for ``size`` passages; the ways take turns, after one turn that is dropped.

    Raises:
        RuntimeError: two ways of secure decoding disagree, or an answer is too short.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    same: list[bool] = []
    for turn in tqdm(range(-1, repeats), desc=f"rag, k = {size}"):
        made = {name: run_one(name, tokens, size, seed=max(turn, 0)) for name in WAYS}
        same.append(check(made, exact=tokens.model.dtype == torch.float32))
        for name, run in made.items() if turn >= 0 else ():
            runs[name].append(run)
    figures: dict[str, Any] = {
        name: {
            "seconds": round(statistics.median(run["seconds"] for run in listed), 4),
            "token_rows": int(statistics.median(run["rows"] for run in listed)),
        }
        for name, listed in runs.items()
    }
    radii = [run["answer"].certified for run in runs["ours_certified"]]
    return figures | {"certified_budgets": radii, "same_tokens": sum(same) / len(same)}


def check(made: dict[str, dict[str, Any]], *, exact: bool = True) -> bool:
    """Whether all ways of secure decoding agree; an error if ``exact`` and they do not."""
    emitted = {name: made[name]["answer"].tokens for name in SECURE}
    same = len(set(emitted.values())) == 1
    if exact and not same:
        raise RuntimeError(f"the ways must emit the same tokens, got {emitted}")
    short = {name: len(run["answer"].tokens) for name, run in made.items()}
    if set(short.values()) != {STEPS}:
        raise RuntimeError(f"every answer must have {STEPS} tokens, got {short}")
    certified = [made[name]["answer"].certified for name in SECURE if "certified" in name]
    if same and certified[0] > min(certified[1:]):
        raise RuntimeError(f"ours must certify what the published flow does, got {certified}")
    return same


def peaks(arguments: argparse.Namespace, size: int) -> dict[str, float]:
    """Peak memory of each way in MiB, in a process of its own, weights included."""
    found = {}
    for name in ("vanilla", "ours_certified"):
        command = [sys.executable, "-m", "benchmarks.rag", "--peak-of", name]
        command += ["--passages", str(size), "--shape", arguments.shape]
        command += ["--device", arguments.device, "--dtype", arguments.dtype]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = float(done.stdout.split()[-1])
    return found


def peak_of(name: str, arguments: argparse.Namespace) -> float:
    with peak_memory(arguments.device) as peak:
        tokens = model_of(arguments)
        run_one(name, tokens, arguments.passages, seed=0)
    return peak.mebibytes


def model_of(arguments: argparse.Namespace) -> Any:
    dtype = getattr(torch, arguments.dtype)
    model = build(arguments.shape, device=arguments.device, dtype=dtype)
    return token_model(model, STEPS)


def ratios_of(row: dict[str, Any], certificate: bool = True) -> dict[str, float]:
    """Ours over theirs for one number of passages."""
    end = "_certified" if certificate else ""
    mine, theirs, plain = row[f"ours{end}"], row[f"published{end}"], row["vanilla"]
    found = {
        "token_rows_vs_published": mine["token_rows"] / theirs["token_rows"],
        "wall_vs_published": mine["seconds"] / theirs["seconds"],
        "wall_vs_vanilla": mine["seconds"] / plain["seconds"],
    }
    if certificate:
        warm = row["ours_certified_warm"]["seconds"]
        found["warm_wall_vs_vanilla"] = warm / plain["seconds"]
    if certificate and "peak_mib" in row:
        found["memory_vs_vanilla"] = row["peak_mib"]["ours_certified"] / row["peak_mib"]["vanilla"]
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--quick", action="store_true", help="k = 10, a tiny model, one turn")
    parser.add_argument("--shape", choices=list(SHAPES), help="of the model; small, or tiny")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--threads", type=int, help="of torch; its own choice if not given")
    parser.add_argument("--passages", type=int, nargs="+", help="k; 5 10 20")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--peak-of", choices=list(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.shape = arguments.shape or ("tiny" if arguments.quick else "small")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        arguments.passages = arguments.passages[0]
        print(peak_of(arguments.peak_of, arguments))
        return
    sizes = arguments.passages or ([HEADLINE] if arguments.quick else [5, HEADLINE, 20])
    tokens = model_of(arguments)
    facts = {
        "shape": {
            "name": arguments.shape,
            **SHAPES[arguments.shape],
            "parameters": sum(weight.numel() for weight in tokens.model.parameters()),
        },
        "device": arguments.device,
        "dtype": arguments.dtype,
        "threads": torch.get_num_threads(),
        "answer_tokens": STEPS,
    }
    figures: dict[int, dict[str, Any]] = {}
    for size in sizes:
        row = measure(tokens, size, 1 if arguments.quick else arguments.repeats)
        row["peak_mib"] = peaks(arguments, size)
        row["ratios_certified"] = ratios_of(row)
        row["ratios_uncertified"] = ratios_of(row, certificate=False)
        figures[size] = row
        headline = figures.get(HEADLINE, row)["ratios_certified"]
        listed = {f"k={size}": row for size, row in figures.items()}
        write_report(arguments.json, "rag", headline, {**facts, **listed})
    print(json.dumps({"ratios": headline, **listed}, indent=2))


if __name__ == "__main__":
    main()
