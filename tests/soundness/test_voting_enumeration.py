"""Majority voting attacked by enumeration, against vote counting written apart.

A list is a tuple of (source, response) pairs, best rank first. A response is an answer (``a``,
``b``, ``c``), ``n`` for an answer nobody gave, ``-`` for an abstention, ``!`` for a model failure.
Only the public API is used: `RobustRAGGenerator` over a `KeywordReader` that says what the passage
says. What an attack leads to is counted here; `test_own_counting_agrees_with_run` ties the two.
"""

from __future__ import annotations

import itertools
from functools import cache
from types import SimpleNamespace

import pytest

from robust_components.models.protocols import ModelFailedError
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.threats import PassageInjection, PassageModification

ABSTAINS, FAILS, NEW = "-", "!", "n"
ATTACKS = ("a", "b", "c", NEW, ABSTAINS)
"""What a hostile passage may answer. Being absent from the list is the same as abstaining."""


# ------------------------------------------------------------------------- the code under test


def respond(query, text):
    if text == FAILS:
        raise ConnectionError("no response")
    return None if text == ABSTAINS else text


@cache
def generator(top_k=None, choices=None):
    return RobustRAGGenerator(KeywordReader(respond), "voting", top_k=top_k, choices=choices)


def unless_all_failed(entries, call, *arguments, **options):
    """What the call returns; ``None`` where it raises since no row gave a usable response."""
    try:
        return call(*arguments, **options)
    except ModelFailedError:
        assert {response for _, response in entries} == {FAILS}
        return None


def as_passages(entries):
    return [Passage(text=response, source=source) for source, response in entries]


def relabelled(entries):
    """The same list with sources named by first appearance: what the answer may depend on."""
    names = {}
    return tuple((names.setdefault(source, len(names)), response) for source, response in entries)


@cache
def _observed(entries, top_k):
    passages = as_passages((f"source {s}", r) for s, r in entries)
    result = unless_all_failed(entries, generator(top_k).run, "q", passages)
    if result is None:
        return None, 0
    return (None if result.abstained else result.answer), result.certificate.radius


def observed(entries, top_k):
    """(answer, radius) of a live run over ``entries``."""
    return _observed(relabelled(entries), top_k)


def certified(entries, threat, top_k, gold=None, choices=None):
    certify = generator(top_k, choices).certify
    found = unless_all_failed(entries, certify, "q", as_passages(entries), threat, gold=gold)
    return SimpleNamespace(radius=0, evidence={"tau": 0.0}) if found is None else found


# ----------------------------------------------------------------------------- the brute force


def answer(entries, choices=None):
    """One vote a source, for what its passages agree on; ties go to the best-ranked supporter."""
    said = {}
    for source, response in entries:
        said.setdefault(source, set()).add(response)
    votes = {}
    for responses in said.values():
        given = responses - {ABSTAINS}
        if choices is not None:
            given = {one for one in given if one in choices or one == FAILS}
        if len(given) == 1 and FAILS not in given:
            (vote,) = given
            votes[vote] = votes.get(vote, 0) + 1
    return max(votes, key=votes.get) if votes else None


def failed_sources(entries):
    return {source for source, response in entries if response == FAILS}


def interleavings(first, second):
    """All merges of two rankings that keep the order within each."""
    length = len(first) + len(second)
    for places in itertools.combinations(range(length), len(second)):
        merged, one, two = [], iter(first), iter(second)
        for rank in range(length):
            merged.append(next(two) if rank in places else next(one))
        yield tuple(merged)


def labellings(count, sources, most_each):
    """Which of ``sources`` hostile parties sends each of ``count`` passages."""
    names = [f"hostile {i}" for i in range(sources)]
    for labels in itertools.product(names, repeat=count):
        if all(labels.count(name) <= most_each for name in names):
            yield labels


def injected(entries, budget, top_k, most_each=1):
    """Every list after up to ``budget`` sources injected passages; failed rows are theirs too."""
    failed = failed_sources(entries)
    spare = budget - len(failed)
    if spare < 0:
        return
    hostile_rows = [i for i, (source, _) in enumerate(entries) if source in failed]
    for rewritten in itertools.product(ATTACKS, repeat=len(hostile_rows)):
        before = list(entries)
        for i, response in zip(hostile_rows, rewritten, strict=True):
            before[i] = (entries[i][0], response)
        for count in range(spare * most_each + 1):
            for labels in set(labellings(count, spare, most_each)):
                for responses in itertools.product(ATTACKS, repeat=count):
                    joining = list(zip(labels, responses, strict=True))
                    for merged in interleavings(before, joining):
                        yield merged[:top_k]


