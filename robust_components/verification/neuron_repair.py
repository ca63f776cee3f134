"""Certificates of repaired rankers: figures that were measured, and nothing is proved by them.

Checked is that the claim is the sentence for the counts in the evidence, that it is not certified,
and that it says so; not that the attacks were made, nor that other attacks do no better.

Evidence: ``inputs`` (digests), ``attacks`` (``neurons``, and counts under ``held_out``, ``unseen``
and ``adaptive``, or null), ``clean`` (two decimals as text), ``patch``, ``base`` and ``probes``
(SHA-256).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from robust_components.verification.reading import UnverifiableError, listing, shown, whole
from robust_components.verification.word_edits import MAX_DOCUMENTS, exact_keys, input_hashes

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = {
    "held_out": "held-out attacks of the kinds it was repaired with",
    "unseen": "attacks that were not used to repair it",
    "adaptive": "attacks made anew on the repaired ranker",
}
_REASON = (
    "Measured on the attacks counted in the evidence, and proved against none: another attack may "
    "succeed more often."
)
_ASSUMPTIONS = (
    "The figures were measured on the probes counted in the evidence, which may hold attacks that "
    "succeeded before the repair and no others; other queries, documents and attacks may do "
    "otherwise.",
    "How far the repair went was chosen on the held-out attacks, so their figures are a little too "
    "good.",
    "The patch was applied to the model it was made for.",
)


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the certificate of a repaired ranker."""
    exact_keys(certificate["parameters"], "parameters", set())
    exact_keys(certificate["threat"], "threat", {"kind", "budget", "scope", "operations"})
    names = {"inputs", "attacks", "clean", "patch", "base", "probes"}
    evidence = exact_keys(certificate["evidence"], "evidence", names)
    inputs = exact_keys(evidence["inputs"], "evidence['inputs']", {"query", "passages"})
    passages = listing(inputs["passages"], "evidence['inputs']['passages']", MAX_DOCUMENTS)
    input_hashes(evidence, len(passages))
    for name in ("patch", "base", "probes"):
        if not isinstance(evidence[name], str) or not _SHA256.fullmatch(evidence[name]):
            raise UnverifiableError(f"evidence[{name!r}] is no SHA-256: {shown(evidence[name])}.")
    clean = exact_keys(evidence["clean"], "evidence['clean']", {"kendall_tau", "largest_change"})
    if not -1 <= _decimal(clean, "kendall_tau") <= 1 or _decimal(clean, "largest_change") < 0:
        yield f"evidence['clean'] is outside its range: {shown(clean)}."
    sentence = _claim(evidence["attacks"])
    if certificate["claim"] != sentence:
        yield f"The claim {shown(certificate['claim'])} is not the sentence for the counts."
    if certificate["threat"]["operations"] not in ("substitute", "any"):
        yield f"The operations are unknown: {shown(certificate['threat']['operations'])}."
    if certificate["statement"] != "observed":
        yield "The texts at hand are ranked as they are: the statement must be 'observed'."
    if certificate["certified"] or certificate["radius"]:
        yield "A measured figure certifies nothing: the radius must be 0."
    if certificate["reason"] != _REASON:
        yield "The reason must say that the figures prove nothing."
    for assumption in _ASSUMPTIONS:
        if assumption not in certificate["assumptions"]:
            yield f"The claim rests on an assumption that is not stated: {shown(assumption)}"


def _claim(attacks: Any) -> str:
    counts = exact_keys(attacks, "evidence['attacks']", {"neurons", *_KINDS})
    neurons = whole(counts["neurons"], "evidence['attacks']['neurons']", 1)
    parts = []
    for name, kind in _KINDS.items():
        where = f"evidence['attacks'][{name!r}]"
        if counts[name] is None:
            parts.append(f"{kind} were not measured")
            continue
        keys = {"lists", "succeeded_before", "succeeded_after"}
        found = exact_keys(counts[name], where, keys)
        lists = whole(found["lists"], f"{where}['lists']")
        before, after = (
            whole(found[f"succeeded_{w}"], where, 0, lists) for w in ("before", "after")
        )
        if not lists:
            parts.append(f"{kind} were not measured")
        else:
            parts.append(f"{kind} raised {after} of {lists} targets ({before} before)")
    return f"After a repair of {neurons} neurons, {'; '.join(parts)}."


def _decimal(clean: Mapping[str, Any], name: str) -> float:
    try:
        number = float(clean[name]) if isinstance(clean[name], str) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnverifiableError(f"evidence['clean'][{name!r}] is no number: {shown(clean[name])}.")
    return number
