"""What all classification certificates share: settings, inputs and sentences.

Written from the theory of smoothing by masked copies (Levine & Feizi 2020; CluCERT, arXiv
2512.08967), not from the components.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from robust_components.verification.reading import (
    UnverifiableError,
    distinct_texts,
    entry,
    shown,
    text_or_null,
    whole,
)
from robust_components.verification.word_edits import (
    OPERATIONS,
    UNIT,
    exact_keys,
    input_hashes,
    number,
    read_mechanism,
)

THREATS = frozenset({"word_edits", "synonym_edits"})
PARAMETERS = {
    "mechanism",
    "votes",
    "labels",
    "numerical_margin",
    "refine",
    "substitute",
    "cluster",
}
MAX_LABELS = 10_000
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Terms:
    """The settings of a certificate.

    Attributes:
        mechanism: settings of the mechanism, of known names and types.
        soft: whether votes are probabilities.
        labels: the closed set of labels, or ``None``.
        margin: most by which two probabilities of one copy differ, in units.
        margin_text: the same as it is written.
        refine: ``None`` or how the text is refined.
        keep: words kept, for refinement by importance.
        in_sample: whether masked copies are worked on before the model sees them.
        classes: whether words are replaced by synonym classes first.
        variation: of the substitution kernels; ``None`` without them.
        budget, operations, observed: threat and statement; operations may be ``"synonyms"``.
    """

    mechanism: Mapping[str, Any]
    soft: bool
    labels: list[str] | None
    margin: int
    margin_text: str
    refine: str | None
    keep: int | None
    in_sample: bool
    classes: bool
    variation: Fraction | None
    budget: int
    operations: str
    observed: bool

    @property
    def scale(self) -> int:
        return UNIT if self.soft else 1

    def slots(self, words: int) -> int:
        """Words of which random masks show some."""
        return words if self.keep is None else min(words, self.keep)

    def shown(self, words: int) -> int:
        """Words visible in every random mask of a text of ``words`` words."""
        count = self.slots(words)
        hidden = round(Fraction(str(self.mechanism["mask_rate"])) * count)
        return min(count, max(1, count - hidden))


def read_terms(certificate: Mapping[str, Any], *extra: str) -> Terms:
    """Read and check ``parameters``, threat and statement; ``extra`` are further parameters."""
    parameters = exact_keys(certificate["parameters"], "parameters", PARAMETERS | {*extra})
    mechanism = read_mechanism(parameters["mechanism"])
    votes = parameters["votes"]
    if votes not in ("hard", "soft"):
        raise UnverifiableError(f"parameters['votes'] is unknown: {shown(votes)}.")
    refine, keep = _refine(parameters["refine"])
    substitute = _described(parameters["substitute"], "substitute")
    kind = None if substitute is None else substitute["kind"]
    if kind not in (None, "variants", "classes", "kernels"):
        raise UnverifiableError(f"The substitution {shown(kind)} is unknown.")
    cluster = _described(parameters["cluster"], "cluster")
    if cluster is not None and kind != "variants":
        raise UnverifiableError("Clusters are made of substituted variants, which there are none.")
    variation = None
    if substitute is not None and kind == "kernels":
        variation = number(entry(substitute, "variation", "substitute"), "the variation")
        if not 0 <= variation <= 1 or refine is not None or mechanism["name"] != "random_mask":
            raise UnverifiableError("Substitution kernels need random masks of the whole text.")
    labels = parameters["labels"]
    if labels is not None and len(distinct_texts(labels, "parameters['labels']", MAX_LABELS)) < 2:
        raise UnverifiableError("parameters['labels'] must name two labels at least.")
    if votes == "soft" and labels is None:
        raise UnverifiableError("Probabilities need a closed set of labels.")
    margin = number(parameters["numerical_margin"], "parameters['numerical_margin']")
    if votes == "hard" and margin:
        raise UnverifiableError("Labels are not rounded: parameters['numerical_margin'] must be 0.")
    return Terms(
        mechanism=mechanism,
        soft=votes == "soft",
        labels=labels,
        margin=math.ceil(margin * UNIT) + 1 if margin else 0,
        margin_text=parameters["numerical_margin"],
        refine=refine,
        keep=keep,
        in_sample=refine == "in_sample" or kind == "variants",
        classes=kind == "classes",
        variation=variation,
        budget=certificate["threat"]["budget"],
        operations=_operations(certificate["threat"], mechanism, variation),
        observed=certificate["statement"] == "observed",
    )


def _operations(
    threat: Mapping[str, Any], mechanism: Mapping[str, Any], variation: Fraction | None
) -> str:
    synonyms = threat["kind"] == "synonym_edits"
    exact_keys(
        threat, "threat", {"kind", "budget", "scope"} | (set() if synonyms else {"operations"})
    )
    if synonyms != (variation is not None):
        raise UnverifiableError("Synonym edits go with substitution kernels, and only they do.")
    if synonyms:
        return "synonyms"
    operations = threat["operations"]
    if operations not in OPERATIONS[mechanism["name"]]:
        raise UnverifiableError(
            f"{mechanism['name']} does not cover operations={shown(operations)}."
        )
    return str(operations)


def _described(value: Any, name: str) -> Mapping[str, Any] | None:
    """Settings of a stage: an object with a ``kind``, of which nothing else is checked."""
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        raise UnverifiableError(f"parameters[{name!r}] must name its kind, got {shown(value)}.")
    return value


def _refine(value: Any) -> tuple[str | None, int | None]:
    stated = _described(value, "refine")
    if stated is None:
        return None, None
    kind = stated["kind"]
    if kind not in ("word_importance", "in_sample", "full_text"):
        raise UnverifiableError(f"The refinement {shown(kind)} is unknown.")
    extra = {"keep"} if kind == "word_importance" else set()
    exact_keys(stated, "parameters['refine']", {"kind", "name"} | extra)
    if not isinstance(stated["name"], str):
        raise UnverifiableError("parameters['refine']['name'] must be text.")
    keep = whole(stated["keep"], "parameters['refine']['keep']", 1) if extra else None
    return kind, keep


def check_inputs(evidence: Mapping[str, Any], terms: Terms) -> None:
    """Whether the evidence names one text, and the refined one where the claim is about that."""
    input_hashes(evidence, 1)
    if evidence["inputs"]["query"] != hashlib.sha256(b"").hexdigest():
        raise UnverifiableError("evidence['inputs'] must have an empty query.")
    refined = evidence["refined"]
    if terms.refine != "full_text":
        fits = refined is None
    else:
        fits = isinstance(refined, str) and bool(_HASH.fullmatch(refined))
    if not fits:
        raise UnverifiableError(f"evidence['refined'] does not fit: {shown(refined)}.")


def stated_label(evidence: Mapping[str, Any]) -> str | None:
    return text_or_null(evidence["label"], "evidence['label']")


def stated_problems(
    certificate: Mapping[str, Any],
    terms: Terms,
    *,
    label: str | None,
    radius: int,
    failed: int,
    why: str | None,
    kind: str,
    randomised: bool = False,
) -> Iterator[str]:
    """Label, radius, claim, reason and assumptions, once all that was recomputed.

    Args:
        certificate: the certificate.
        terms: its settings.
        label, radius: what follows from the evidence.
        failed: number of failed copies.
        why: why there is no label or no certificate, if not for the usual reason.
        kind: ``"exact"``, ``"sampled"`` or ``"published"``.
        randomised: whether the model draws anew for every copy.
    """
    stated = stated_label(certificate["evidence"])
    if stated != label:
        yield f"The label is {shown(label)} by the evidence, not {shown(stated)}."
    if certificate["radius"] != radius:
        yield f"The stated radius is {certificate['radius']}, but {radius} follows."
    claim = _claim(terms, label, radius, sampled=kind == "sampled")
    if kind == "published" and label is not None and radius:
        claim = f"The published CluCERT rule, which is not sound, says: {claim}"
    if certificate["claim"] != claim:
        yield f"The claim {shown(certificate['claim'])} is not the sentence for radius {radius}."
    if certificate["assumptions"] != _assumptions(terms, failed, kind, randomised):
        yield "The assumptions are not those of this mechanism and statement."
    if not certificate["certified"] and certificate["reason"] != (why or _reason(terms, radius)):
        yield f"The reason {shown(certificate['reason'])} does not follow from the evidence."


def _claim(terms: Terms, label: str | None, radius: int, *, sampled: bool) -> str:
    if label is None:
        return "No label is given, and nothing is guaranteed."
    name = json.dumps(label, ensure_ascii=False)
    if radius == 0:
        return f"Nothing is guaranteed about whether the label {name} withstands edits."
    text = "refined text" if terms.refine == "full_text" else "text"
    amount = f"at most {radius} word{'s' if radius > 1 else ''}"
    deed = {
        "synonyms": "replaced by synonyms",
        "substitute": "substituted",
        "any": "inserted, deleted or moved",
    }[terms.operations]
    masks = " by majority over all masks" if sampled else ""
    more = ", whatever other words are replaced within their synonym classes" * terms.classes
    if terms.observed:
        verb = "were" if radius > 1 else "was"
        return (
            f"The label of the clean {text}{masks} is {name} too if {amount} {verb} {deed}{more}."
        )
    verb = "are" if radius > 1 else "is"
    return f"The label {name}{masks} stays the same if {amount} {verb} {deed} in the {text}{more}."


def _reason(terms: Terms, radius: int) -> str:
    words = f"{terms.budget} edited word{'s' if terms.budget > 1 else ''}"
    held = f"; it holds up to {radius}" if radius else ""
    return f"Another label after {words} cannot be excluded{held}."


def _assumptions(terms: Terms, failed: int, kind: str, randomised: bool) -> list[str]:
    rounding = f"; two probabilities of one copy differ by at most {terms.margin_text}"
    said = [
        "The model draws anew and independently for every copy, equal copies included."
        if randomised
        else "The model labels each masked copy by that copy alone and gives equal copies equal "
        f"votes{rounding if terms.soft else ''}.",
        "Words are what stands between white space in the full text.",
        {
            "synonyms": "Edits replace words by synonyms of the stated table, one for one and in "
            "the same form; the substitution kernels of a word and its synonyms differ by at most "
            f"{terms.variation} in total variation.",
            "substitute": "Edits replace words one for one and leave the number of words as it is.",
            "any": "A substituted word counts as two edits: one deletion and one insertion.",
        }[terms.operations],
    ]
    if not terms.observed:
        said.append("The text at hand is clean.")
    if terms.refine == "word_importance":
        said.append("The importance of a word is a fixed function of that word alone.")
    if terms.refine == "full_text":
        said.append(
            "The claim is about edits of the refined text; edits before refining are not covered."
        )
    if terms.classes:
        said.append(
            "Synonym classes are fixed; every word is replaced by its class, punctuation kept, "
            "before it is masked."
        )
    if terms.in_sample:
        said.append(
            "What is done to a masked copy before the model labels it reads that copy alone; its "
            "randomness is drawn from the copy."
        )
    if kind == "sampled":
        said.append(
            "The masks were drawn at random after the text was fixed, and the claim is about the "
            "label that most of all masks give, which samples only estimate."
        )
    if failed:
        counts = "copy got no usable response and counts as a vote"
        if failed > 1:
            counts = "copies got no usable response and count as votes"
        said.append(f"{failed} {counts} for every rival.")
    if kind == "published":
        said.append(
            "This is the published CluCERT rule, for comparison only: it is not sound, and an "
            "attacker within the budget may break it."
        )
    return said
