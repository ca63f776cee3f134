"""What all ranking certificates share: settings, sentences, and how far edits reach.

Written from the theory of smoothing by masked copies (Levine & Feizi 2020; RobustMask, arXiv
2512.23307), not from the components. Scores are whole numbers in units of 1/:data:`UNIT`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from robust_components.verification.inputs import list_digest
from robust_components.verification.reading import (
    UnverifiableError,
    entry,
    listing,
    shown,
    whole,
)

UNIT = 10**9
MAX_DOCUMENTS = 100_000
MAX_WORDS = 10_000_000
MAX_TERMS = 10_000
FINEST_SHARE = 1000
THREATS = frozenset({"word_edits"})
OPERATIONS = {
    "balanced_mask": ("substitute",),
    "hash_buckets": ("substitute", "any"),
    "random_mask": ("substitute",),
}
SETTINGS = {
    "balanced_mask": {"name", "blocks", "partitions", "span", "mask_token", "seed"},
    "hash_buckets": {"name", "buckets", "partitions", "seed"},
    "random_mask": {"name", "mask_rate", "samples", "mask_token", "seed"},
}
SCOPES = {
    "promotion": "each document outside the top {k}",
    "demotion": "each document of the top {k}",
    "any": "each document",
}
SCORE_MAPS = ("identity", "sigmoid", "sigmoid/4")
PARAMETERS = {
    "top_k",
    "scope",
    "mechanism",
    "aggregation",
    "score_map",
    "numerical_margin",
}
_NUMBER = re.compile(r"[0-9]{1,40}(\.[0-9]{1,40})?(e-?[0-9]{1,3})?|[0-9]{1,60}/[0-9]{1,60}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Setting:
    """The settings of a certificate.

    Attributes:
        k: size of the top.
        scope: which documents are edited.
        mechanism: settings of the mechanism, of known names and types.
        quantile: ``None`` if scores are means.
        terms: share of the query's words in the score and the weight of each, ``None`` without.
        margin: most by which two scores of one copy differ, in units.
        margin_text: the same as it is written.
        budget, operations, observed: threat and statement.
        sampled: whether masks are drawn at random.
    """

    k: int
    scope: str
    mechanism: Mapping[str, Any]
    quantile: Fraction | None
    terms: tuple[Fraction, tuple[int, ...]] | None
    margin: int
    margin_text: str
    budget: int
    operations: str
    observed: bool

    @property
    def sampled(self) -> bool:
        return bool(self.mechanism["name"] == "random_mask")

    def editable(self, inside: bool) -> bool:
        """Whether a document in, or outside, the top K is edited."""
        return self.scope == "any" or inside == (self.scope == "demotion")


def number(value: Any, name: str) -> Fraction:
    """A decimal or fraction written as text, exactly."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise UnverifiableError(f"{name} must be a number written as text, got {shown(value)}.")
    try:
        return Fraction(value)
    except ZeroDivisionError:
        raise UnverifiableError(f"{name} divides by zero: {shown(value)}.") from None


def exact_keys(value: Any, name: str, keys: set[str]) -> Mapping[str, Any]:
    """A mapping with these keys and no others."""
    if not isinstance(value, dict) or value.keys() != keys:
        raise UnverifiableError(f"{name} must have the entries {sorted(keys)}, got {shown(value)}.")
    return value


def document_hashes(evidence: Mapping[str, Any]) -> None:
    """Check the digests of one document and of the list of candidates it was ranked in."""
    inputs = exact_keys(
        evidence["inputs"], "evidence['inputs']", {"query", "passages", "candidates"}
    )
    digests = input_hashes({"inputs": {k: inputs[k] for k in ("query", "passages")}}, 1)
    candidates = inputs["candidates"]
    if not isinstance(candidates, str) or not _HASH.fullmatch(candidates):
        raise UnverifiableError(f"evidence['inputs'] holds {shown(candidates)}, no SHA-256.")
    if evidence["documents"] == 1 and candidates != list_digest(digests):
        raise UnverifiableError("evidence['inputs'] names another list than its only document.")