def modified(entries, budget, *, any_label=False):
    """Every list after ``budget`` sources (failed ones first) were rewritten, moved or replaced.

    Each slot they held goes to a passage with any answer at any rank, from a source of its own;
    with ``any_label`` also from the hostile source itself or from a clean source in the list.
    """
    failed = failed_sources(entries)
    sources = list(dict.fromkeys(source for source, _ in entries))
    if len(failed) > budget:
        return
    others = [source for source in sources if source not in failed]
    for chosen in itertools.combinations(others, min(budget, len(sources)) - len(failed)):
        hostile = failed.union(chosen)
        kept = [entry for entry in entries if entry[0] not in hostile]
        freed = len(entries) - len(kept)
        fresh = tuple(f"newcomer {i}" for i in range(freed))
        labels = itertools.product((*sources, *fresh), repeat=freed) if any_label else (fresh,)
        for labelling in labels:
            for responses in itertools.product(ATTACKS, repeat=freed):
                yield from interleavings(kept, list(zip(labelling, responses, strict=True)))


def reached(worlds, choices=None):
    return {answer(world, choices) for world in set(worlds)}


def true_budget(entries, worlds_within, limit, choices=None):
    """Largest budget up to ``limit`` within which nothing changes the answer, else 0."""
    best = 0
    for budget in range(max(1, len(failed_sources(entries))), limit + 1):
        if reached(worlds_within(budget), choices) - {answer(entries, choices)}:
            break
        best = budget
    return best


def true_tau(answers, gold):
    """Smallest gold hit over reached answers; the toy answers are single words."""
    return min(float(one in gold) for one in answers)


# ------------------------------------------------------------------------------- the instances


def in_order_of_appearance(responses):
    """Answers are interchangeable, so only lists whose answers appear as a, b, c are needed."""
    letters = [one for one in dict.fromkeys(responses) if one in "abc"]
    return letters == sorted(letters) and set(letters) == set("abc"[: len(letters)])


def source_patterns(size, most_each):
    """Ways to share ``size`` passages among sources."""
    for pattern in itertools.product(range(size), repeat=size):
        first = list(dict.fromkeys(pattern))
        if first == list(range(len(first))) and all(pattern.count(s) <= most_each for s in first):
            yield tuple(f"s{s}" for s in pattern)


def clean_lists(size, symbols="abc-!", most_each=1):
    for pattern in source_patterns(size, most_each):
        for responses in itertools.product(symbols, repeat=size):
            if in_order_of_appearance(responses):
                yield tuple(zip(pattern, responses, strict=True))


# ----------------------------------------------------------------------------------- the tests


def test_own_counting_agrees_with_run():
    for entries in itertools.chain(
        clean_lists(1), clean_lists(2, most_each=2), clean_lists(3, most_each=3)
    ):
        assert observed(entries, len(entries))[0] == answer(entries), entries


@pytest.mark.parametrize(
    "size, top_k, limit",
    [
        (1, 1, 2),
        (2, 2, 3),
        (2, 5, 3),
        (3, 3, 3),
        (3, 4, 3),
        (4, 4, 2),
        (4, 5, 2),
        (4, 9, 2),
        (5, 5, 2),
        (5, 6, 2),
        pytest.param(5, 5, 3, marks=pytest.mark.slow),
        pytest.param(5, 9, 3, marks=pytest.mark.slow),
    ],
)
def test_injection_radius_is_the_true_optimum(size, top_k, limit):
    for entries in clean_lists(size, "abc-"):
        radius = certified(entries, PassageInjection(1), top_k).radius
        best = true_budget(entries, lambda k, e=entries: injected(e, k, top_k), limit)
        assert min(radius, limit) == best, entries


@pytest.mark.parametrize(
    "size, top_k, most_each", [(3, 3, 1), (3, 4, 2), (4, 4, 1), (4, 5, 1), (4, 9, 1), (3, 3, 2)]
)
def test_injection_is_sound_when_rows_failed(size, top_k, most_each):
    """A failed clean row keeps its rank but may answer anything once it does respond."""
    for entries in clean_lists(size, "ab-!", most_each):
        radius = certified(entries, PassageInjection(1), top_k).radius
        best = true_budget(entries, lambda k, e=entries: injected(e, k, top_k), 2)
        assert min(radius, 2) <= best, entries


