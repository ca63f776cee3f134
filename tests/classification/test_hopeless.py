"""Whether "can never certify" is true: every vote on small texts against the warning."""

from __future__ import annotations

import itertools

import pytest

from robust_components import CluCertClassifier
from robust_components.classification import KeepImportant
from robust_components.classification.fixed_rule import certified_radius
from robust_components.classification.hopeless import fixed_problem
from robust_components.classification.plan import Counting, Subject, fixed_plan, fixed_reach
from robust_components.classification.votes import UNIT
from robust_components.models.testing import TableClassifier, TableProbabilities
from robust_components.smoothing import BalancedMask, HashBuckets
from robust_components.threats import WordEdits

pytestmark = pytest.mark.filterwarnings("ignore:.*=1 shows every word")
LABELS = ("first", "second")
MECHANISMS = [
    *(BalancedMask(blocks) for blocks in (2, 3, 4, 5)),
    *(BalancedMask(4, span=span) for span in (2, None)),
    *(BalancedMask(2, partitions=2), BalancedMask(3, partitions=2)),
    *(HashBuckets(2), HashBuckets(3), HashBuckets(4)),
]


def certified(mechanism, threat, refine, counting, lengths):
    """Labels certified for the threat by any votes on texts of so many words."""
    found = set()
    hard = [None, *LABELS]
    soft = [None, (UNIT, 0), (0, UNIT), (UNIT // 2, UNIT // 2)]
    for words in lengths:
        text = tuple(f"w{i}" for i in range(words))
        subject = Subject.of(text, refine, grows=mechanism.operations == "any")
        copies = next(fixed_plan(subject, mechanism, threat, counting))
        reach = fixed_reach(mechanism.copies(text), subject, mechanism, threat)
        shown = [i for i, copy in enumerate(copies) if copy is not None]
        for chosen in itertools.product(soft if counting.soft else hard, repeat=len(shown)):
            votes = [None] * len(copies)
            for at, vote in zip(shown, chosen, strict=True):
                votes[at] = vote
            ballots = counting.count(votes)
            if ballots.winner is None or ballots.labels[ballots.winner] in found:
                continue
            if certified_radius(ballots, reach, counting.margin(len(copies))) >= threat.budget:
                found.add(ballots.labels[ballots.winner])
    return found


CASES = [
    (mechanism, budget, keep, closed, margin)
    for mechanism in MECHANISMS
    for budget in (1, 2)
    for keep in (None, 1, 3)
    for closed, margin in [(True, None), (False, None), (True, 0), (True, 1e-3), (True, 0.26)]
    # Votes by probabilities are too many to try on more copies.
    if margin is None or (mechanism.blocks * mechanism.partitions <= 4 and keep != 3)
]


@pytest.mark.parametrize(("mechanism", "budget", "keep", "closed", "margin"), CASES)
def test_the_warning_says_what_every_vote_shows(mechanism, budget, keep, closed, margin):
    threat = WordEdits(budget, mechanism.operations)
    refine = None if keep is None else KeepImportant(keep, lambda word: 1.0)
    problem = fixed_problem(
        mechanism, threat, refine, closed=closed, numerical_margin=margin or 0.0
    )
    counting = Counting(LABELS if closed else None, margin is not None, margin or 0.0)
    longest = 20 if mechanism.operations == "any" else 2 * mechanism.blocks
    lengths = {1, 2, 3, mechanism.blocks, mechanism.blocks + 1, longest}
    if problem is not None and "in texts of more than" in problem:
        assert certified(mechanism, threat, refine, counting, range(1, keep + 1))
        lengths = {length for length in lengths if length > keep}
    found = certified(mechanism, threat, refine, counting, lengths)
    if problem is None:
        # Few important words fill few copies, which the warning does not look at.
        assert found == set(LABELS) or (keep is not None and keep < mechanism.blocks)
    elif "for the label listed first alone" in problem:
        assert found == {LABELS[0]} or (keep is not None and not found)
    elif "can never certify" in problem:
        assert not found
    else:
        assert "can hardly certify" in problem
        assert mechanism.partitions > 1 and budget > 1


@pytest.mark.parametrize("soft", [False, True])
def test_ties_go_to_the_label_listed_first(soft):
    made = (
        TableProbabilities(lambda text: {"a" if "x" in text else "b": 1.0}, ("a", "b"))
        if soft
        else TableClassifier(lambda text: "a" if "x" in text else "b")
    )
    with pytest.warns(UserWarning, match="for the label listed first alone, which wins ties"):
        classifier = CluCertClassifier(made, BalancedMask(2), labels=("a", "b"), numerical_margin=0)
    first, second = classifier.classify_many(["x x", "y y"])
    assert (first.label, first.radius) == ("a", 1)
    assert (second.label, second.radius) == ("b", 0)
    assert first.certificate.problems() == []


def test_words_that_share_copies_can_be_certified_beyond_the_blocks():
    """So several partitions can hardly, but not never, certify half of the blocks."""
    mechanism = BalancedMask(4, partitions=60)
    with pytest.warns(UserWarning, match="can hardly certify 2 edited words"):
        classifier = CluCertClassifier(
            TableClassifier(lambda text: "b"), mechanism, labels=("a", "b"), threat=WordEdits(2)
        )
    found = classifier.classify("v w x y z")
    assert found.radius >= 2
    assert found.certificate.problems() == []
