"""Checks of what a CluCertClassifier is given."""

from __future__ import annotations

from typing import Any

from robust_components.checks import no_class
from robust_components.classification.asking import is_classifier
from robust_components.classification.cluster import Clustering
from robust_components.classification.refine import KeepImportant, Refine
from robust_components.classification.sampled import Drawing
from robust_components.classification.substitute import Substitution
from robust_components.models.protocols import ProbabilisticClassifier, TextClassifier
from robust_components.smoothing import FixedMechanism, RandomMask
from robust_components.threats import SynonymEdits, WordEdits

CHOICES = {
    "statement": ("observed", "pre_attack"),
    "method": ("smoothing", "clucert"),
    "votes": ("hard", "soft"),
    "bound": ("betting", "clopper_pearson"),
}


def check_model(model: Any) -> Any:
    """A classifier, or ``None`` for the embedded one."""
    no_class("model", model)
    if model is not None and not is_classifier(model):
        raise TypeError(
            f"model must have a method classify(texts) or probabilities(texts), got "
            f"{type(model).__name__}; wrap it in an object with that method"
        )
    return model


def check_threat(
    threat: Any, mechanism: FixedMechanism | RandomMask, *, kernels: bool
) -> WordEdits | SynonymEdits:
    """The threat; one edited word of the mechanism's kind by default.

    Raises:
        TypeError: it is no edit of words.
        ValueError: the mechanism, or the substitution, does not cover it.
    """
    if threat is None:
        return SynonymEdits() if kernels else WordEdits(1, mechanism.operations)
    if not isinstance(threat, WordEdits | SynonymEdits):
        raise TypeError(
            f"threat must be WordEdits or SynonymEdits, got {type(threat).__name__}; a classifier "
            "withstands edits of words"
        )
    if isinstance(threat, SynonymEdits) != kernels:
        raise ValueError(
            f"threat={threat!r} and the substitution do not fit: SynonymEdits needs "
            "substitute=SynonymKernels(..), and only it does"
        )
    if isinstance(threat, WordEdits):
        covered = mechanism.operations == "any" or threat.operations == "substitute"
        if not covered:
            raise ValueError(
                f"{type(mechanism).__name__} covers substitutions, got operations="
                f"{threat.operations!r}; use HashBuckets for insertions, deletions and moves"
            )
    return threat


def check_together(
    mechanism: FixedMechanism | RandomMask,
    method: str,
    drawing: Drawing,
    refine: Refine | None,
) -> None:
    """Settings that go with random masks only, or not with each other."""
    random = isinstance(mechanism, RandomMask)
    needing = {
        "method='clucert'": method == "clucert",
        "randomised=True": drawing.randomised,
        "substitute=SynonymKernels(..)": drawing.kernels is not None,
        "bound='clopper_pearson'": drawing.bound == "clopper_pearson",
    }
    for name, wanted in needing.items():
        if wanted and not random:
            raise ValueError(
                f"{name} needs random masks, got {type(mechanism).__name__}; pass "
                "mechanism=RandomMask(0.9)"
            )
    if drawing.kernels is not None and refine is not None:
        raise ValueError(
            "substitute=SynonymKernels(..) does not go with refine: an exchanged synonym may "
            "change what is kept; leave one of them out"
        )
    if method == "clucert" and (drawing.kernels is not None or isinstance(refine, KeepImportant)):
        raise ValueError(
            "method='clucert' is the published rule and takes no kernels and no KeepImportant; "
            "refine the text (RefineText) or leave refine out"
        )


def check_cluster(cluster: Any, substitute: Any, method: str) -> Clustering | None:
    if cluster is None:
        return None
    if not isinstance(cluster, Clustering):
        raise TypeError(f"cluster must be a Clustering, got {type(cluster).__name__}")
    if not isinstance(substitute, Substitution):
        raise ValueError(
            "cluster needs variants to cluster; pass substitute=Substitution(), or leave it out"
        )
    return cluster


def check_randomness(model: Any, randomised: bool) -> None:
    """Whether a model that says it keeps its first response is said to draw anew."""
    if randomised and getattr(model, "memo", None):
        raise ValueError(
            "randomised=True needs fresh responses, but the model keeps its first one to each "
            "prompt (memo); switch the memo off, or pass randomised=False: the certificate then "
            "holds as long as the memo lives"
        )


def check_refine(refine: Any) -> Refine | None:
    if refine is not None and not isinstance(refine, Refine):
        raise TypeError(
            f"refine must be KeepImportant, RefineCopies or RefineText, got "
            f"{type(refine).__name__}: which edits are covered depends on which; wrap it in one"
        )
    return refine


def check_votes(model: Any, votes: str, method: str, bound: str) -> None:
    """Whether the model, the rule and the bound can do with such votes."""
    for name, needs_labels in (
        ("method='clucert'", method == "clucert"),
        ("bound='clopper_pearson'", bound == "clopper_pearson"),
    ):
        if needs_labels and votes == "soft":
            raise ValueError(f"{name} counts labels; pass votes='hard'")
    if votes == "soft" and not isinstance(model, ProbabilisticClassifier):
        raise ValueError(
            f"votes='soft' needs a model with labels and probabilities(texts), which "
            f"{type(model).__name__} has not; pass votes='hard'"
        )
    if votes == "hard" and not isinstance(model, TextClassifier):
        raise ValueError(
            f"votes='hard' needs a model with classify(texts), which {type(model).__name__} has "
            "not; pass votes='soft'"
        )


def check_texts(texts: Any) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("texts must be a list of texts, got one text; use classify for one")
    listed = list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(
                f"texts[{index}] must be text, got {type(text).__name__}; pass its content"
            )
    return listed
