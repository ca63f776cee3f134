"""What a robust generator returns, and the questions one can ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from robust_components.certificate import Certificate
from robust_components.rag.passages import PassageResult


@dataclass(frozen=True)
class TokenResult:
    """One emitted token and the largest number of hostile sources that could not change it.

    Attributes:
        text: what the token adds to the answer; empty for end-of-sequence.
        certified_k: largest budget under which this token stays, given the tokens before it.
    """

    text: str
    certified_k: int


def only_certified(
    on_token: Callable[[TokenResult], None], budget: int
) -> Callable[[TokenResult], None]:
    """``on_token`` up to the first token not certified for ``budget``."""
    stopped = False

    def forward(token: TokenResult) -> None:
        nonlocal stopped
        stopped = stopped or token.certified_k < budget
        if not stopped:
            on_token(token)

    return forward


@dataclass(frozen=True)
class RAGResult:
    """An answer with its certificate and what each passage contributed.

    Attributes:
        answer: the answer, or the abstention text.
        abstained: no answer is given (nobody knew, or it was withheld as uncertified).
        certificate: an ``observed`` certificate of the aggregated answer.
        passages: one entry a passage given, in order.
        tokens: emitted tokens with their certified budgets (decoding only).
        keywords: the keywords enough sources agree on (keyword aggregation only).
    """

    answer: str
    abstained: bool
    certificate: Certificate
    passages: tuple[PassageResult, ...]
    tokens: tuple[TokenResult, ...] = ()
    keywords: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why the answer is not certified, or ``None``."""
        return self.certificate.reason

    @property
    def withheld(self) -> bool:
        """Whether there was an answer that is not given, for want of a certificate."""
        return "withheld" in self.certificate.evidence

    def supporting(self) -> tuple[PassageResult, ...]:
        """Passages whose source supports the aggregated answer."""
        return tuple(p for p in self.passages if p.supports)

    def opposing(self) -> tuple[PassageResult, ...]:
        """Passages whose source voted for something else."""
        return tuple(p for p in self.passages if p.supports is False)

    def sources(self) -> tuple[str, ...]:
        """Distinct sources that support the answer, best rank first."""
        return tuple(dict.fromkeys(p.source for p in self.supporting()))

    def metadata(self) -> dict[str, Any]:
        """What an adapter attaches to the answer: certificate, abstention, sources, keywords."""
        data: dict[str, Any] = {
            "certificate": self.certificate.to_dict(),
            "abstained": self.abstained,
            "sources": list(self.sources()),
            "keywords": list(self.keywords),
        }
        if self.tokens:
            data["tokens"] = [asdict(token) for token in self.tokens]
        return data

    def to_dict(self) -> dict[str, Any]:
        return {
            "answer": self.answer,
            "abstained": self.abstained,
            "certificate": self.certificate.to_dict(),
            "passages": [asdict(p) for p in self.passages],
            "tokens": [asdict(t) for t in self.tokens],
            "keywords": list(self.keywords),
        }
