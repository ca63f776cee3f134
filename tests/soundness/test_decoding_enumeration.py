"""Secure decoding attacked by enumeration on toy models, against a brute force written apart.

The brute force below shares no code with the package. It knows Algorithm 2 and the three kinds of
world an attacker can make; it tries *every* response of every hostile source at every prefix, the
responses being all sub-distributions in steps of 1/4 (so: point masses, every fraction in
quarters, and mass withheld). Benign probabilities are quarters too, and source means are kept on
quarters (sources with two passages use halves). Passages that join a listed source, as they may
under modification where a source holds several, are mixed with its own. Where none joins, the
enumeration on that grid is also *tight*: a token wins against all attacks iff it wins against point
masses on it, and the smallest top gap is reached by adding at most the benign gap, a multiple of
1/4, to the runner-up; so an answer that real-valued attackers can reach is reached on the grid,
whatever eta is.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from robust_components.models.testing import TableTokenModel
from robust_components.rag.certify_decoding import reachable_answers
from robust_components.rag.certify_decoding_path import certify_path
from robust_components.rag.decoding import IsolatedSources, decode
from robust_components.rag.decoding_step import DecodingSettings
from robust_components.rag.scenarios import PassageList
from robust_components.threats import PassageInjection, PassageModification

NAMES = ("a", "b", "c")
END = "</s>"
ABSTENTION = "I don't know"
ETAS = ("0", "0.2", "0.5")
PARTS = 4
"""Probabilities are multiples of 1/PARTS."""
UNIT = 12
"""Sums are in units of 1 / (UNIT * PARTS), in which means of up to four rows are whole."""


@dataclass(frozen=True)
class Toy:
    """A question with its passages. Tokens are 0..vocabulary-1, the last one ends the answer.

    ``rows[i]`` is ``None`` when passage i abstains, else it maps each prefix to quarters.
    """

    rows: tuple[dict | None, ...]
    sources: tuple[str, ...]
    fallback: dict
    vocabulary: int
    steps: int
    top_k: int
    eta: str

    @property
    def words(self):
        return NAMES[: self.vocabulary - 1]


# ----------------------------------------------------------------------------- the brute force


def answer_text(toy, tokens):
    return " ".join(toy.words[t] for t in tokens if t < toy.vocabulary - 1) or ABSTENTION


def next_tokens(toy, prefix, sums, count):
    """Algorithm 2's token for each row of ``sums``, with ``count`` sources in J."""
    ordered = np.sort(sums, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    eta = Fraction(toy.eta)
    emits = gap * eta.denominator > count * eta.numerator * UNIT * PARTS
    return np.where(emits, sums.argmax(axis=1), toy.fallback[prefix])


def group_sum(toy, groups, prefix):
    """The sum over sources of the mean over the source's responding passages."""
    total = np.zeros(toy.vocabulary, dtype=np.int64)
    for group in groups:
        for row in group:
            total += UNIT * np.array(row[prefix]) // len(group)
    return total


@cache
def responses(vocabulary):
    """Every sub-distribution in quarters."""
    return [q for q in itertools.product(range(PARTS + 1), repeat=vocabulary) if sum(q) <= PARTS]


@cache
def joint_responses(vocabulary, hostile):
    """Every sum of the responses of ``hostile`` passages, in quarters."""
    sums = {(0,) * vocabulary}
    for _ in range(hostile):
        sums = {
            tuple(x + y for x, y in zip(s, q, strict=True))
            for s in sums
            for q in responses(vocabulary)
        }
    return np.array(sorted(sums), dtype=np.int64).reshape(len(sums), vocabulary)


def all_sums(toy, groups, joined, hostile, prefix):
    """Every sum over sources that ``hostile`` new ones, and ``joined`` more passages of benign
    ones (a number for each group), can bring about.
    """
    sums = UNIT * joint_responses(toy.vocabulary, hostile)
    for group, more in zip(groups, joined, strict=True):
        own = sum(np.array(row[prefix]) for row in group)
        mean = UNIT * (own + joint_responses(toy.vocabulary, more)) // (len(group) + more)
        sums = np.unique((sums[:, None] + mean[None]).reshape(-1, toy.vocabulary), axis=0)
    return sums


def answers_of_world(toy, groups, hostile, joined=None):
    """Token sequences one world can give: ``groups`` are benign, ``hostile`` sources respond."""
    if not groups and not hostile:
        return {None}
    reached = set()
    joined = joined or (0,) * len(groups)

    def extend(prefix):
        sums = all_sums(toy, groups, joined, hostile, prefix)
        for token in map(int, np.unique(next_tokens(toy, prefix, sums, len(groups) + hostile))):
            longer = (*prefix, token)
            if token == toy.vocabulary - 1 or len(longer) == toy.steps:
                reached.add(longer)
            else:
                extend(longer)

    extend(())
    return reached


def grouped(toy, kept):
    """The responding sources among the kept passages, each with its responding passages."""
    groups = {}
    for i in kept:
        if toy.rows[i] is not None:
            groups.setdefault(toy.sources[i], []).append(toy.rows[i])
    return list(groups.values())


def injection_worlds(toy, budget, passages_per_source=1):
    """(kept passages, hostile sources): new passages on top of the list, cut at top_k."""
    for hostile in range(budget + 1):
        for placed in range(hostile, hostile * passages_per_source + 1):
            slots = ["new"] * placed + list(range(len(toy.rows)))
            kept = [slot for slot in slots[: toy.top_k] if slot != "new"]
            yield tuple(kept), min(hostile, toy.top_k)


def modification_worlds(toy, budget):
    """Up to ``budget`` sources rewritten; each slot goes to an unknown source or stays empty."""
    names = sorted(set(toy.sources))
    room = toy.top_k - len(toy.rows)
    for count in range(budget + 1):
        for gone in itertools.combinations(names, min(count, len(names))):
            kept = tuple(i for i, s in enumerate(toy.sources) if s not in gone)
            freed = len(toy.rows) - len(kept)
            yield kept, freed + min(budget - len(gone), room)


def reached_answers(toy, worlds):
    """All token sequences (``None``: abstention) that some attack in some world gives."""
    found = set()
    for kept, most in set(worlds):
        for hostile in range(most + 1):
            found |= answers_of_world(toy, grouped(toy, kept), hostile)
    return found


def reached_when_joined(toy, worlds):
    """The same where the slots may also go to more passages of the sources that stay."""
    found = set()
    for kept, most in set(worlds):
        groups = grouped(toy, kept)
        for joined in itertools.product(range(most + 1), repeat=len(groups)):
            for hostile in range(most - sum(joined) + 1):
                found |= answers_of_world(toy, groups, hostile, joined)
    return found


def chunked(toy):
    return len(set(toy.sources)) < len(toy.sources)


def clean_answer(toy):
    (tokens,) = answers_of_world(toy, grouped(toy, range(len(toy.rows))), 0)
    return tokens


def texts(toy, sequences):
    return {ABSTENTION if s is None else answer_text(toy, s) for s in sequences}


# ------------------------------------------------------------------------ the package under test


def as_sources(toy, gamma="0.5"):
    """The toy as the package sees it, through the public test double."""
    names = (*toy.words, END)
    table = {
        (f"p{i}", tuple(names[t] for t in prefix)): {
            names[t]: amount / PARTS for t, amount in enumerate(quarters)
        }
        for i, row in enumerate(toy.rows)
        if row is not None
        for prefix, quarters in row.items()
    }
    model = TableTokenModel(
        table,
        eos=END,
        abstain={f"p{i}": 1.0 for i, row in enumerate(toy.rows) if row is None},
        no_retrieval={
            tuple(names[t] for t in prefix): names[t_nor] for prefix, t_nor in toy.fallback.items()
        },
    )
    session = model.open("q", [f"p{i}" for i in range(len(toy.rows))])
    passages = PassageList(toy.sources, (False,) * len(toy.rows), toy.top_k)
    settings = DecodingSettings(
        gamma=gamma, eta=toy.eta, max_tokens=toy.steps, numerical_margin="0"
    )
    return IsolatedSources(session, passages, settings)


def check(toy, threat, worlds):
    """Compare the certificates with everything that enumeration reaches; return what was seen."""
    joins = chunked(toy) and isinstance(threat, PassageModification)
    sequences = reached_when_joined(toy, worlds) if joins else reached_answers(toy, worlds)
    reached = texts(toy, sequences)
    clean = clean_answer(toy)
    sources = as_sources(toy)
    decoding = decode(sources)
    assert texts(toy, {clean}) == {decoding.text}
    full = reachable_answers(sources, threat=threat, exhaustive=True, max_branches=1000)
    quick = reachable_answers(sources, threat=threat, max_branches=1000)
    assert decoding.text in full.answers
    if joins:  # a source with one more passage is taken to respond arbitrarily: not exact
        assert full.certified == quick.certified <= (len(reached) == 1)
        assert not full.complete or reached <= set(full.answers)
        path = certify_path(sources, decoding, threat=threat)
        assert path.radius < threat.budget or sequences == {clean}
        return full.complete, full.certified, path.radius >= threat.budget
    assert full.certified == quick.certified == (len(reached) == 1)
    assert set(quick.answers) <= reached
    if full.complete:
        assert set(full.answers) == reached
    else:
        assert "every token" in full.reason and len(reached) > 1
        assert set(full.answers) <= reached
    path = certify_path(sources, decoding, threat=threat)
    fixed = sequences == {clean}
    if Fraction(toy.eta) == 0:
        assert (path.radius >= threat.budget) == fixed
    elif path.radius >= threat.budget:
        assert fixed
    return full.complete, full.certified, path.radius >= threat.budget


# ----------------------------------------------------------------------------- toys to attack


def all_prefixes(vocabulary, steps):
    return [
        prefix
        for length in range(steps)
        for prefix in itertools.product(range(vocabulary - 1), repeat=length)
    ]


def random_row(rng, vocabulary, prefixes, leader, halves=False):
    """Quarters at each prefix: mostly near one leading token, so that some answers are robust."""
    row = {}
    step = 2 if halves else 1
    for prefix in prefixes:
        amounts = [0] * vocabulary
        left = PARTS if rng.random() < 0.9 else rng.randrange(0, PARTS, 2)
        while left > 0:
            token = leader[prefix] if rng.random() < 0.75 else rng.randrange(vocabulary)
            amounts[token] += step
            left -= step
        row[prefix] = tuple(amounts)
    return row


def random_toy(rng, *, multi=False):
    vocabulary, steps = rng.choice([(2, 2), (3, 2), (3, 3), (4, 2), (4, 3)])
    prefixes = all_prefixes(vocabulary, steps)
    leader = {prefix: rng.randrange(vocabulary) for prefix in prefixes}
    size = rng.randint(1, 5)
    sources = tuple(f"s{i}" for i in range(size))
    if multi:
        sources = tuple(f"s{rng.randrange(max(2, size - 1))}" for _ in range(size))
        while max(map(sources.count, sources)) > 2:
            sources = tuple(f"s{rng.randrange(max(2, size - 1))}" for _ in range(size))
    rows = tuple(
        None if rng.random() < 0.15 else random_row(rng, vocabulary, prefixes, leader, halves=multi)
        for _ in range(size)
    )
    fallback = {
        prefix: leader[prefix] if rng.random() < 0.5 else rng.randrange(vocabulary)
        for prefix in prefixes
    }
    top_k = size if rng.random() < 0.8 else rng.randint(size, 5)
    return Toy(rows, sources, fallback, vocabulary, steps, top_k, rng.choice(ETAS))


def summary(outcomes):
    """How many runs were complete, certified, and certified without search."""
    return [sum(kind) for kind in zip(*outcomes, strict=True)]


def attacked_worlds(toy, statement, budget, each=1):
    if statement == "injection":
        return PassageInjection(budget, each), injection_worlds(toy, budget, each)
    return PassageModification(budget), modification_worlds(toy, budget)


STATEMENTS = pytest.mark.parametrize("statement", ["injection", "modification"])


@STATEMENTS
def test_every_attack_on_random_models(statement):
    """Up to 5 passages, k' <= 2, 3 tokens: certified means unique, and the answer sets agree."""
    rng = random.Random(20240711)
    outcomes = []
    for _ in range(2500):
        toy = random_toy(rng)
        outcomes.append(check(toy, *attacked_worlds(toy, statement, rng.choice([1, 1, 2]))))
    complete, certified, without_search = summary(outcomes)
    assert complete > certified >= without_search > 500


@STATEMENTS
def test_every_attack_on_sources_with_two_passages(statement):
    """Injection exactly; under modification a freed slot may go to a source that stays as well."""
    rng = random.Random(7)
    outcomes = []
    for _ in range(1000 if statement == "injection" else 400):
        toy, budget, each = random_toy(rng, multi=True), rng.choice([1, 1, 2]), rng.choice([1, 2])
        if statement == "modification" and chunked(toy):
            budget = 1
        outcomes.append(check(toy, *attacked_worlds(toy, statement, budget, each)))
    complete, certified, _ = summary(outcomes)
    assert complete >= certified > 20


def test_every_attack_on_every_one_token_model():
    """All lists of up to three passages over two tokens in halves, all thresholds, T = 1."""
    options = [None, *({(): q} for q in [(4, 0), (2, 2), (0, 4), (2, 0), (0, 2), (0, 0)])]
    count = certified = 0
    for size in (1, 2, 3):
        for rows in itertools.product(options, repeat=size):
            for eta, t_nor in itertools.product(ETAS, (0, 1)):
                names = tuple(f"s{i}" for i in range(size))
                toy = Toy(rows, names, {(): t_nor}, 2, 1, size, eta)
                inject = check(toy, *attacked_worlds(toy, "injection", 1))
                modify = check(toy, *attacked_worlds(toy, "modification", 1))
                count, certified = count + 1, certified + inject[1] + modify[1]
    assert count == 2394 and certified > 300


@STATEMENTS
def test_every_strategy_through_the_package(statement):
    """One hostile source, every map from prefixes to quarters, decoded by the package itself.

    Shows that following every token at every prefix, as the brute force does, is the same as
    trying every attacker.
    """
    rng = random.Random(3)
    different = 0
    for _ in range(3):
        toy = replace(random_toy(rng), vocabulary=2, steps=3, eta=rng.choice(ETAS))
        prefixes = all_prefixes(2, 3)
        leader = dict.fromkeys(prefixes, rng.randrange(2))
        rows = tuple(random_row(rng, 2, prefixes, leader) for _ in range(3))
        toy = replace(toy, rows=rows, sources=("s0", "s1", "s2"), top_k=3)
        toy = replace(toy, fallback={prefix: rng.randrange(2) for prefix in prefixes})
        threat, worlds = attacked_worlds(toy, statement, 1)
        worlds = set(worlds)
        reached = {decode(as_sources(with_rows(toy, kept, []))).text for kept, _ in worlds}
        for amounts in itertools.product(responses(2), repeat=len(prefixes)):
            hostile = dict(zip(prefixes, amounts, strict=True))
            for kept, most in worlds:
                if most:
                    reached.add(decode(as_sources(with_rows(toy, kept, [hostile]))).text)
        assert reached == texts(toy, reached_answers(toy, worlds))
        found = reachable_answers(as_sources(toy), threat=threat, exhaustive=True)
        assert not found.complete or set(found.answers) == reached
        different += len(reached) > 1
    assert different > 0


def with_rows(toy, kept, hostile):
    """The list as the attack leaves it: hostile rows first."""
    rows = (*hostile, *(toy.rows[i] for i in kept))
    names = tuple(f"hostile{i}" for i in range(len(hostile)))
    return replace(
        toy, rows=rows, sources=(*names, *(toy.sources[i] for i in kept)), top_k=max(1, len(rows))
    )
