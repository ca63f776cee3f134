"""Attacks on the plain and the smoothed classifier, and the check that none beats a certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.classification_data import Labelled, Pair
from robust_components.attacks import (
    PWWS,
    ClassificationAttack,
    ClassificationAttackResult,
    DeepWordBug,
    Judgement,
    TextBugger,
    TextFooler,
    edits_between,
)
from robust_components.classification import CluCertClassifier
from robust_components.smoothing import FixedMechanism, split_words

Synonyms = Callable[[str], Sequence[str]]
PROBES = 12
"""Most words whose importance an attack measures."""


class Remembered:
    """A classifier with probabilities that reads each text once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.labels = model.labels
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.mechanism = getattr(model, "mechanism", None)
        self.known: dict[str, Any] = {}

    def probabilities(self, texts: Sequence[str]) -> Any:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            self.known.update(zip(new, self.model.probabilities(new), strict=True))
        return np.array([self.known[text] for text in texts])

    def classify(self, texts: Sequence[str]) -> list[str | None]:
        return [self.labels[i] for i in self.probabilities(texts).argmax(axis=1)]


class PlainJudge:
    """The model on whole texts."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def judge(self, texts: Sequence[str]) -> list[Judgement]:
        return [
            Judgement(
                self.model.labels[int(row.argmax())],
                dict(zip(self.model.labels, row.tolist(), strict=True)),
            )
            for row in self.model.probabilities(texts)
        ]


class MeanJudge:
    """The mean over masked copies, without the certificate, which an attacker need not wait for."""

    def __init__(self, model: Any, mechanism: FixedMechanism) -> None:
        self.model = model
        self.mechanism = mechanism

    def judge(self, texts: Sequence[str]) -> list[Judgement]:
        made = [self.mechanism.copies(split_words(text)) for text in texts]
        shown = [[copy.text for copy in copies if copy.visible] for copies in made]
        self.model.probabilities([text for copies in shown for text in copies])
        found = []
        for copies, all_copies in zip(shown, made, strict=True):
            if not copies:
                found.append(Judgement(None, {}))
                continue
            units = np.rint(self.model.probabilities(copies) * 10**9).sum(axis=0)
            shares = (units / 10**9 / len(all_copies)).tolist()
            label = self.model.labels[int(units.argmax())]
            found.append(Judgement(label, dict(zip(self.model.labels, shares, strict=True))))
        return found


def attacks(budget: int, synonyms: Synonyms, seed: int) -> list[ClassificationAttack]:
    """All attacks, with some tens of queries each."""
    return [
        TextFooler(budget, seed, PROBES, synonyms=synonyms, most=6),
        PWWS(budget, seed, PROBES, synonyms=synonyms, most=3),
        TextBugger(budget, seed, PROBES, synonyms=synonyms),
        DeepWordBug(budget, seed, PROBES),
    ]


class Campaign:
    """Attacks on texts; keeps what came of them and every certificate that was beaten.

    Args:
        classifier: smoothed, over a :class:`Remembered` model.
        synonyms: for the attacks.
        budget: words, besides the certified radius.
        seed: of the attacks.
    """

    def __init__(
        self, classifier: CluCertClassifier, synonyms: Synonyms, *, budget: int = 2, seed: int = 0
    ) -> None:
        classifier.warm_up()
        assert isinstance(classifier.mechanism, FixedMechanism)
        self.classifier = classifier
        self.plain = PlainJudge(classifier.model)
        self.smoothed = MeanJudge(classifier.model, classifier.mechanism)
        self.synonyms = synonyms
        self.budget = budget
        self.seed = seed
        self.tallies: dict[tuple[str, str], list[tuple[bool, bool, int]]] = {}
        self.violations: list[str] = []
        self.texts = 0
        self.certified = 0
        self.checked = 0

    def run(self, item: Labelled) -> None:
        """Attack one text with each attack: both victims at the budget, and within the radius."""
        before = self.classifier.classify(item.text)
        self.texts += 1
        self.certified += before.radius >= 1
        for number, attack in enumerate(attacks(self.budget, self.synonyms, self.seed)):
            for name, judge in (("plain", self.plain), ("smoothed", self.smoothed)):
                result = attack.attack(item.text, judge)
                right = result.label_before == item.label
                kept = right and not result.succeeded
                self.tallies.setdefault((attack.name, name), []).append(
                    (right, kept, result.queries)
                )
                self._check(item.text, before, result, attack.name)
            if before.radius >= 1 and before.radius != self.budget:
                within = attacks(before.radius, self.synonyms, self.seed)[number]
                self._check(item.text, before, within.attack(item.text, self.smoothed), attack.name)

    def _check(self, text: str, before: Any, result: ClassificationAttackResult, name: str) -> None:
        self.checked += 1
        if result.words_edited == 0 or before.label is None:
            return
        after = self.classifier.classify(result.text)
        self._compare(before, after, result.words_edited, f"{name}: {text[:60]!r}")

    def _compare(self, before: Any, after: Any, words: int, what: str) -> None:
        """The clean text's certificate, and what the attacked text's own says of the clean one."""
        if after.label == before.label:
            return
        if words <= before.radius:
            self.violations.append(f"{what}: {words} words within radius {before.radius}")
        if after.label is not None and words <= after.radius:
            self.violations.append(f"{what}: attacked text certified for {after.radius}")

    def replay(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Recorded attacks on other models: how often they change our labels too.

        Pairs whose numbers of words differ leave the threat model and are counted apart.
        """
        table: dict[str, dict[str, int]] = {}
        for pair in pairs:
            one, other = pair.original.split(), pair.perturbed.split()
            counts = table.setdefault(
                pair.name,
                dict.fromkeys(("pairs", "other_length", "plain", "smoothed", "within_radius"), 0),
            )
            counts["pairs"] += 1
            if len(one) != len(other):
                counts["other_length"] += 1
                continue
            words = edits_between(one, other, "substitute")
            before, after = self.classifier.classify_many([pair.original, pair.perturbed])
            first, second = self.plain.judge([pair.original, pair.perturbed])
            counts["plain"] += first.label != second.label
            counts["smoothed"] += before.label != after.label
            counts["within_radius"] += words <= before.radius
            self.checked += 1
            self._compare(before, after, words, f"replay {pair.name}: {pair.original[:60]!r}")
        return table

    def figures(self) -> dict[str, Any]:
        """Accuracy before and under attack, by attack and victim."""
        table: dict[str, Any] = {}
        for (attack, victim), rows in self.tallies.items():
            right = sum(row[0] for row in rows)
            kept = sum(row[1] for row in rows)
            table.setdefault(attack, {})[victim] = {
                "accuracy": round(right / len(rows), 4),
                "accuracy_under_attack": round(kept / len(rows), 4),
                "success_rate": round(1 - kept / right, 4) if right else None,
                "queries": round(sum(row[2] for row in rows) / len(rows), 1),
            }
        return {
            "texts": self.texts,
            "texts_with_a_certified_radius": self.certified,
            "budget": self.budget,
            "attacked_texts_checked_against_certificates": self.checked,
            "certificates_beaten": len(self.violations),
            "attacks": table,
        }
