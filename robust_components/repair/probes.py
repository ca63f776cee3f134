"""Probes: attacked lists on which a ranker is scanned, repaired and measured."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from robust_components.attacks.attack import Attack
from robust_components.checks import positive_integer
from robust_components.models.protocols import PairScorer

FIELDS = {"query", "documents", "target", "adversarial", "attack", "relevant"}
LEAST = 8
"""Probes below which nothing can be held out."""


@dataclass(frozen=True)
class Probe:
    """One document of a ranked list before and after an attack on the ranker.

    Args:
        query: the query.
        documents: the candidates, the target as it was among them; the target alone will do, but
            then nothing is known about ranks.
        target: index of the target.
        adversarial: the target's text after the attack.
        attack: name of the attack.
        relevant: indices of relevant documents, as far as known.

    Raises:
        TypeError: a text is none, or an index is no whole number.
        ValueError: an index lies outside the list.
    """

    query: str
    documents: tuple[str, ...]
    target: int
    adversarial: str
    attack: str = "unknown"
    relevant: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "documents", _texts("documents", self.documents))
        for name in ("query", "adversarial", "attack"):
            _texts(name, [getattr(self, name)])
        object.__setattr__(self, "target", positive_integer("target", self.target, 0))
        relevant = tuple(positive_integer("relevant", i, 0) for i in self.relevant)
        object.__setattr__(self, "relevant", relevant)
        if not self.target < len(self.documents):
            raise ValueError(
                f"target must be in 0..{len(self.documents) - 1}, got {self.target}; it is the "
                "index of the attacked document"
            )
        if not all(i < len(self.documents) for i in relevant):
            raise ValueError(
                f"relevant must hold indices in 0..{len(self.documents) - 1}, got {self.relevant}"
            )

    @property
    def clean_pair(self) -> tuple[str, str]:
        return self.query, self.documents[self.target]

    @property
    def adversarial_pair(self) -> tuple[str, str]:
        return self.query, self.adversarial


def _texts(name: str, given: Iterable[str]) -> tuple[str, ...]:
    found = None if isinstance(given, str | Mapping) else tuple(given)
    if found is None or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{name} must hold texts, got {repr(given)[:80]}; pass strings")
    return found


def probe_with(
    attack: Attack,
    query: str,
    documents: Sequence[str],
    target: int,
    scorer: PairScorer,
    relevant: Sequence[int] = (),
) -> Probe | None:
    """What ``attack`` makes of the target, or ``None`` if it gains no score."""
    result = attack.attack(query, documents, target, scorer)
    if result.words_edited == 0 or result.score_after <= result.score_before:
        return None
    return Probe(query, tuple(documents), target, result.text, attack.name, tuple(relevant))


def attack_lists(
    attacks: Sequence[Attack],
    lists: Sequence[Probe],
    scorer: PairScorer,
    progress: Callable[[int, int], object] | None = None,
) -> list[Probe]:
    """Probes by every attack on the target of every list, without those that gain nothing.

    Raises:
        ValueError: none gains anything on any.
    """
    found = []
    for number, one in enumerate(lists, start=1):
        for attack in attacks:
            probe = probe_with(attack, one.query, one.documents, one.target, scorer, one.relevant)
            if probe is not None:
                found.append(probe)
        if progress is not None:
            progress(number, len(lists))
    if not found:
        names = ", ".join(attack.name for attack in attacks)
        raise ValueError(
            f"{names} raised no score on {len(lists)} lists: there is nothing to repair; "
            "attack with a larger budget, or leave the ranker as it is"
        )
    return found


def check_probes(probes: Sequence[Probe], least: int = LEAST) -> None:
    """Whether there is enough to repair with.

    Raises:
        ValueError: there are too few, or none of them changes a document.
        TypeError: one is no probe.
    """
    check_types(probes)
    changed = sum(probe.adversarial != probe.documents[probe.target] for probe in probes)
    if not changed:
        raise ValueError(
            f"{changed} of {len(probes)} probes change a document: the attack never succeeded, "
            "there is nothing to repair; attack with a larger budget, or leave the ranker as it is"
        )
    if len(probes) < least:
        raise ValueError(
            f"at least {least} probes are needed, because some are held out, got {len(probes)}; "
            "500 are usual"
        )


def check_types(probes: Sequence[Probe]) -> None:
    """Whether all are probes."""
    wrong = [one for one in probes if not isinstance(one, Probe)]
    if wrong:
        raise TypeError(
            f"probes must hold Probes, got {repr(wrong[0])[:80]}; read a file with read_probes, or "
            "make them with probe_with"
        )


def probes_hash(probes: Iterable[Probe]) -> str:
    """SHA-256 of the probes in their order."""
    digest = hashlib.sha256()
    for probe in probes:
        digest.update(json.dumps(asdict(probe), sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def write_probes(path: str | Path, probes: Iterable[Probe]) -> None:
    """One JSON object a line."""
    lines = [json.dumps(asdict(probe)) + "\n" for probe in probes]
    Path(path).write_text("".join(lines), encoding="utf-8")


def read_lists(path: str | Path, scorer: PairScorer, seed: int = 0) -> list[Probe]:
    """Lists to attack, from JSON lines with ``query`` and ``documents`` and perhaps ``relevant``.

    The target of each is drawn from the lower half of the scorer's ranking, relevant documents
    last.

    Raises:
        ValueError: a line has not this form; names it.
    """
    found = []
    for number, line in _lines(path):
        try:
            record = json.loads(line)
            one = _probe({**record, "target": 0, "adversarial": ""})
            if len(one.documents) < 2:
                raise ValueError(f"{len(one.documents)} document")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}; a list has query and at least two documents, "
                "and perhaps relevant, the indices of relevant ones"
            ) from error
        scores = scorer.score(one.query, one.documents)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])[len(scores) // 2 :]
        random.Random(f"{seed} {number}").shuffle(order)
        target = min(order, key=lambda i: i in one.relevant)
        found.append(replace(one, target=target, adversarial=one.documents[target]))
    return found


def read_probes(path: str | Path) -> list[Probe]:
    """Probes from JSON lines with ``query``, ``documents``, ``target`` and ``adversarial``, or with
    ``query``, ``document`` and ``adversarial``.

    Raises:
        ValueError: a line is neither; names it.
    """
    found = []
    for number, line in _lines(path):
        try:
            found.append(_probe(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(
                f"{path}, line {number}: {error}; a probe has query, documents, target and "
                "adversarial, or query, document and adversarial"
            ) from error
    return found


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Lines that hold something, numbered; texts may hold other signs that end lines."""
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if line.strip():
            yield number, line


def _probe(record: Any) -> Probe:
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object but {type(record).__name__}")
    if "document" in record:
        record = {**record, "documents": [record["document"]], "target": 0}
        del record["document"]
    unknown = sorted(record.keys() - FIELDS)
    missing = sorted({"query", "documents", "target", "adversarial"} - record.keys())
    if unknown or missing:
        raise ValueError(f"fields {unknown} are unknown and {missing} missing")
    return Probe(**record)
