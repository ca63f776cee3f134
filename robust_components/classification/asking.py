"""Calls the wrapped classifier: each distinct text once, short ones together, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
            ValueError: the model did not return one answer a text, or labels that are no text.
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
        values, problems = checked_rows(answer, number, len(self.labels))
        found: list[Vote] = []
        for row, problem in zip(quantise(values), problems, strict=True):
            if problem is not None:
                self.last_error = ValueError(problem)
            found.append(tuple(row.tolist()) if problem is None else Failure(problem))
        return found


def checked_rows(
    answer: Any, number: int, labels: int
) -> tuple[NDArray[np.float64], list[str | None]]:
    """A model's answer as float64 of shape (number, labels), and what is wrong with each row.

    Rows are judged one by one, and wrong ones are zero: one text cannot spoil the others.

    Raises:
        ValueError: there is not one row a text.
    """
    problems: list[str | None] = [None] * number
    values = _numbers(answer)
    if isinstance(values, str) or values.shape != (number, labels):
        rows = _rows(answer, number)
        values = np.zeros((number, labels))
        for i, row in enumerate(rows):
            one = _numbers(row)
            if isinstance(one, str):
                problems[i] = f"a text's probabilities must be numbers: {one}"
            elif one.shape != (labels,):
                problems[i] = (
                    f"a text's probabilities must have shape ({labels},), one for each label, got "
                    f"{one.shape}"
                )
            else:
                values[i] = one
    for i in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
        problems[i] = "the model's probabilities are not finite"
        values[i] = 0.0
    with np.errstate(over="ignore"):
        least, most, total = values.min(axis=1), values.max(axis=1), values.sum(axis=1)
    outside = (least < -TOLERANCE) | (most > 1 + TOLERANCE) | (total > 1 + SURPLUS)
    for i in np.flatnonzero(outside).tolist():
        problems[i] = (
            f"probabilities must lie in [0, 1] and add up to at most 1 a text, got {least[i]:g} to "
            f"{most[i]:g}, {total[i]:g} in all; apply softmax to logits"
        )
        values[i] = 0.0
    return values, problems


def _numbers(value: Any) -> NDArray[np.float64] | str:
    """A float64 copy, or why there is none."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def _rows(answer: Any, number: int) -> list[Any]:
    try:
        rows = list(answer)
    except TypeError:
        rows = []
    if len(rows) != number:
        raise ValueError(
            f"probabilities must return one row for each of {number} texts, got {len(rows)} in "
            f"{type(answer).__name__}; return an array of shape (texts, labels)"
        )
    return rows


def check_alone(model: ProbabilisticClassifier, labels: int, tolerance: float) -> None:
    """Whether two texts get the same probabilities together and alone.

    Args:
        labels: how many there are.
        tolerance: most by which two probabilities may differ.

    Raises:
        ValueError: they do not: the model looks at its batch, or draws at random; or it does not
            return one row a text with one number a label.
    """
    together = _table(model.probabilities(list(PROBES)), len(PROBES), labels)
    alone = [_table(model.probabilities([text]), 1, labels) for text in PROBES]
    apart = float(np.abs(together - np.concatenate(alone)).max())
    if not apart <= tolerance:
        raise ValueError(
            f"the model's probabilities of a text change by {apart:.3g} with the other texts of "
            f"the call (more than numerical_margin={tolerance:g}): it looks at its batch or draws "
            "at random, so nothing can be certified; wrap a model that reads each text alone, or "
            "raise numerical_margin if this is rounding"
        )


def _table(answer: Any, number: int, labels: int) -> NDArray[np.float64]:
    values = _numbers(answer)
    if isinstance(values, str) or values.shape != (number, labels):
        found = values if isinstance(values, str) else f"shape {values.shape}"
        raise ValueError(
            f"probabilities must have shape ({number}, {labels}), one row a text and one column a "
            f"label, got {found}; see ProbabilisticClassifier"
        )
    return values


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
    names_given = isinstance(stated, Iterable) and not isinstance(stated, str)
    if not names_given or not all(isinstance(one, str) for one in stated):
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
