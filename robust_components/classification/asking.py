"""Calls the wrapped classifier: each distinct text once, short ones together, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robust_components.classification.votes import Failure, Vote, quantise
from robust_components.models.protocols import ProbabilisticClassifier, TextClassifier

TOLERANCE = 1e-6
"""Probabilities this far outside [0, 1] are rounding errors and are cut to it."""
SURPLUS = 1e-2
"""A row may add up to this much more than 1: half-precision models round so."""
PROBES = ("A short text about one thing.", "Another text, a little longer, about something else.")


class Asking:
    """Votes of one model.

    A call that raises is repeated text by text, so that one text cannot spoil the others; what
    still raises is a :class:`~robust_components.classification.votes.Failure`.

    Args:
        model: labels texts, or gives probabilities with ``soft``.
        labels: names of all labels, in order; ``None`` leaves the set open.
        soft: ask for probabilities.
        batch_size: texts given to the model at a time.
    """

    def __init__(
        self, model: Any, labels: tuple[str, ...] | None, *, soft: bool, batch_size: int
    ) -> None:
        self.model = model
        self.labels = labels
        self.soft = soft
        self.batch_size = batch_size
        self.passes = 0
        self.last_error: Exception | None = None

    def votes(self, texts: Sequence[str], *, distinct: bool = True) -> list[Vote]:
        """One vote a text, in order.

        Args:
            texts: masked copies, not empty.
            distinct: ask once for equal texts; ``False`` for models that draw at random.

        Raises:
            ValueError: what the model returned has another shape, or is no label or probability.
        """
        wanted = list(dict.fromkeys(texts)) if distinct else list(texts)
        order = sorted(range(len(wanted)), key=lambda i: len(wanted[i]))
        found: list[Vote] = [None] * len(wanted)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            for index, vote in zip(batch, self._ask([wanted[i] for i in batch]), strict=True):
                found[index] = vote
        if not distinct:
            return found
        of_text = dict(zip(wanted, found, strict=True))
        return [of_text[text] for text in texts]

    def _ask(self, texts: list[str]) -> list[Vote]:
        read = self._read_probabilities if self.soft else self._read_labels
        call: Callable[[list[str]], Any]
        call = self.model.probabilities if self.soft else self.model.classify
        self.passes += len(texts)
        try:
            answer = call(texts)
        except Exception as error:
            self.last_error = error
            if len(texts) == 1:
                return [Failure(f"{type(error).__name__}: {str(error)[:200]}")]
        else:
            return read(answer, len(texts))
        return [self._ask([text])[0] for text in texts]

    def _read_labels(self, answer: Any, number: int) -> list[Vote]:
        if isinstance(answer, str) or not isinstance(answer, Sequence | np.ndarray):
            raise ValueError(
                f"classify must return one label or None a text, got {type(answer).__name__}; "
                "return a list"
            )
        if len(answer) != number:
            raise ValueError(
                f"classify returned {len(answer)} labels for {number} texts; return one a text, "
                "None where the model abstains"
            )
        return [self._read_label(one) for one in answer]

    def _read_label(self, label: Any) -> Vote:
        if label is None:
            return None
        if isinstance(label, Exception):
            self.last_error = label
            return Failure(f"{type(label).__name__}: {str(label)[:200]}")
        if not isinstance(label, str):
            raise ValueError(
                f"classify must return text or None for each text, got {label!r}; return the "
                "label's name"
            )
        if self.labels is not None and label not in self.labels:
            said = f"the model gave the label {label[:80]!r}, which is not in labels"
            self.last_error = ValueError(f"{said} {list(self.labels)[:20]}")
            return Failure(said)
        return str(label)

    def _read_probabilities(self, answer: Any, number: int) -> list[Vote]:
        assert self.labels is not None
        values = np.asarray(answer, dtype=np.float64)
        if values.shape != (number, len(self.labels)):
            raise ValueError(
                f"probabilities must have shape ({number}, {len(self.labels)}), one row a text and "
                f"one column a label, got {values.shape}"
            )
        usable = [bool(np.isfinite(row).all()) for row in values]
        rows = values[np.array(usable, dtype=bool)]
        least, most = (rows.min(), rows.max()) if rows.size else (0.0, 1.0)
        if least < -TOLERANCE or most > 1 + TOLERANCE or (rows.sum(axis=1) > 1 + SURPLUS).any():
            raise ValueError(
                f"probabilities must lie in [0, 1] and add up to at most 1 a text, got {least:g} "
                f"to {most:g}; apply softmax to logits"
            )
        if not all(usable):
            self.last_error = ValueError("the model's probabilities are not finite")
        units = quantise(np.nan_to_num(values, posinf=0.0, neginf=0.0))
        return [
            tuple(row.tolist()) if fine else Failure("the model's probabilities are not finite")
            for row, fine in zip(units, usable, strict=True)
        ]


def check_alone(model: ProbabilisticClassifier, tolerance: float) -> None:
    """Whether two texts get the same probabilities together and alone.

    Raises:
        ValueError: they do not: the model looks at its batch, or draws at random.
    """
    together = np.asarray(model.probabilities(list(PROBES)), dtype=np.float64)
    alone = [np.asarray(model.probabilities([text]), dtype=np.float64) for text in PROBES]
    if any(one.shape != together[:1].shape for one in alone):
        raise ValueError("probabilities must return one row a text; see ProbabilisticClassifier")
    apart = float(np.abs(together - np.concatenate(alone)).max())
    if not apart <= tolerance:
        raise ValueError(
            f"the model's probabilities of a text change by {apart:.3g} with the other texts of "
            f"the call (more than numerical_margin={tolerance:g}): it looks at its batch or draws "
            "at random, so nothing can be certified; wrap a model that reads each text alone, or "
            "raise numerical_margin if this is rounding"
        )


def labels_of(model: Any, labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """The closed set of labels: the one given, the model's own, or none.

    Raises:
        ValueError: fewer than two, or one twice.
        TypeError: a label is no text.
    """
    own = getattr(model, "labels", None)
    stated = own if labels is None else labels
    if stated is None:
        return None
    if isinstance(stated, str) or not all(isinstance(one, str) for one in stated):
        raise TypeError(f"labels must be names, got {stated!r}; pass a list of texts")
    names = tuple(stated)
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise ValueError(f"labels must be distinct, got {twice[0]!r} twice; name each label once")
    if len(names) < 2:
        raise ValueError(
            f"labels must hold at least two names, got {list(names)}: with one there is nothing to "
            "decide; add the alternative, such as 'other', or leave labels open with a model that "
            "abstains"
        )
    if labels is not None and own is not None and set(own) != set(names):
        raise ValueError(f"labels {list(names)} are not the model's, {list(own)}; leave them out")
    return names if own is None else tuple(own)


def is_classifier(model: Any) -> bool:
    return isinstance(model, TextClassifier | ProbabilisticClassifier)
