"""What a classification says, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robust_components.certificate import Certificate


@dataclass(frozen=True)
class Classification:
    """The label of one text.

    Attributes:
        label: the elected label, or ``None``: no label is given, for the certificate's reason.
        votes: share of the masked copies' votes each label has (with soft votes: mean probability
            over the copies). Shares of votes, not probabilities that a label is right.
        abstained: share of the copies without a vote.
        failed: number of copies without a usable response; they count as votes for every rival.
        radius: largest number of edited words under which the label is certified to stay; -1 when
            no label is given.
        certificate: says the same, verifiably.
        copies: number of masked copies that voted or abstained.
    """

    label: str | None
    votes: dict[str, float]
    abstained: float
    failed: int
    radius: int
    certificate: Certificate
    copies: int

    @property
    def certified(self) -> bool:
        """Whether the label withstands the budget of the threat."""
        return self.certificate.certified

    @property
    def reason(self) -> str | None:
        """Why it is not certified, or ``None``."""
        return self.certificate.reason

    def concerns(self, text: str) -> bool:
        """Whether the certificate is about this text."""
        return self.certificate.concerns("", [text])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for metadata."""
        return {
            "label": self.label,
            "vote_shares": dict(self.votes),
            "abstained": self.abstained,
            "failed_copies": self.failed,
            "certified_radius": self.radius,
            "certificate": self.certificate.to_dict(),
        }
