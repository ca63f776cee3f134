"""Checks a stored certificate from its own numbers, without the model and without the components.

What is shown: the certificate is unchanged since its digest was made (and, with a key, was signed
with that key), its fields agree with each other, and its claim and radius follow from its
evidence, by exact arithmetic written from the theory and sharing no code with the components.
What is not: that the evidence is what the model really said. That rests on who signed it.

A new method is one file here with a function ``problems(certificate)`` and one line in
:data:`METHODS`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from robust_components.verification import (
    classification,
    classified_text,
    clucert,
    decoding,
    keyword,
    neuron_repair,
    passages,
    ranking,
    robustmask,
    sampled_classification,
    sampled_ranking,
    voting,
    word_edits,
)
from robust_components.verification.inputs import concerns
from robust_components.verification.reading import UnverifiableError, shown, whole

__all__ = ["METHODS", "Method", "concerns", "problems"]

VERSION = "1"


@dataclass(frozen=True)
class Method:
    """How certificates of one method are checked.

    Attributes:
        problems: recomputes the radius from the evidence and says what is wrong. It is given
            certificates whose fields have the right types and agree with each other; it may raise
            :class:`~robust_components.verification.reading.UnverifiableError`.
        guarantees: guarantees the method can give.
        threats: kinds of threat it has arithmetic for.
    """

    problems: Callable[[Mapping[str, Any]], Iterator[str]]
    guarantees: frozenset[str]
    threats: frozenset[str]


METHODS: dict[str, Method] = {
    "voting": Method(voting.problems, frozenset({"deterministic"}), passages.THREATS),
    "decoding": Method(decoding.problems, frozenset({"deterministic"}), passages.THREATS),
    "keyword": Method(keyword.problems, frozenset({"deterministic"}), passages.THREATS),
    "ranking": Method(ranking.ranking_problems, frozenset({"deterministic"}), word_edits.THREATS),
    "ranking_document": Method(
        ranking.document_problems, frozenset({"deterministic"}), word_edits.THREATS
    ),
    "sampled_ranking": Method(
        sampled_ranking.ranking_problems, frozenset({"probabilistic"}), word_edits.THREATS
    ),
    "sampled_document": Method(
        sampled_ranking.document_problems, frozenset({"probabilistic"}), word_edits.THREATS
    ),
    "classification": Method(
        classification.problems, frozenset({"deterministic"}), classified_text.THREATS
    ),
    "sampled_classification": Method(
        sampled_classification.problems, frozenset({"probabilistic"}), classified_text.THREATS
    ),
    "clucert": Method(clucert.problems, frozenset({"heuristic"}), classified_text.THREATS),
    "neuron_repair": Method(neuron_repair.problems, frozenset({"empirical"}), word_edits.THREATS),
    "robustmask": Method(robustmask.problems, frozenset({"heuristic"}), word_edits.THREATS),
}

FIELDS: dict[str, tuple[type, ...]] = {
    "assumptions": (list,),
    "certified": (bool,),
    "claim": (str,),
    "confidence": (type(None), float),
    "cost": (dict,),
    "digest": (str,),
    "evidence": (dict,),
    "guarantee": (str,),
    "method": (str,),
    "model": (dict,),
    "parameters": (dict,),
    "radius": (int,),
    "reason": (type(None), str),
    "signature": (type(None), str),
    "statement": (str,),
    "threat": (dict,),
    "version": (str,),
}
GUARANTEES = ("deterministic", "probabilistic", "empirical", "heuristic")
STATEMENTS = ("observed", "pre_attack")
SCOPES = {
    "passage_injection": "sources",
    "passage_modification": "sources",
    "synonym_edits": "words",
    "word_edits": "words",
}


def problems(certificate: Mapping[str, Any], key: str | bytes | None = None) -> list[str]:
    """What is wrong with a certificate given as a dictionary; empty when all is well.

    Never raises on what the certificate holds: malformed data is a problem like any other, and so
    is evidence that takes too long to check.

    Args:
        certificate: the output of ``Certificate.to_dict()``, or what somebody says is one.
        key: the secret the certificate must be signed with; ``None`` does not check a signature.

    Raises:
        ValueError: the key is empty.
        TypeError: the key is neither text nor bytes.
    """
    secret = None if key is None else _secret(key)
    try:
        data = json.loads(_canonical(certificate))
        _check_types(data)
    except UnverifiableError as problem:
        return [str(problem)]
    found = [*_seal_problems(data, secret), *_agreement_problems(data)]
    return found or _method_problems(data)


def _secret(key: str | bytes) -> bytes:
    if not isinstance(key, str | bytes):
        raise TypeError(f"key must be text or bytes, got {type(key).__name__}; pass the secret")
    if not key:
        raise ValueError("key must not be empty; pass the secret the certificate was signed with")
    return key.encode() if isinstance(key, str) else key


def _canonical(data: Any) -> str:
    if not isinstance(data, Mapping):
        raise UnverifiableError(f"A certificate must be a JSON object, got {type(data).__name__}.")
    try:
        return json.dumps(
            dict(data), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise UnverifiableError(f"The certificate is not plain JSON data: {error}.") from None


def _check_types(data: Mapping[str, Any]) -> None:
    missing = sorted(FIELDS.keys() - {"signature"} - data.keys())
    unknown = sorted(data.keys() - FIELDS.keys())
    if missing or unknown:
        raise UnverifiableError(
            f"The fields are not those of a certificate: {shown(missing)} missing, "
            f"{shown(unknown)} unknown."
        )
    for name, types in FIELDS.items():
        if type(data.get(name)) not in types:
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise UnverifiableError(f"{name} must be {wanted}, got {shown(data[name])}.")
    if not all(isinstance(one, str) for one in data["assumptions"]):
        raise UnverifiableError("assumptions must hold sentences only.")


def _seal_problems(data: Mapping[str, Any], secret: bytes | None) -> Iterator[str]:
    if data["version"] != VERSION:
        yield f"The format version is {shown(data['version'])}; only {VERSION!r} can be checked."
    sealed = {name: data[name] for name in data if name not in ("digest", "signature")}
    digest = hashlib.sha256(_canonical(sealed).encode()).hexdigest()
    if data["digest"] != digest:
        yield "The digest does not match: something was changed after the certificate was made."
    if secret is None:
        return
    if data.get("signature") is None:
        yield "The certificate is not signed, but a key was given."
        return
    expected = hmac.new(secret, digest.encode(), hashlib.sha256).hexdigest()
    stated = data["signature"].encode("utf-8", "backslashreplace")
    if not hmac.compare_digest(stated, expected.encode()):
        yield "The signature was not made with this key for this content."


def _agreement_problems(data: Mapping[str, Any]) -> Iterator[str]:
    """Whether the fields have known values that agree with each other."""
    guarantee, confidence, threat = data["guarantee"], data["confidence"], data["threat"]
    if guarantee not in GUARANTEES:
        yield f"The guarantee {shown(guarantee)} is unknown."
    if (confidence is not None) != (guarantee == "probabilistic"):
        yield f"A {shown(guarantee)} guarantee does not go with confidence {confidence}."
    elif confidence is not None and not 0 < confidence < 1:
        yield f"The confidence must be between 0 and 1, got {confidence}."
    if data["statement"] not in STATEMENTS:
        yield f"The statement {shown(data['statement'])} is unknown."
    try:
        radius = whole(data["radius"], "radius")
        budget = _check_threat(threat)
    except UnverifiableError as problem:
        yield str(problem)
        return
    if data["statement"] == "observed" and threat["kind"] == "passage_injection":
        yield "An observed statement needs a modification threat: the texts at hand may be hostile."
    if data["certified"] != (radius >= budget):
        yield (
            f"certified is {data['certified']}, but the radius is {radius} and the budget of the "
            f"threat {budget}."
        )
    if bool(data["reason"]) == data["certified"]:
        yield "A reason must be given if the claim is not certified, and only then."


def _check_threat(threat: Mapping[str, Any]) -> int:
    kind = threat.get("kind")
    if not isinstance(kind, str) or kind not in SCOPES:
        raise UnverifiableError(f"The threat {shown(kind)} is unknown.")
    if threat.get("scope") != SCOPES[kind]:
        raise UnverifiableError(
            f"A {kind} counts {SCOPES[kind]}, but threat['scope'] is {shown(threat.get('scope'))}."
        )
    if kind == "passage_injection":
        whole(threat.get("passages_per_source"), "threat['passages_per_source']", 1)
    return whole(threat.get("budget"), "threat['budget']", 1)


def _method_problems(data: Mapping[str, Any]) -> list[str]:
    method = METHODS.get(data["method"])
    if method is None:
        return [f"no arithmetic is known for method {shown(data['method'])}."]
    if data["guarantee"] not in method.guarantees:
        return [f"Method {data['method']} gives no {data['guarantee']} guarantee."]
    if data["threat"]["kind"] not in method.threats:
        return [f"Method {data['method']} knows no threat {data['threat']['kind']}."]
    found: list[str] = []
    try:
        found.extend(method.problems(data))
    except UnverifiableError as problem:
        found.append(str(problem))
    except Exception as error:  # data nobody foresaw must fail, not interrupt an audit
        found.append(f"The evidence cannot be read: {type(error).__name__}.")
    return found
