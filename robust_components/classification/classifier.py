"""CluCertClassifier: labels texts so that few edited words cannot change the label, provably."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from robust_components.checks import (
    check_alpha,
    check_choice,
    check_margin,
    positive_integer,
)
from robust_components.classification import settings
from robust_components.classification.asking import Asking, check_alone, labels_of
from robust_components.classification.certificates import Context, issue
from robust_components.classification.cluster import Clustering
from robust_components.classification.drive import Voting, drive
from robust_components.classification.hopeless import (
    warn_if_hopeless,
    warn_if_published_hopeless,
)
from robust_components.classification.named import substitution
from robust_components.classification.plan import Counting, Finding, Plan, Subject, fixed_plan
from robust_components.classification.published import PUBLISHED_MASK_RATE, published_plan
from robust_components.classification.refine import (
    KeepImportant,
    Refine,
    RefineCopies,
    RefineText,
)
from robust_components.classification.result import Classification
from robust_components.classification.sampled import Drawing, random_plan
from robust_components.classification.settings import CHOICES
from robust_components.classification.stages import Stages
from robust_components.classification.substitute import (
    Substitute,
    Substitution,
    SynonymClasses,
    SynonymKernels,
)
from robust_components.models.protocols import ModelFailedError, ProbabilisticClassifier
from robust_components.smoothing import (
    BalancedMask,
    FixedMechanism,
    RandomMask,
    as_mechanism,
    split_words,
)
from robust_components.smoothing.settings import MOST_SAMPLES
from robust_components.threats import SynonymEdits, WordEdits

TEXTS_AT_ONCE = 256
"""Texts whose copies are in memory at a time."""


class CluCertClassifier:
    """Labels a text by the votes of masked copies, with a certificate for word edits.

    Guarantee: with a fixed mechanism (:class:`BalancedMask`, :class:`HashBuckets`) the certificate
    is deterministic: no edit within the certified radius, in words of the text, changes the label
    that is returned. With :class:`RandomMask` it holds with confidence 1 - alpha for the label of
    all masks (short texts, all of whose masks are tried, have exact certificates). The certificate
    says whether edits of the raw or of the refined text are covered, and why nothing is certified
    where nothing is. It does not say that the label is right.

    Source: CluCERT (arXiv 2512.08967) for the four stages, refine, substitute, cluster, certify;
    (de)randomized smoothing (Levine & Feizi 2020) for fixed masks. The published rule is
    ``method="clucert"``, and heuristic.

    Args:
        model: a :class:`~robust_components.models.protocols.TextClassifier` or
            :class:`~robust_components.models.protocols.ProbabilisticClassifier`; a name for
            :func:`~robust_components.models.load_classifier`; the embedded sentiment classifier
            when ``None``.
        mechanism: how masked copies are made; the model's own ``mechanism`` when ``None`` and it
            has one, else ``BalancedMask(10)``.
        votes: ``"soft"`` (sums of probabilities) or ``"hard"`` (labels); soft when ``None`` and the
            model has probabilities.
        labels: the closed set of labels; the model's own when ``None``. Where neither says, any
            label may turn up after an edit.
        refine, substitute, cluster: the stages before certification, see
            :mod:`robust_components.classification.refine`, :mod:`.substitute`, :mod:`.cluster`.
            ``substitute`` may be ``"table"``, ``"wordnet"``, ``"classes"`` or ``"kernels"``.
        threat: kind and budget of the edits; one edited word of the mechanism's kind by default.
            Radii beyond the budget are reported too.
        statement: ``"observed"`` (the text at hand may have been edited already) or
            ``"pre_attack"`` (it is clean, edits come later).
        method: ``"smoothing"``, or ``"clucert"`` (random masks and hard votes only).
        alpha: 1 - confidence of sampled certificates, in (0, 1).
        bound: of sampled certificates: ``"betting"`` (stops early), or ``"clopper_pearson"`` for
            hard votes and a number of samples fixed beforehand.
        selection_samples: samples that choose the label, which no bound rests on; at least 1.
        adaptive: with betting bounds, stop when more samples would hardly certify more.
        randomised: the model draws anew for every copy, as a language model with a temperature
            does; random masks only. A model that never differs on equal copies (a cache would do
            that) gets no certificate.
        trust_draws: skip that check.
        numerical_margin: most by which two probabilities of the same copy may differ, for batching
            and hardware round differently; in [0, 0.5).
        batch_size: copies given to the model at a time.

    Raises:
        ValueError, TypeError: an argument is outside its range, or two do not go together.
    """

    def __init__(
        self,
        model: Any = None,
        mechanism: FixedMechanism | RandomMask | str | None = None,
        *,
        votes: str | None = None,
        labels: Sequence[str] | None = None,
        refine: Refine | None = None,
        substitute: Substitute | str | None = None,
        cluster: Clustering | None = None,
        threat: WordEdits | SynonymEdits | None = None,
        statement: str = "observed",
        method: str = "smoothing",
        alpha: float = 0.05,
        bound: str = "betting",
        selection_samples: int = 32,
        adaptive: bool = True,
        randomised: bool = False,
        trust_draws: bool = False,
        numerical_margin: float = 1e-5,
        batch_size: int = 512,
    ) -> None:
        if isinstance(model, str | Path):
            from robust_components.models import load_classifier

            model = load_classifier(model)
        self.model = settings.check_model(model)
        self.statement = check_choice("statement", statement, CHOICES["statement"])
        self.method = check_choice("method", method, CHOICES["method"])
        self.wanted_votes = (
            None if votes is None else check_choice("votes", votes, CHOICES["votes"])
        )
        self.wanted_labels = labels
        self.numerical_margin = check_margin(numerical_margin)
        self.batch_size = positive_integer("batch_size", batch_size)
        self.refine = settings.check_refine(refine)
        self.substitute = substitution(substitute)
        self.cluster = settings.check_cluster(cluster, self.substitute, self.method)
        kernels = self.substitute if isinstance(self.substitute, SynonymKernels) else None
        self.drawing = Drawing(
            alpha=check_alpha(alpha),
            bound=check_choice("bound", bound, CHOICES["bound"]),
            selection=positive_integer("selection_samples", selection_samples, most=MOST_SAMPLES),
            adaptive=bool(adaptive) and bound == "betting",
            randomised=bool(randomised),
            trust_draws=bool(trust_draws),
            kernels=kernels,
        )
        self._wanted_mechanism = mechanism
        self._wanted_threat = threat
        self._lock = threading.Lock()
        self._ready = False
        if self.model is not None or mechanism is not None:
            self._settle()
        if self.model is not None:
            self._meet_model()
        if self.model is not None or mechanism is not None:
            self._warn()

    def _settle(self) -> None:
        """Everything that follows from mechanism and threat."""
        mechanism = self._wanted_mechanism
        if mechanism is None:
            mechanism = getattr(self.model, "mechanism", None)
        if mechanism is None:
            published = RandomMask(PUBLISHED_MASK_RATE)
            mechanism = published if self.method == "clucert" else BalancedMask()
        self.mechanism = as_mechanism(mechanism)
        kernels = self.drawing.kernels is not None
        self.threat = settings.check_threat(self._wanted_threat, self.mechanism, kernels=kernels)
        settings.check_together(self.mechanism, self.method, self.drawing, self.refine)

    def _warn(self) -> None:
        """Say so when nothing can be certified; the embedded model is taken for what it is."""
        if self.method == "smoothing":
            soft = self.wanted_votes != "hard" if self.model is None else self.votes == "soft"
            warn_if_hopeless(
                self.mechanism,
                self.threat,
                self.drawing,
                self.refine,
                closed=self.model is None or self.labels is not None,
                numerical_margin=self.numerical_margin if soft else 0.0,
            )
        elif isinstance(self.mechanism, RandomMask):
            warn_if_published_hopeless(self.mechanism)

    def _meet_model(self) -> None:
        """Everything that follows from the model."""
        self.labels = labels_of(self.model, self.wanted_labels)
        soft = isinstance(self.model, ProbabilisticClassifier) and self.method == "smoothing"
        if self.drawing.bound == "clopper_pearson":
            soft = False
        self.votes = self.wanted_votes or ("soft" if soft else "hard")
        settings.check_votes(self.model, self.votes, self.method, self.drawing.bound)
        settings.check_randomness(self.model, self.drawing.randomised)

    def warm_up(self) -> None:
        """Load the embedded model if no other was given. Called by :meth:`classify`.

        Raises:
            ValueError: the model's probabilities depend on the other texts of a call.
        """
        with self._lock:
            if self._ready:
                return
            if self.model is None:
                from robust_components.models import load_classifier

                self.model = settings.check_model(load_classifier("sentiment"))
                if self._wanted_mechanism is None:
                    self._settle()
                self._meet_model()
                if self._wanted_mechanism is None:
                    self._warn()
            if self.votes == "soft" and not self.drawing.randomised:
                check_alone(self.model, len(self.labels or ()), self.numerical_margin)
            self._ready = True

    def classify(self, text: str) -> Classification:
        """Label one text.

        Args:
            text: any text. One without words gets no label.

        Raises:
            TypeError: it is no text.
            ValueError: the model did not return one answer a text, or labels that are no text.
            ModelFailedError: the model gave no usable response to any copy.
        """
        (found,) = self.classify_many([text])
        return found

    def classify_many(self, texts: Sequence[str]) -> list[Classification]:
        """Label several texts, each by itself; their copies share the model's batches.

        Raises:
            TypeError, ValueError: as :meth:`classify`.
            ModelFailedError: the model gave no usable response to any copy of any text.
        """
        texts = settings.check_texts(texts)
        self.warm_up()
        soft = self.votes == "soft"
        asking = Asking(self.model, self.labels, soft=soft, batch_size=self.batch_size)
        stages = self._stages() if self.method == "smoothing" else None
        voting = Voting(asking, stages or None, distinct=not self.drawing.randomised)
        found: list[Classification] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            began = time.monotonic()
            batch = texts[start : start + TEXTS_AT_ONCE]
            seen = [self._seen(text) for text in batch]
            findings = drive([self._plan(one) for one in seen], voting)
            seconds = (time.monotonic() - began) / len(batch)
            for text, refined, one in zip(batch, seen, findings, strict=True):
                found.append(self._classification(text, refined, one, seconds))
        if voting.failed and not voting.usable:
            raise ModelFailedError(
                f"the model gave no usable response to any copy: {voting.last_error}"
            ) from voting.last_error
        return found

    def _stages(self) -> Stages:
        refine = self.refine if isinstance(self.refine, RefineCopies) else None
        variants = self.substitute if isinstance(self.substitute, Substitution) else None
        return Stages(refine, variants, self.cluster)

    def _seen(self, text: str) -> str:
        return self.refine(text) if isinstance(self.refine, RefineText) else text

    def _plan(self, text: str) -> Plan:
        words = split_words(text)
        if isinstance(self.substitute, SynonymClasses):
            words = self.substitute.replace(words)
        important = self.refine if isinstance(self.refine, KeepImportant) else None
        counting = Counting(self.labels, self.votes == "soft", self.numerical_margin)
        mechanism = self.mechanism
        subject = Subject.of(words, important, grows=mechanism.operations == "any")
        if not isinstance(mechanism, RandomMask):
            assert isinstance(self.threat, WordEdits)
            return fixed_plan(subject, mechanism, self.threat, counting)
        if self.method == "clucert":
            return published_plan(subject, mechanism, counting, self.drawing.alpha, self._stages())
        return random_plan(subject, mechanism, counting, self.drawing)

    def _context(self) -> Context:
        refine, substitute, cluster = self.refine, self.substitute, self.cluster
        margin = str(self.numerical_margin) if self.votes == "soft" else "0"
        kernels = self.drawing.kernels
        return Context(
            threat=self.threat,
            statement=self.statement,
            parameters={
                "mechanism": self.mechanism.to_dict(),
                "votes": self.votes,
                "labels": None if self.labels is None else list(self.labels),
                "numerical_margin": margin,
                "refine": None if refine is None else refine.to_dict(),
                "substitute": None if substitute is None else substitute.to_dict(),
                "cluster": None if cluster is None else cluster.to_dict(),
            },
            refined=isinstance(refine, RefineText),
            refine_kind=None if refine is None else refine.kind,
            in_sample=isinstance(refine, RefineCopies) or isinstance(substitute, Substitution),
            classes=isinstance(substitute, SynonymClasses),
            variation=Fraction(0) if kernels is None else kernels.variation,
            model={
                "name": str(getattr(self.model, "name", type(self.model).__name__)),
                "fingerprint": str(getattr(self.model, "fingerprint", "unknown")),
            },
        )

    def _classification(
        self, text: str, seen: str, found: Finding, seconds: float
    ) -> Classification:
        ballots, outcome = found.ballots, found.outcome
        refined = seen if isinstance(self.refine, RefineText) else None
        cost = {"copies": len(ballots), "seconds": round(seconds, 4)}
        voted = ballots.counts.any(axis=1) | ballots.failed
        return Classification(
            label=outcome.label,
            votes=ballots.shares,
            abstained=float((~voted).mean()) if len(ballots) else 1.0,
            failed=outcome.failed,
            radius=outcome.radius,
            certificate=issue(self._context(), text, refined, outcome, cost),
            copies=len(ballots),
        )
