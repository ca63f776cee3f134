"""Stage 3, cluster: of the variants of one masked copy, the one that says what most of them say.

Clusters are made within one masked copy, so the result is a function of that copy and the
certificates hold unchanged. Clusters across copies are part of the published rule
(:mod:`.published`), where one edited word can move every cluster.

Source: CluCERT (arXiv 2512.08967), DBSCAN on sentence embeddings.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from robust_components.checks import positive_integer
from robust_components.classification.substitute import cosines
from robust_components.models.protocols import SentenceEncoder

NOISE = -1


class Clustering:
    """Of several variants, the medoid of the largest cluster; none when no cluster is large enough.

    Args:
        encoder: embeds sentences. It is called for the variants of one copy at a time, so that no
            other copy can influence them.
        variants: how many are drawn of each copy, at least 2.
        distance: largest cosine distance of neighbours, in (0, 2).
        neighbours: variants a core point needs around it, itself included, at least 1.
        share: least share of the variants that the largest cluster must hold, in (0, 1].

    Raises:
        ImportError: scikit-learn is not installed.
    """

    kind: ClassVar[str] = "dbscan"

    def __init__(
        self,
        encoder: SentenceEncoder,
        *,
        variants: int = 8,
        distance: float = 0.2,
        neighbours: int = 3,
        share: float = 0.5,
    ) -> None:
        if not isinstance(encoder, SentenceEncoder):
            raise TypeError(
                f"encoder must have encode(texts), got {type(encoder).__name__}; wrap it in an "
                "object with that method"
            )
        if importlib.util.find_spec("sklearn") is None:
            raise ImportError(
                "clustering needs scikit-learn; install 'robust-components[clucert]', or leave the "
                "cluster stage out"
            )
        for name, value, most in (("distance", distance, 2.0), ("share", share, 1.0)):
            if isinstance(value, bool) or not 0 < value <= most:
                raise ValueError(f"{name} must be in (0, {most:g}], got {value!r}")
        self.encoder = encoder
        self.variants = positive_integer("variants", variants, minimum=2)
        self.distance = float(distance)
        self.neighbours = positive_integer("neighbours", neighbours)
        self.share = float(share)

    def choose(self, texts: Sequence[str]) -> str | None:
        """The medoid of the largest cluster of ``texts``, or ``None``.

        Raises:
            ValueError: the encoder returned no finite vectors, or too few.
        """
        members = self.largest(texts)
        if len(members) < math.ceil(self.share * len(texts)):
            return None
        return texts[members[0]]

    def largest(self, texts: Sequence[str]) -> list[int]:
        """The members of the largest cluster, medoid first; of equal ones the first."""
        near = self._cosines(texts)
        clusters = self._clusters(near)
        counts = {label: int((clusters == label).sum()) for label in clusters.tolist()}
        counts.pop(NOISE, None)
        if not counts:
            return []
        label = max(counts, key=lambda one: (counts[one], -one))
        members = np.flatnonzero(clusters == label)
        apart = np.round((1 - near[np.ix_(members, members)]).sum(axis=1), 6)
        return [int(members[i]) for i in np.argsort(apart, kind="stable")]

    def _cosines(self, texts: Sequence[str]) -> NDArray[np.float64]:
        distinct = list(dict.fromkeys(texts))
        near = cosines(self.encoder.encode(distinct))
        if len(near) != len(distinct):
            raise ValueError(
                f"encode returned {len(near)} vectors for {len(distinct)} texts; return one a text"
            )
        place = {text: i for i, text in enumerate(distinct)}
        rows = [place[text] for text in texts]
        return near[np.ix_(rows, rows)]

    def _clusters(self, near: NDArray[np.float64]) -> NDArray[np.int64]:
        from sklearn.cluster import DBSCAN

        scan = DBSCAN(eps=self.distance, min_samples=self.neighbours, metric="precomputed")
        labels: NDArray[np.int64] = scan.fit_predict(np.round(np.maximum(0.0, 1 - near), 6))
        return labels

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "encoder": str(getattr(self.encoder, "name", type(self.encoder).__name__)),
            "variants": self.variants,
            "distance": str(self.distance),
            "neighbours": self.neighbours,
            "share": str(self.share),
        }
