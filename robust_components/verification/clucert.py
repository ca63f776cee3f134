"""The arithmetic of the published CluCERT rule, which is not sound (arXiv 2512.08967).

Checked is that the rule was applied as published, so that a heuristic certificate says what it
says; not that the claim holds.

Evidence: ``inputs`` (digests), ``refined``, ``label``, ``words``, ``labels``, ``votes`` of the
copies in the largest cluster, ``drawn`` (copies in all) and ``low``: the Clopper-Pearson bound of
the label's share, in units of 1e-9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from robust_components.verification.classification import check_labels, elected, read_votes
from robust_components.verification.classified_text import (
    MAX_LABELS,
    check_inputs,
    read_terms,
    stated_problems,
)
from robust_components.verification.reading import (
    UnverifiableError,
    distinct_texts,
    listing,
    whole,
)
from robust_components.verification.sampled_ranking import upper_tail
from robust_components.verification.word_edits import MAX_WORDS, UNIT, exact_keys, number

MAX_SAMPLES = 100_000
OFF = 2


def problems(certificate: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a certificate by the published rule."""
    terms = read_terms(certificate, "alpha")
    if terms.mechanism["name"] != "random_mask" or terms.soft or terms.variation is not None:
        raise UnverifiableError("The published rule is about random masks and labels.")
    if terms.keep is not None:
        raise UnverifiableError("The published rule knows no importance of single words.")
    alpha = number(certificate["parameters"]["alpha"], "parameters['alpha']")
    if not 0 < alpha < 1:
        raise UnverifiableError("parameters['alpha'] must be in (0, 1).")
    evidence = exact_keys(
        certificate["evidence"],
        "evidence",
        {"inputs", "refined", "label", "words", "labels", "votes", "drawn", "low"},
    )
    check_inputs(evidence, terms)
    words = whole(evidence["words"], "evidence['words']", 0, MAX_WORDS)
    drawn = whole(evidence["drawn"], "evidence['drawn']", 0, MAX_SAMPLES)
    if drawn != (terms.mechanism["samples"] if words else 0):
        yield "evidence['drawn'] is not the number of samples."
    labels = distinct_texts(evidence["labels"], "evidence['labels']", MAX_LABELS)
    votes = listing(evidence["votes"], "evidence['votes']", drawn)
    table, failed = read_votes(votes, labels, terms)
    check_labels(labels, table, terms)
    winner = elected(table)
    low = whole(evidence["low"], "evidence['low']", 0, UNIT)
    radius = 0
    why = "No masked copy voted for a label." if words else "The text has no words."
    if winner is None:
        if low:
            yield "evidence['low'] must be 0 when nobody voted."
    else:
        wins = int(table[:, winner].sum())
        near = (max(0, low - OFF), min(UNIT, low + OFF))
        if near[0] and upper_tail(wins, len(votes), near[0]) > alpha:
            yield "evidence['low'] is more than the counts support."
        if near[1] * len(votes) < UNIT * wins and upper_tail(wins, len(votes), near[1]) <= alpha:
            yield "evidence['low'] is less than the counts support."
        radius = _radius(words, terms.shown(words), Fraction(low, UNIT))
    yield from stated_problems(
        certificate,
        terms,
        label=None if winner is None else labels[winner],
        radius=radius,
        failed=int(failed.sum()),
        why=None if winner is not None else why,
        kind="published",
    )


def _radius(words: int, visible: int, low: Fraction) -> int:
    """The largest d with p_low (1 - Delta_d) > 1/2; 0 when there is none."""
    missed, edits = Fraction(1), 0
    while edits < words:
        # the share of masks that miss one word more
        missed *= Fraction(max(0, words - visible - edits), words - edits)
        if not 2 * low * missed > 1:
            break
        edits += 1
    return edits