def input_hashes(evidence: Mapping[str, Any], count: int) -> list[str]:
    """SHA-256 of each of ``count`` documents, from ``evidence["inputs"]``."""
    inputs = exact_keys(evidence["inputs"], "evidence['inputs']", {"query", "passages"})
    passages = listing(inputs["passages"], "evidence['inputs']['passages']", MAX_DOCUMENTS)
    for digest in (inputs["query"], *passages):
        if not isinstance(digest, str) or not _HASH.fullmatch(digest):
            raise UnverifiableError(f"evidence['inputs'] holds {shown(digest)}, no SHA-256.")
    if len(passages) != count:
        raise UnverifiableError(f"evidence['inputs'] must name {count} documents.")
    return passages


def read_setting(certificate: Mapping[str, Any], *extra: str) -> Setting:
    """Read and check ``parameters``, threat and statement; ``extra`` are further parameters."""
    parameters = exact_keys(certificate["parameters"], "parameters", PARAMETERS | {*extra})
    threat = exact_keys(certificate["threat"], "threat", {"kind", "budget", "scope", "operations"})
    mechanism, scope = read_mechanism(parameters["mechanism"]), parameters["scope"]
    if threat["operations"] not in OPERATIONS[mechanism["name"]]:
        raise UnverifiableError(
            f"{mechanism['name']} does not cover operations={shown(threat['operations'])}."
        )
    if not isinstance(scope, str) or scope not in SCOPES:
        raise UnverifiableError(f"parameters['scope'] is unknown: {shown(scope)}.")
    observed = certificate["statement"] == "observed"
    if observed and scope != "any":
        raise UnverifiableError("In an observed list any document may be edited: scope 'any'.")
    if parameters["score_map"] not in SCORE_MAPS:
        raise UnverifiableError(f"The score map {shown(parameters['score_map'])} is unknown.")
    margin = number(parameters["numerical_margin"], "parameters['numerical_margin']")
    return Setting(
        k=whole(parameters["top_k"], "parameters['top_k']"),
        scope=scope,
        mechanism=mechanism,
        quantile=_quantile(parameters["aggregation"]),
        terms=_terms(parameters["aggregation"]),
        margin=math.ceil(margin * UNIT) + 1 if margin else 0,
        margin_text=parameters["numerical_margin"],
        budget=whole(threat["budget"], "threat['budget']", 1),
        operations=threat["operations"],
        observed=observed,
    )


def read_mechanism(value: Any) -> Mapping[str, Any]:
    """The settings of a known mechanism, with the right types."""
    name = entry(value, "name", "parameters['mechanism']") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in SETTINGS:
        raise UnverifiableError(f"The mechanism {shown(name)} is unknown.")
    exact_keys(value, "parameters['mechanism']", SETTINGS[name])
    for count in ("blocks", "buckets", "partitions", "span", "samples"):
        if count in value and (count != "span" or value["span"] is not None):
            whole(value[count], f"mechanism[{count!r}]", 1)
    seed, token = value["seed"], value.get("mask_token")
    if type(seed) is not int and (seed is not None or name != "random_mask"):
        raise UnverifiableError(f"mechanism['seed'] must be a whole number, got {shown(seed)}.")
    if token is not None and (not isinstance(token, str) or [token] != token.split()):
        raise UnverifiableError(f"mechanism['mask_token'] must be one word, got {shown(token)}.")
    if name == "random_mask":
        rate = value["mask_rate"]
        if not isinstance(rate, float) or not 0 < rate < 1:
            raise UnverifiableError(f"mechanism['mask_rate'] is not in (0, 1): {shown(rate)}.")
    return dict(value)


def _terms(value: Mapping[str, Any]) -> tuple[Fraction, tuple[int, ...]] | None:
    if value["name"] != "mean_and_terms":
        return None
    name = "parameters['aggregation']"
    share = number(value["share"], f"{name}['share']")
    if not 0 < share < 1 or FINEST_SHARE % share.denominator:
        raise UnverifiableError(f"{name}['share'] is no share of thousandths: {shown(share)}.")
    weights = listing(value["weights"], f"{name}['weights']", MAX_TERMS)
    for weight in weights:
        whole(weight, f"a weight of {name}", 0, UNIT)
    if sum(weights) > UNIT:
        raise UnverifiableError(f"{name}['weights'] add up to more than {UNIT}.")
    return share, tuple(weights)


