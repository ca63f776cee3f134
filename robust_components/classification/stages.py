"""What is done to one masked copy before the model sees it: refine, substitute, cluster.

Each reads that copy alone, and draws from a seed made of it, so all of it together is a function of
the copy and belongs to the smoothed function H of the certificates.
"""

from __future__ import annotations

from robust_components.classification.cluster import Clustering
from robust_components.classification.refine import RefineCopies
from robust_components.classification.substitute import Substitution


class Stages:
    """The stages of one classifier.

    Args:
        refine, substitute, cluster: ``None`` leaves a stage out; clusters are made of variants.
    """

    def __init__(
        self,
        refine: RefineCopies | None,
        substitute: Substitution | None,
        cluster: Clustering | None,
    ) -> None:
        self.refine = refine
        self.substitute = substitute
        self.cluster = cluster

    def __bool__(self) -> bool:
        return self.refine is not None or self.substitute is not None

    def __call__(self, copy: str) -> str | None:
        """What the model is to see, or ``None`` to abstain."""
        if self.substitute is None or self.cluster is None:
            return self.variant(copy)
        text = self._refined(copy)
        if not text.strip():
            return None
        return self.cluster.choose(self.substitute.variants(text, self.cluster.variants))

    def variant(self, copy: str) -> str:
        """The copy refined, with one draw of synonyms, not clustered."""
        text = self._refined(copy)
        return text if self.substitute is None else self.substitute.variants(text, 1)[0]

    def _refined(self, copy: str) -> str:
        return copy if self.refine is None else self.refine(copy)
