"""Secure decoding on larger random lists, attacked at random and greedily, in three statements.

A generator draws a clean list; certificates are issued for it (pre-attack) and for attacked copies
of it (observed); the same decoding then runs on what the attack leaves. Whatever a certificate
says must be true of every attacked run. `make slow` runs at least 100,000 lists.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from robust_components.rag.certify_decoding import reachable_answers
from robust_components.rag.certify_decoding_path import certify_path
from robust_components.rag.decoding import IsolatedSources, decode
from robust_components.rag.decoding_step import DecodingSettings
from robust_components.rag.scenarios import PassageList
from robust_components.threats import PassageInjection, PassageModification

ETAS = ("0", "0", "0.1", "0.2", "0.35", "0.5", "0.8")


class Benign:
    """A passage: its distribution depends on the prefix, and is drawn once for each."""

    def __init__(self, question, abstention, agreement):
        self.question, self.abstention, self.agreement = question, abstention, agreement
        self.known = {}

    def next_token(self, prefix):
        if prefix not in self.known:
            rng = self.question.rng
            weights = rng.random(self.question.vocabulary) ** 4 + 1e-9
            weights *= (1 - self.agreement) / weights.sum()
            weights[self.question.leader(prefix)] += self.agreement
            self.known[prefix] = weights
        return self.known[prefix]


class Hostile:
    """A passage an attacker wrote. ``crowd`` are the benign passages it competes with."""

    abstention = 0.0

    def __init__(self, question, crowd, greedy):
        self.question, self.crowd, self.greedy = question, crowd, greedy
        self.known = {}

    def next_token(self, prefix):
        if prefix not in self.known:
            self.known[prefix] = self.respond(prefix)
        return self.known[prefix]

    def respond(self, prefix):
        rng, vocabulary = self.question.rng, self.question.vocabulary
        point = np.zeros(vocabulary)
        if not self.greedy:
            kind = rng.random()
            if kind < 0.6:
                point[rng.integers(vocabulary)] = 1
                return point if kind < 0.5 else point * rng.random()
            return rng.dirichlet(np.full(vocabulary, 0.3))
        if self.crowd:
            sums = np.sum([passage.next_token(prefix) for passage in self.crowd], axis=0)
            first, second = np.argsort(sums)[::-1][:2]
            point[second] = 1 if self.greedy == "rival" else min(1, sums[first] - sums[second])
        else:
            point[0] = 1
        return point


@dataclass
class Question:
    """What all passages of one question share; also the token model over them."""

    rng: np.random.Generator
    vocabulary: int
    leaders: dict = field(default_factory=dict)
    fallbacks: dict = field(default_factory=dict)

    def leader(self, prefix):
        if prefix not in self.leaders:
            self.leaders[prefix] = int(self.rng.integers(self.vocabulary))
        return self.leaders[prefix]

    def fallback(self, prefix):
        if prefix not in self.fallbacks:
            same = self.rng.random() < 0.5
            other = int(self.rng.integers(self.vocabulary))
            self.fallbacks[prefix] = self.leader(prefix) if same else other
        return self.fallbacks[prefix]


class Session:
    """A token session over passage objects; the last token ends the answer."""

    def __init__(self, question, passages):
        self.question, self.passages = question, passages
        self.eos = question.vocabulary - 1
        self.abstention = np.array([p.abstention for p in passages], dtype=np.float64)
        self.truncated = [False] * len(passages)
        self.failures = [None] * len(passages)

    def next_probabilities(self, prefix, rows):
        return np.array([self.passages[row].next_token(prefix) for row in rows])

    def no_retrieval_token(self, prefix):
        return self.question.fallback(prefix)

    def token_text(self, token):
        return str(token)

    def text(self, tokens):
        return " ".join(map(str, tokens))

    def close(self):
        """Nothing to release."""


@dataclass(frozen=True)
class Listed:
    """A ranked list: passages with their sources."""

    passages: tuple
    sources: tuple[str, ...]
    top_k: int

    def attacked(self, kept, hostile, names):
        """Hostile passages first, then what is kept of this list."""
        return replace(
            self,
            passages=(*hostile, *(self.passages[i] for i in kept)),
            sources=(*names, *(self.sources[i] for i in kept)),
        )

    def open(self, question, settings):
        listed = PassageList(self.sources, (False,) * len(self.sources), self.top_k)
        return IsolatedSources(Session(question, self.passages), listed, settings)


def draw(rng):
    """A question, a clean list for it, and settings."""
    question = Question(rng, int(rng.integers(3, 9)))
    size = int(rng.integers(2, 11))
    base = rng.choice([0.95, 0.8, 0.5])
    passages = tuple(
        Benign(
            question,
            float(rng.random() < 0.12),
            0.0 if rng.random() < 0.1 else float(min(1, base + 0.05 * rng.random())),
        )
        for _ in range(size)
    )
    several = rng.random() < 0.2
    sources = tuple(f"s{rng.integers(size) if several else i}" for i in range(size))
    top_k = size if rng.random() < 0.8 else size + int(rng.integers(1, 3))
    settings = DecodingSettings(
        gamma="0.9", eta=str(rng.choice(ETAS)), max_tokens=int(rng.integers(1, 5))
    )
    return question, Listed(passages, sources, top_k), settings


def hostile_passages(question, rng, crowd, count):
    """``count`` of them; most share one greedy goal, since that is what overturns answers."""
    goal = str(rng.choice(["rival", "tie", ""]))
    return [Hostile(question, crowd, goal if rng.random() < 0.9 else "") for _ in range(count)]


def crowd_of(listed, kept):
    return [listed.passages[i] for i in kept if listed.passages[i].abstention < 0.5]


def inject(rng, question, listed, budget):
    """Up to ``budget`` new passages on top; the list is cut again."""
    count = int(rng.integers(1, budget + 1)) if rng.random() < 0.2 else budget
    ejected = max(0, len(listed.passages) + count - listed.top_k)
    kept = range(max(0, len(listed.passages) - ejected))
    count = min(count, listed.top_k)
    hostile = hostile_passages(question, rng, crowd_of(listed, kept), count)
    return listed.attacked(kept, hostile, [f"new{i}" for i in range(count)])


def modify(rng, question, listed, budget):
    """Rewrite up to ``budget`` sources: at random, or those closest to the leader at the start."""
    names = list(dict.fromkeys(listed.sources))
    count = min(len(names), budget)
    if rng.random() < 0.5:
        names = [str(name) for name in rng.permutation(names)]
    else:
        leader = question.leader(())
        said = [passage.next_token(())[leader] for passage in listed.passages]
        support = dict(zip(listed.sources, said, strict=True))
        names.sort(key=lambda name: -support[name])
    gone = set(names[:count])
    kept = [i for i, source in enumerate(listed.sources) if source not in gone]
    freed = len(listed.passages) - len(kept)
    freed -= int(rng.integers(0, freed + 1)) if rng.random() < 0.2 else 0
    hostile = hostile_passages(question, rng, crowd_of(listed, kept), freed)
    return listed.attacked(kept, hostile, [f"new{i}" for i in range(freed)])


def search(seed, instances):
    """Run ``instances`` lists; count certificates issued, and attacks that changed an answer."""
    rng = np.random.default_rng(seed)
    counts = {"path": 0, "search": 0, "observed": 0, "changed": 0, "complete": 0}
    for _ in range(instances):
        question, clean, settings = draw(rng)
        budget = int(rng.integers(1, 4))
        attack, threat = (
            (inject, PassageInjection(budget))
            if rng.random() < 0.5
            else (modify, PassageModification(budget))
        )
        sources = clean.open(question, settings)
        decoding = decode(sources)
        path = certify_path(sources, decoding, threat=threat)
        found = reachable_answers(sources, threat=threat, max_branches=16, exhaustive=True)
        counts["path"] += path.radius >= budget
        counts["search"] += found.certified
        counts["complete"] += found.complete
        assert found.certified or path.radius < budget
        if float(settings.eta) == 0:
            assert found.certified == (path.radius >= budget)
        attacked = attack(rng, question, clean, budget)
        observed = attacked.open(question, settings)
        seen = decode(observed)
        counts["changed"] += seen.text != decoding.text
        if found.complete:
            assert seen.text in found.answers
        if found.certified:
            assert seen.text == decoding.text
        single = len(set(clean.sources)) == len(clean.sources)
        if attack is modify and not single:
            continue  # the clean list may hold more passages of a source than the observed budget
        radius = certify_path(observed, seen, threat=PassageModification(1)).radius
        if radius >= budget and (single or float(settings.eta) == 0):
            counts["observed"] += 1
            assert seen.text == decoding.text
    return counts


def test_random_attacks_on_larger_lists():
    counts = search(seed=1, instances=2000)
    assert min(counts["path"], counts["observed"], counts["changed"]) > 200


@pytest.mark.slow
def test_many_random_attacks_on_larger_lists():
    counts = search(seed=2, instances=100_000)
    assert min(counts["path"], counts["observed"], counts["changed"]) > 10_000
