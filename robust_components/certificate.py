"""The certificate attached to an output: what is guaranteed, against whom, up to which budget.

A certificate is plain data. Its ``evidence`` holds the numbers the claim follows from, so that
somebody else can check it later, without the model: see :mod:`robust_components.verification`,
which shares no code with the components that issue certificates.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from types import UnionType
from typing import Any, ClassVar

VERSION = "1"


class Guarantee(StrEnum):
    """How far a claim may be trusted."""

    DETERMINISTIC = "deterministic"
    """Proved: holds for every attack within the threat model, without chance."""
    PROBABILISTIC = "probabilistic"
    """Proved to be wrong with probability at most 1 - confidence over our own random draws."""
    EMPIRICAL = "empirical"
    """Measured against the attacks listed in the evidence, and no others."""
    HEURISTIC = "heuristic"
    """A published rule that is not sound; for comparison only."""


class Statement(StrEnum):
    """Which texts are taken to be clean."""

    OBSERVED = "observed"
    """The texts at hand may already hold up to ``budget`` hostile ones."""
    PRE_ATTACK = "pre_attack"
    """The texts at hand are clean; the attack is still to come."""


_TEXT = (str, "text")
_OBJECT = (dict, "an object")
_TYPES: dict[str, tuple[type | UnionType, str]] = {
    "claim": _TEXT,
    "certified": (bool, "true or false"),
    "guarantee": _TEXT,
    "threat": _OBJECT,
    "statement": _TEXT,
    "radius": (int, "a whole number"),
    "method": _TEXT,
    "confidence": (float | None, "a number or null"),
    "parameters": _OBJECT,
    "evidence": _OBJECT,
    "assumptions": (list, "a list of sentences"),
    "reason": (str | None, "text or null"),
    "model": _OBJECT,
    "cost": _OBJECT,
    "version": _TEXT,
    "digest": _TEXT,
    "signature": (str | None, "text or null"),
}


def canonical_json(data: Mapping[str, Any]) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal data gives equal text."""
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is guaranteed about one output.

    Attributes:
        claim: one sentence a person can read.
        certified: whether the claim holds for the budget named in ``threat``.
        guarantee: a :class:`Guarantee`.
        confidence: ``None``, or 1 - alpha for probabilistic claims.
        threat: kind, budget and scope of the attacker (see :mod:`robust_components.threats`).
        statement: a :class:`Statement`.
        radius: largest budget for which the claim holds; 0 when it holds for none.
        method: the rule that issued the certificate; selects the verifier's arithmetic.
        parameters: settings of the rule; decimals as strings, so that they stay exact.
        evidence: the numbers the claim follows from.
        assumptions: sentences that must be true for the claim to hold.
        reason: why the claim is not certified, or ``None``.
        model: name and fingerprint of the model.
        cost: model passes, tokens and seconds spent.
        version: version of this format.
        signature: optional HMAC-SHA256, made by :meth:`sign`.
    """

    claim: str
    certified: bool
    guarantee: str
    threat: dict[str, Any]
    statement: str
    radius: int
    method: str
    confidence: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    reason: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    version: str = VERSION
    digest: str = ""
    signature: str | None = None

    UNDIGESTED: ClassVar[tuple[str, ...]] = ("digest", "signature")

    def __post_init__(self) -> None:
        Guarantee(self.guarantee)
        Statement(self.statement)
        object.__setattr__(self, "guarantee", str(self.guarantee))
        object.__setattr__(self, "statement", str(self.statement))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if not self.digest:
            object.__setattr__(self, "digest", self._compute_digest())

    def _content(self) -> dict[str, Any]:
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["assumptions"] = list(self.assumptions)
        return content

    def _compute_digest(self) -> str:
        body = {k: v for k, v in self._content().items() if k not in self.UNDIGESTED}
        return hashlib.sha256(canonical_json(body).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary, equal after a trip through JSON."""
        return dict(json.loads(canonical_json(self._content())))

    def to_json(self, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Certificate:
        """Read a stored certificate; the stored digest is kept as it is, for :meth:`verify`.

        Raises:
            ValueError: a field is missing, unknown, of another type or outside its range.
        """
        if not isinstance(data, Mapping):
            raise ValueError(
                f"a certificate must be a JSON object, got {type(data).__name__}; "
                "pass the output of Certificate.to_dict()"
            )
        known = {f.name for f in fields(cls)}
        missing = sorted(known - {"signature"} - set(data))
        unknown = sorted(str(key) for key in set(data) - known)
        if missing or unknown:
            raise ValueError(
                f"not a certificate of version {VERSION}: missing fields {missing}, "
                f"unknown fields {unknown}; pass the output of Certificate.to_dict()"
            )
        try:
            values = json.loads(canonical_json(dict(data)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"a certificate must be plain JSON data ({error}); "
                "pass the output of Certificate.to_dict()"
            ) from None
        for name, (types, wanted) in _TYPES.items():
            if not isinstance(values.get(name), types) or isinstance(values.get(name), bool) != (
                types is bool
            ):
                raise ValueError(
                    f"{name} must be {wanted}, got {repr(values.get(name))[:80]}; "
                    "pass the output of Certificate.to_dict()"
                )
        if not values["digest"]:
            raise ValueError("digest must not be empty; pass the output of Certificate.to_dict()")
        if not all(isinstance(sentence, str) for sentence in values["assumptions"]):
            raise ValueError("assumptions must be sentences; pass the output of to_dict()")
        return cls(**{**values, "assumptions": tuple(values["assumptions"])})

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """:meth:`from_dict` for JSON text.

        Raises:
            ValueError: the text is no JSON, or no certificate.
        """
        try:
            data = json.loads(text)
        except RecursionError:
            raise ValueError("the text is nested too deeply for a certificate") from None
        except ValueError as error:
            raise ValueError(
                f"a certificate must be JSON, got {text[:40]!r}: {error}; pass what to_json() gave"
            ) from None
        return cls.from_dict(data)

    def sign(self, key: str | bytes) -> Certificate:
        """Return a copy with an HMAC-SHA256 signature of the digest made with ``key``."""
        return replace(self, signature=_signature(self.digest, key))

    def verify(self, key: str | bytes | None = None) -> bool:
        """Whether digest, arithmetic and (with ``key``) signature are all in order.

        The radius is recomputed from ``evidence`` alone. What this shows is that the claim follows
        from the evidence; that the evidence is what the model really said rests on who signed it.
        """
        return not self.problems(key)

    def problems(self, key: str | bytes | None = None) -> list[str]:
        """What :meth:`verify` objects to, one sentence each; empty when it verifies."""
        from robust_components.verification import problems

        return problems(self.to_dict(), key)

    def concerns(
        self, query: str, passages: Sequence[str], sources: Sequence[str] | None = None
    ) -> bool:
        """Whether this certificate is about this question and these passages, in this order.

        Args:
            query: the question.
            passages: the texts that were read; none of those beyond ``top_k``. A certificate of one
                document of a ranking concerns that document, which leaves open among which others
                it was ranked, and the whole list of candidates, which does not.
            sources: the source of each passage; not compared when ``None``.

        Raises:
            TypeError: the question, a passage or a source is no text.
        """
        from robust_components.verification import concerns

        return concerns(self.to_dict(), query, passages, sources)

    def __str__(self) -> str:
        """Three lines: the claim, how far it holds, what it rests on."""
        verdict = "CERTIFIED" if self.certified else "NOT CERTIFIED"
        confidence = "" if self.confidence is None else f", confidence {self.confidence}"
        threat = (
            f"{self.threat.get('kind')} <= {self.threat.get('budget')} {self.threat.get('scope')}"
        )
        why = f" Reason: {' '.join(self.reason.split())}" if self.reason else ""
        return (
            f"{verdict} ({self.guarantee}{confidence}, {self.statement}): {self.claim}\n"
            f"  radius {self.radius}, against {threat}, by {self.method}.{why}\n"
            f"  assumes: {' '.join(self.assumptions) or 'nothing further'}"
        )

    def _repr_html_(self) -> str:
        colour = "#1a7f37" if self.certified else "#9a6700"
        first, second, third = (html.escape(line.strip()) for line in str(self).split("\n"))
        return (
            f'<div style="border-left:4px solid {colour};padding-left:.6em">'
            f"<b>{first}</b><br>{second}<br><small>{third}</small></div>"
        )


def text_hash(text: str) -> str:
    """SHA-256 of a text in hexadecimal, as certificates name their inputs."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _signature(digest: str, key: str | bytes) -> str:
    secret = key.encode() if isinstance(key, str) else key
    if not secret:
        raise ValueError("key must not be empty; pass a secret of at least 16 bytes")
    return hmac.new(secret, digest.encode(), hashlib.sha256).hexdigest()