def _quantile(value: Any) -> Fraction | None:
    if value == {"name": "mean"}:
        return None
    if isinstance(value, dict) and value.get("name") == "mean_and_terms":
        exact_keys(value, "parameters['aggregation']", {"name", "share", "language", "weights"})
        language = value["language"]
        if language is not None and (not isinstance(language, str) or not language.isidentifier()):
            raise UnverifiableError(
                f"parameters['aggregation']['language'] is no language: {shown(language)}."
            )
        return None
    exact_keys(value, "parameters['aggregation']", {"name", "quantile"})
    quantile = number(value["quantile"], "parameters['aggregation']['quantile']")
    if value["name"] != "quantile" or not 0 < quantile < 1:
        raise UnverifiableError(f"The aggregation {shown(value)} is unknown.")
    return quantile


def stated_problems(
    certificate: Mapping[str, Any],
    setting: Setting,
    *,
    radius: int,
    unlimited: int,
    about: str,
    published: bool = False,
) -> Iterator[str]:
    """Radius, claim, reason and assumptions of a certificate whose radius was just recomputed.

    Args:
        certificate: the certificate.
        setting: its settings.
        radius: the stated radius if it follows from the evidence, else another number.
        unlimited: the radius that stands for any number of edits.
        about: ``"set"``, ``"inside"`` or ``"outside"``.
        published: whether the rule is the published one, which is not sound.
    """
    if certificate["radius"] != radius:
        larger = "larger" if radius > certificate["radius"] else "smaller"
        yield f"The radius is {larger} than {certificate['radius']}, by the evidence."
        return
    claim = _claim(setting, radius, unlimited, about)
    if published and radius:
        claim = f"The published RobustMask rule, which is not sound, says: {claim}"
    if certificate["claim"] != claim:
        yield f"The claim {shown(certificate['claim'])} is not the sentence for radius {radius}."
    if certificate["assumptions"] != _assumptions(setting, published):
        yield "The assumptions are not those of this mechanism and statement."
    if not certificate["certified"] and certificate["reason"] != _reason(setting, radius):
        yield f"The reason {shown(certificate['reason'])} does not follow from the evidence."


def _claim(setting: Setting, radius: int, unlimited: int, about: str) -> str:
    k = setting.k
    place = f"{'outside' if about == 'outside' else 'in'} the top {k}"
    if k == 0:
        return "Nothing is guaranteed about an empty list."
    if radius == 0 and about == "set":
        return f"Nothing is guaranteed about which documents are the top {k}."
    if radius == 0:
        return f"Nothing is guaranteed about whether this document stays {place}."
    by = " by mean over all masks" if setting.sampled else ""
    condition = _condition(setting, radius, unlimited)
    if about == "set" and setting.observed:
        return f"The top {k}{by} are also those of the clean list if {condition}."
    if about == "set":
        return f"The top {k}{by} stay the same documents if {condition}."
    if setting.observed:
        return f"This document is {place}{by} of the clean list too if {condition}."
    return f"This document stays {place}{by} if {condition}."


def _condition(setting: Setting, radius: int, unlimited: int) -> str:
    if radius >= unlimited:
        amount, plural = "any number of words", True
    else:
        amount, plural = f"at most {radius} word{'s' if radius > 1 else ''}", radius > 1
    verb = ("were" if plural else "was") if setting.observed else ("are" if plural else "is")
    deed = "inserted, deleted or moved" if setting.operations == "any" else "substituted"
    return f"{amount} {verb} {deed} in {SCOPES[setting.scope].format(k=setting.k)}"


def _reason(setting: Setting, radius: int) -> str:
    if setting.k == 0:
        return "There are no documents."
    words = f"{setting.budget} edited word{'s' if setting.budget > 1 else ''}"
    held = f"; it holds up to {radius}" if radius else ""
    return f"A change by {words} a document cannot be excluded{held}."


def _assumptions(setting: Setting, published: bool) -> list[str]:
    said = [
        "The model scores each masked copy by the query and that copy alone; two scores of the "
        f"same copy differ by at most {setting.margin_text}.",
        "The list of candidates and the query are not under the attacker's control.",
        "Words are what stands between white space in the full text.",
    ]
    if setting.operations == "substitute":
        said.append("Edits replace words one for one and leave the number of words as it is.")
    else:
        said.append("A substituted word counts as two edits: one deletion and one insertion.")
    if not setting.observed:
        said.append("The documents at hand are clean.")
    if setting.sampled:
        said.append(
            "The masks were drawn at random after the documents were fixed, and the claim is about "
            "means over all masks, which a list ranked by samples only estimates."
        )
    if published:
        said.append(
            "This is the published RobustMask rule, for comparison only: it is not sound, and an "
            "attacker within the budget may break it."
        )
    return said
