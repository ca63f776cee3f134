"""NeuronRepairedRanker: a ranker with a patch in it, and honest figures beside its rankings."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_components.checks import positive_integer
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.repair.certificates import empirical_certificate
from robust_components.repair.patch import Patch
from robust_components.repair.probes import Probe
from robust_components.repair.repairing import check_scorer, repair
from robust_components.repair.result import RepairedDocument, RepairedRanking
from robust_components.threats import WordEdits


class NeuronRepairedRanker:
    """Ranks with a copy of a ranker in which a few neurons were moved back.

    Guarantee: none. Its certificates are ``empirical``: they say how many attacks succeeded before
    and after the repair, held out, of kinds never seen, and made anew on the repaired ranker, as
    far as that was measured. For a proof make it the model of a
    :class:`~robust_components.ranking.SmoothedRanker`; it is a point-wise scorer.

    Source: "Stop Hardening Everything" (Liu et al.).

    Args:
        model: a :class:`~robust_components.models.pair_scorer.TransformersPairScorer`, the one the
            patch was made for; the embedded ranker when ``None``. It is copied and not changed.
        patch: a file, or the patch itself.
        top_k: K, at least 1.
        threat: the word edits a certificate names as not certified.

    Raises:
        ValueError: the patch is missing, damaged, or belongs to another model.
        TypeError: the model has no weights that could be changed.
    """

    def __init__(
        self,
        model: TransformersPairScorer | None = None,
        patch: Patch | str | Path | None = None,
        *,
        top_k: int = 10,
        threat: WordEdits | None = None,
    ) -> None:
        if patch is None:
            raise ValueError(
                "patch must be a file or a Patch, got None; make one with robust-components "
                "repair, or repair with probes by NeuronRepairedRanker.repair(model, probes)"
            )
        self.top_k = positive_integer("top_k", top_k)
        self.threat = WordEdits(1) if threat is None else threat
        if not isinstance(self.threat, WordEdits):
            raise TypeError(f"threat must be WordEdits, got {threat!r}; pass WordEdits(1)")
        self.patch = patch if isinstance(patch, Patch) else Patch.load(patch)
        self.patch.check()
        if model is None:
            from robust_components.models.embedded import load_ranker

            model = load_ranker()
        check_scorer(model)
        self.scorer = copied(model)
        self.patch.apply(self.scorer)
        self.coverage = model.coverage  # for a SmoothedRanker around it
        self.name = f"{model.name}, {self.patch.settings['neurons']} neurons repaired"
        self.fingerprint = f"{model.fingerprint} with patch {self.patch.digest}"
        self.scorer.name, self.scorer.fingerprint = self.name, self.fingerprint

    @classmethod
    def repair(
        cls,
        model: TransformersPairScorer | None,
        probes: Sequence[Probe],
        *,
        top_k: int = 10,
        threat: WordEdits | None = None,
        **options: Any,
    ) -> NeuronRepairedRanker:
        """Repair ``model`` with ``probes`` and rank with the result.

        Args:
            model: as in the constructor; it is copied and not changed.
            probes: successful attacks on it.
            top_k, threat: as in the constructor.
            options: for :func:`~robust_components.repair.repairing.repair`.

        Raises:
            RepairRolledBackError: the repair did not hold on held-out probes.
            ValueError, TypeError: see :func:`~robust_components.repair.repairing.repair`.
        """
        if model is None:
            from robust_components.models.embedded import load_ranker

            model = load_ranker()
        check_scorer(model)
        patch = repair(copied(model), probes, **options)
        return cls(model, patch, top_k=top_k, threat=threat)

    def save(self, path: str | Path) -> None:
        """Write the patch."""
        self.patch.save(path)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """The repaired ranker's scores, one a document, in order."""
        return self.scorer.score(query, documents)

    def score_and_cuts(
        self, query: str, documents: Sequence[str]
    ) -> tuple[list[float], list[bool]]:
        """Scores, and whether each document was cut to fit."""
        return self.scorer.score_and_cuts(query, documents)

    def rank(
        self, query: str, documents: Sequence[str], top_k: int | None = None
    ) -> RepairedRanking:
        """All documents by the repaired ranker's scores, best first.

        Args:
            query: trusted; not empty.
            documents: texts, in an order that decides between equal scores.
            top_k: overrides the instance's.

        Raises:
            ValueError: the query is empty, or the model gave a score that is no finite number.
            TypeError: the query or a document is no text.
        """
        started = time.perf_counter()
        documents = _texts(query, documents)
        k = positive_integer("top_k", self.top_k if top_k is None else top_k)
        scores, cuts = self.scorer.score_and_cuts(query, documents)
        wrong = [score for score in scores if not math.isfinite(score)]
        if wrong:
            raise ValueError(
                f"{self.name} gave the score {wrong[0]}; scores must be finite numbers, look for "
                "overflow in the model"
            )
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        return RepairedRanking(
            items=tuple(
                RepairedDocument(index, rank, scores[index], cuts[index])
                for rank, index in enumerate(order, start=1)
            ),
            k=min(k, len(documents)),
            certificate=empirical_certificate(
                self.patch,
                query,
                documents,
                threat=self.threat,
                model={"name": self.name, "fingerprint": self.fingerprint},
                cost={
                    "model_passes": len(documents),
                    "seconds": round(time.perf_counter() - started, 3),
                },
            ),
            passes=len(documents),
        )


def copied(scorer: TransformersPairScorer) -> TransformersPairScorer:
    """The scorer with a network of its own."""
    found = copy.copy(scorer)
    found.network = copy.deepcopy(scorer.network)
    return found


def _texts(query: Any, documents: Any) -> list[str]:
    if not isinstance(query, str):
        raise TypeError(f"query must be text, got {type(query).__name__}; pass a string")
    if not query.strip():
        raise ValueError("query must not be empty; pass a question")
    found = list(documents) if isinstance(documents, Iterable) else [documents]
    wrong = [one for one in found if not isinstance(one, str)]
    if isinstance(documents, str | Mapping) or wrong:
        got = type(wrong[0] if wrong else documents).__name__
        raise TypeError(f"documents must be a list of texts, got {got}; pass strings")
    return found