def test_injection_by_sources_already_in_the_list_is_no_stronger():
    """A listed source may add a passage: it contradicts itself then, or gains a vote."""
    for size, top_k in ((2, 2), (3, 3), (3, 4), (3, 5), (4, 4), (4, 6)):
        for entries in clean_lists(size, "ab-"):
            radius = certified(entries, PassageInjection(1), top_k).radius
            worlds = (
                merged[:top_k]
                for source, _ in entries
                for response in ATTACKS
                for merged in interleavings(entries, [(source, response)])
            )
            assert radius < 1 or reached(worlds) == {answer(entries)}, entries


def test_ejection_uncovers_a_rival():
    """``s0`` says a and b, so it has no vote; ejecting its last passage gives a vote to ``a``."""
    clean = (("s0", "a"), ("s1", "b"), ("s2", "b"), ("s0", "b"))
    after = (("hostile", "a"), *clean[:3])
    assert (answer(clean), answer(after)) == ("b", "a")
    assert certified(clean, PassageInjection(1), 4).radius == 0


@pytest.mark.parametrize(
    "size, top_k, budget, passages_per_source",
    [
        (2, 2, 2, 1),
        (3, 3, 2, 2),
        (3, 4, 2, 2),
        pytest.param(3, 5, 2, 2, marks=pytest.mark.slow),
        (4, 4, 1, 1),
        (4, 4, 1, 2),
        (4, 5, 1, 2),
        (4, 6, 1, 2),
        pytest.param(5, 5, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_injection_with_several_passages_a_source(size, top_k, budget, passages_per_source):
    """Clean sources may hold two passages, of which ejection can take one."""
    for entries in clean_lists(size, "ab-", most_each=2):
        threat = PassageInjection(1, passages_per_source=passages_per_source)
        radius = certified(entries, threat, top_k).radius
        best = true_budget(
            entries, lambda k, e=entries: injected(e, k, top_k, passages_per_source), budget
        )
        assert min(radius, budget) == best, entries


@pytest.mark.parametrize(
    "size, limit",
    [
        (1, 2),
        (2, 3),
        (3, 3),
        (4, 4),
        (5, 2),
        pytest.param(6, 2, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("room", [0, 2])
def test_modification_radius_is_the_true_optimum(size, limit, room):
    for entries in clean_lists(size):
        radius = certified(entries, PassageModification(1), size + room).radius
        best = true_budget(entries, lambda k, e=entries: modified(e, k), limit)
        assert min(radius, limit) == best, entries


@pytest.mark.parametrize(
    "size, symbols, limit",
    [
        (2, "abc-!", 2),
        (3, "abc-!", 2),
        (4, "ab-!", 2),
        pytest.param(5, "ab-", 2, marks=pytest.mark.slow),
    ],
)
def test_modification_with_several_passages_a_source(size, symbols, limit):
    """Removing a source frees all its slots, each for another unknown source: still exact."""
    for entries in clean_lists(size, symbols, most_each=2):
        radius = certified(entries, PassageModification(1), size).radius
        best = true_budget(entries, lambda k, e=entries: modified(e, k), limit)
        assert min(radius, limit) == best, entries


def test_newcomers_from_sources_already_in_the_list_are_no_stronger():
    """A freed slot may also go to another passage of a clean source, which may silence it."""
    for size, most_each, budget in ((2, 2, 2), (3, 1, 2), (3, 2, 1)):
        for entries in clean_lists(size, "ab-", most_each):
            radius = certified(entries, PassageModification(1), size).radius
            best = true_budget(entries, lambda k, e=entries: modified(e, k, any_label=True), budget)
            assert min(radius, budget) == best, entries


@pytest.mark.parametrize("choices", [("a", "b"), ("a", "b", "c")])
def test_closed_choices_are_exact_too(choices):
    for entries in clean_lists(3):
        by_modification = certified(entries, PassageModification(1), 3, choices=choices).radius
        best = true_budget(entries, lambda k, e=entries: modified(e, k), 3, choices)
        assert by_modification == best, entries
        if not failed_sources(entries):
            by_injection = certified(entries, PassageInjection(1), 3, choices=choices).radius
            best = true_budget(entries, lambda k, e=entries: injected(e, k, 3), 3, choices)
            assert by_injection == best, entries


@pytest.mark.parametrize("budget", [1, 2])
@pytest.mark.parametrize("gold", [("a",), ("b",), ("a", "b")])
def test_tau_is_the_smallest_gold_hit_over_reached_answers(budget, gold):
    for entries in itertools.chain(clean_lists(3, "abc-"), clean_lists(3, "ab-", most_each=2)):
        for threat, worlds, top_k in (
            (PassageInjection(budget), injected(entries, budget, 3), 3),
            (PassageInjection(budget), injected(entries, budget, 5), 5),
            (PassageModification(budget), modified(entries, budget), 3),
        ):
            expected = true_tau(reached(worlds) | {answer(entries)}, gold)
            found = certified(entries, threat, top_k, gold).evidence["tau"]
            assert found == expected, (entries, threat)


@pytest.mark.parametrize("gold", [("a",), ("a", "b")])
def test_tau_where_newcomers_may_silence_listed_sources(gold):
    """A newcomer that contradicts the only voter leaves an abstention, which no choice covers."""
    silenced = 0
    for entries in clean_lists(3, "ab-!", most_each=2):
        for choices in (None, ("a", "b")):
            worlds = modified(entries, 1, any_label=True)
            answers = reached(worlds, choices) | {answer(entries, choices)}
            found = certified(entries, PassageModification(1), 3, gold, choices).evidence["tau"]
            assert found <= true_tau(answers, gold), (entries, choices)
            silenced += None in answers and choices is not None and answer(entries) is not None
    assert silenced


@pytest.mark.parametrize("threat", [PassageInjection(1), PassageModification(1)])
def test_tau_when_more_rows_failed_than_the_budget(threat):
    """One rewritten row of three, two of which fail anyway, decides alone: tau must be 0."""
    entries = (("s0", "a"), ("s1", FAILS), ("s2", FAILS))
    assert answer((("s0", "b"), *entries[1:])) == "b"
    assert certified(entries, threat, 3, ("a",)).evidence["tau"] == 0.0


# ------------------------------------------------------------------------------ live outputs


def rewritten_or_replaced(entries, count, short):
    """(list, hostile) after ``count`` sources with one slot each were rewritten or dropped out.

    A slot given up goes to an unknown clean source or, in a ``short`` list, to nobody.
    """
    responses = (*ATTACKS, FAILS)
    for hostile in itertools.combinations(dict.fromkeys(s for s, _ in entries), count):
        kept = [entry for entry in entries if entry[0] not in hostile]
        options = [
            [(source, r) for r in responses]
            + [(f"clean in place of {source}", r) for r in ATTACKS]
            + ([None] if short else [])
            for source in hostile
        ]
        for slots in itertools.product(*options):
            joining = [slot for slot in slots if slot is not None]
            for order in itertools.permutations(joining):
                for merged in interleavings(kept, order):
                    yield merged, set(hostile)


def joined(entries, count, top_k):
    """(list, hostile) after ``count`` hostile sources injected one passage each."""
    names = [f"hostile {i}" for i in range(count)]
    for responses in itertools.product((*ATTACKS, FAILS), repeat=count):
        for merged in interleavings(entries, list(zip(names, responses, strict=True))):
            yield merged[:top_k], set(names)


def attacked(entries, budget, top_k):
    """Every mixture of rewriting, dropping out and injecting by ``budget`` sources in all."""
    distinct = len({source for source, _ in entries})
    for rewriting in range(min(budget, distinct) + 1):
        for between, first in rewritten_or_replaced(entries, rewriting, top_k > len(entries)):
            for after, second in joined(between, budget - rewriting, top_k):
                yield after, first | second


@pytest.mark.parametrize(
    "size, top_k, budget",
    [
        (3, 3, 1),
        (3, 4, 1),
        (4, 4, 1),
        (4, 5, 1),
        (5, 5, 1),
        pytest.param(5, 5, 2, marks=pytest.mark.slow),
        pytest.param(4, 6, 2, marks=pytest.mark.slow),
    ],
)
def test_observed_certificates_recover_the_clean_answer(size, top_k, budget):
    """Issued on the attacked list, with the hostile sources in it: the clean answer is the same."""
    held = 0
    for clean in clean_lists(size, "ab-!" if budget == 1 else "ab-"):
        before = answer(clean)
        for after, hostile in attacked(clean, budget, top_k):
            found, radius = observed(after, top_k)
            if radius >= len(hostile | failed_sources(after)):
                held += 1
                assert found == before, (clean, after)
    assert held


def rewritten_in_its_slots(entries, hostile):
    """Every list in which ``hostile`` rewrote and moved its passages, and kept all its slots."""
    kept = [entry for entry in entries if entry[0] != hostile]
    slots = len(entries) - len(kept)
    for responses in itertools.product((*ATTACKS, FAILS), repeat=slots):
        yield from interleavings(kept, [(hostile, response) for response in responses])


def test_observed_certificates_with_several_passages_a_source():
    for size, top_k in ((2, 2), (3, 3), (4, 4)):
        for clean in clean_lists(size, "ab-", most_each=2):
            sources = dict.fromkeys(source for source, _ in clean)
            worlds = set(
                itertools.chain.from_iterable(
                    rewritten_in_its_slots(clean, source) for source in sources
                )
            )
            for count in (1, 2):
                for responses in itertools.product(ATTACKS, repeat=count):
                    joining = [("hostile", response) for response in responses]
                    worlds.update(merged[:top_k] for merged in interleavings(clean, joining))
            for after in worlds:
                found, radius = observed(after, top_k)
                assert radius < 1 or found == answer(clean), (clean, after)


def test_hostile_source_that_gave_up_a_slot():
    """``s0`` rewrote one of its two passages, and the other so that it is not retrieved any more.

    Certificates are open to this, so they have to state that they assume it does not happen.
    """
    clean = (("s0", "b"), ("s0", "b"), ("s1", "a"))
    after = (("s0", "a"), ("s1", "a"), ("clean in place of s0", "a"))
    assert observed(after, 3) == ("a", 1)
    assert answer(clean) == "b"
    assert_missing_passages_are_excluded(after)


def test_hostile_source_that_left_the_list():
    clean = (("s0", "b"), ("s0", "b"), ("s1", "a"))
    after = (("s1", "a"), ("s2", "a"), ("s3", "a"))
    assert observed(after, 3) == ("a", 1)
    assert answer(clean) == "b"
    assert_missing_passages_are_excluded(after)


def test_hostile_source_that_left_the_list_beside_one_in_it():
    """One of the three is hostile, and another hostile one is missing: radius 1 is not enough."""
    clean = (("s0", "b"), ("s1", "b"), ("s2", "a"))
    after = (("s1", "a"), ("s2", "a"), ("clean in place of s0", "a"))
    assert observed(after, 3) == ("a", 1)
    assert answer(clean) == "b"
    passages = [Passage(response, source) for source, response in after]
    said = generator(3).run("q", passages).certificate.assumptions
    assert any("missing" in sentence and "count" in sentence for sentence in said)


def assert_missing_passages_are_excluded(entries):
    passages = [Passage(response, source) for source, response in entries]
    certificate = generator(3).run("q", passages).certificate
    assert any("no more passages of the clean list" in one for one in certificate.assumptions)


# ------------------------------------------------------------------------- forged document ids
# A hostile passage may carry the id of a clean one, at a better rank: the clean one still counts.


def live(passages, top_k=None):
    result = generator(top_k).run("q", passages)
    return result.answer, result.certificate.radius


def test_injection_with_a_forged_id():
    clean = [Passage("a", "s0", "1"), Passage("a", "s1", "2")]
    radius = generator(10).certify("q", clean, PassageInjection(1)).radius
    after = [Passage("b", "hostile", "1"), *clean]
    assert radius < 1 or live(after, 10)[0] == live(clean, 10)[0]


def test_modification_with_a_forged_id():
    clean = [Passage("a", f"s{i}", str(i)) for i in range(3)]
    radius = generator().certify("q", clean, PassageModification(1)).radius
    after = [Passage("b", "s2", "0"), *clean[:2]]
    assert radius < 1 or live(after)[0] == live(clean)[0]


def test_observed_with_a_forged_id():
    rest = [Passage("a", "s2", "2"), Passage("a", "s3", "3")]
    clean = [Passage("b", "s0", "0"), Passage("b", "s1", "1"), *rest]
    after = [Passage("a", "s0", "1"), Passage("b", "s1", "1"), *rest]
    found, radius = live(after)
    assert radius < 1 or found == live(clean)[0]
