"""Scores kept on disk, so that a long evaluation can go on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from robust_components.models.protocols import PairScorer


class CachedScorer:
    """A scorer that looks each call up in the ``.jsonl`` files of a folder first.

    Args:
        scorer: the scorer that does the work; its fingerprint is part of the key.
        folder: written to in a file of this process's own; nothing is kept when ``None``.
    """

    def __init__(self, scorer: PairScorer, folder: Path | None) -> None:
        self.scorer = scorer
        self.name = str(getattr(scorer, "name", type(scorer).__name__))
        self.fingerprint = str(getattr(scorer, "fingerprint", "unknown"))
        self.coverage = getattr(scorer, "coverage", None)
        self.folder = folder
        self._known: dict[str, list[float]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(folder.glob("*.jsonl")):
                for line in file.read_text(encoding="utf-8").splitlines():
                    try:
                        self._known.update(json.loads(line))
                    except ValueError:
                        continue  # the last line of a run that was cut short

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """One score a document, in order."""
        digest = hashlib.sha256(self.fingerprint.encode())
        for text in (query, *documents):
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        key = digest.hexdigest()[:32]
        if key not in self._known:
            self._known[key] = [float(s) for s in self.scorer.score(query, documents)]
            if self.folder is not None:
                with (self.folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps({key: self._known[key]}) + "\n")
        return list(self._known[key])
