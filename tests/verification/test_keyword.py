"""The arithmetic of keyword certificates: honest ones pass, forged and malformed ones do not."""

import itertools
import random
import time
from fractions import Fraction

import pytest

from robust_components.certificate import Certificate
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.rag.scenarios import PassageList
from robust_components.rag.wording import assumptions
from robust_components.threats import PassageInjection, PassageModification
from robust_components.verification import problems

NO_WORD = "_"


class Words:
    """Keywords of a response are its words, ``_`` excepted."""

    def extract(self, text):
        return frozenset(text.split()) - {NO_WORD}


class Reader(KeywordReader):
    """Marks a final call, since it goes to the same function as the passages."""

    def combine(self, query, keywords):
        return super().combine(query, ["FINAL", *keywords])


def model(combine):
    """Passages say their own text; the final call answers ``combine(keywords)``."""

    def respond(query, text):
        if text == "FAILS":
            raise ConnectionError("no response")
        if text == "ABSTAINS":
            return None
        first, *keywords = text.split(", ")
        return combine(keywords) if first == "FINAL" else text

    return Reader(respond)


def combines(draw):
    """Ways to answer from keywords: always, by one word, at random, and with failures."""
    salt = draw.random()

    def at_random(keywords):
        again = random.Random(f"{salt}{keywords}")
        if again.random() < 0.05:
            raise TimeoutError("no answer\nin time")
        return again.choices(["yes", "Yes!", "no", None], [12, 5, 1, 1])[0]

    return draw.choice(
        [lambda keywords: "yes", lambda keywords: "yes" if "a" in keywords else "no", at_random]
    )


def certify(entries, threat, combine=lambda keywords: "yes", *, top_k=None, gold=None, **options):
    """A certificate for (source, text) pairs."""
    settings = {"alpha": "0.3", "beta": "3", "keyword_extractor": Words(), **options}
    generator = RobustRAGGenerator(model(combine), "keyword", top_k=top_k, **settings)
    passages = [Passage(text, source=source) for source, text in entries]
    return generator.certify("q", passages, threat, gold=gold).to_dict()


def said(*texts):
    """Each text is the response to one source."""
    return [(f"s{i}", text) for i, text in enumerate(texts)]


@pytest.mark.parametrize("seed", range(10))
def test_honest_certificates_verify(seed, honest):
    draw = random.Random(seed)
    for _ in range(30):
        words = "abcde"[: draw.randint(1, 5)]

        def response(words=words):
            chosen = [word for word in words if draw.random() < (0.8 if word == "a" else 0.4)]
            return " ".join(chosen) or NO_WORD

        options = {
            "aggregation": "keyword",
            "keyword_extractor": Words(),
            "alpha": draw.choice(["0.3", "0.5", "1", "0.14", 0.7]),
            "beta": draw.choice([1, 2, 3, "2.5", 100]),
            "max_optional_keywords": draw.choice([12, 12, 2, 0]),
            "max_final_calls": draw.choice([256, 256, 3]),
        }
        passages = honest.random_passages(draw, response)
        for certificate in honest.certificates(model(combines(draw)), passages, draw, **options):
            assert certificate.problems() == [], certificate.to_json()


ENTRIES = said("a b", "a b", "a c", "a", "a", "a", "a d", "a")


@pytest.mark.parametrize(
    "threat", [PassageModification(2), PassageInjection(2), PassageInjection(1, 2)], ids=str
)
def test_every_changed_number_is_noticed(threat, forge):
    data = certify([*ENTRIES, ("s8", "ABSTAINS")], threat, gold=["yes"])
    assert data["radius"] >= 2 and problems(data) == []
    changed = list(forge.changed_numbers(data))
    assert len(changed) > 40
    for path, other in changed:
        assert problems(other), path
        if path[0] == "radius" or path[:2] in (("evidence", "kept"), ("evidence", "tau")):
            assert problems(forge.reseal(other)), path


CLAIM = "Whatever the passages of up to {} sources of this clean list are rewritten to, {} stays."
FORGERIES = {
    "larger radius": {"radius": 3},
    "smaller radius": {"radius": 1},
    "larger radius, claim adapted": {"radius": 3, "claim": CLAIM.format(3, "the answer 'yes'")},
    "claim of a larger radius": {"claim": CLAIM.format(3, "the answer 'yes'")},
    "claim of another answer": {"claim": CLAIM.format(2, "the answer 'no'")},
    "claim of an abstention": {"claim": CLAIM.format(2, "the abstention")},
    "other statement": {"statement": "observed"},
    "larger budget": {"threat": {"kind": "passage_modification", "budget": 3, "scope": "sources"}},
    "not certified": {"certified": False},
    "not certified, for a reason": {"certified": False, "reason": "because"},
    "a reason too many": {"reason": "because"},
    "another method": {"method": "voting"},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_consistent_forgeries_fail(name, forge):
    data = certify(ENTRIES, PassageModification(2))
    assert data["radius"] == 2 and problems(data) == []
    assert problems(forge.reseal({**data, **FORGERIES[name]}))


def test_every_reachable_set_must_give_the_answer(forge):
    data = certify(ENTRIES, PassageModification(2))
    sets = data["evidence"]["same_answer"]
    assert len(sets) > 2
    for number in range(len(sets)):
        fewer = sets[:number] + sets[number + 1 :]
        assert problems(forge.reseal(forge.changed(data, ("evidence", "same_answer"), fewer)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("evidence", "answer"), "no"),
        (("evidence", "answer"), None),
        (("evidence", "kept"), None),
        (("evidence", "kept"), []),
        (("evidence", "keywords"), ["a", "b", "c"]),
        (("evidence", "passages"), [[0, [0], 0]]),
        (("parameters", "alpha"), "1/20"),
        (("parameters", "alpha"), "3/1"),
        (("parameters", "alpha"), 0.3),
        (("parameters", "beta"), "1/2"),
        (("parameters", "beta"), "1/0"),
        (("parameters", "beta"), "2"),
        (("parameters", "max_optional_keywords"), 1),
    ],
)
def test_changed_evidence_fails(path, value, forge):
    data = certify(ENTRIES, PassageModification(2))
    assert problems(forge.reseal(forge.changed(data, path, value)))


def test_an_empty_keyword_set_gives_no_answer(forge):
    data = certify(said("a", "a", "b"), PassageModification(1))
    assert data["radius"] == 0
    for empty in (None, []):
        sets = [*data["evidence"]["same_answer"], empty]
        assert problems(forge.reseal(forge.changed(data, ("evidence", "same_answer"), sets)))


def test_a_failed_final_call_proves_nothing():
    def fails(keywords):
        raise TimeoutError

    data = certify(said(*"aaaaaa"), PassageModification(1), fails)
    assert data["radius"] == 0 and problems(data) == []


def test_a_search_cut_short_verifies_with_its_smaller_radius():
    """34,220 choices of 3 hostile sources out of 60 are more than the component looks at."""
    data = certify(said(*"a" * 60), PassageModification(3), alpha="0.3", beta=100)
    assert data["radius"] == 2 and "more than 20000 choices" in data["reason"]
    assert problems(data) == []


def test_there_is_a_reason_when_the_budget_is_larger_than_any_examined():
    data = certify(said("a", "b"), PassageInjection(5), alpha=1, beta=100, top_k=50)
    assert data["radius"] == 3 and problems(data) == []


@pytest.mark.parametrize("statement", ["observed", "pre_attack"])
def test_malformed_evidence_is_a_problem_not_a_traceback(statement, forge):
    data = certify(said("a b", "a", "a", "ABSTAINS", "FAILS"), PassageModification(1), gold=["yes"])
    data["statement"] = statement
    others = list(forge.malformed(data))
    assert len(others) > 500
    for other in others:
        found = problems(other)
        assert isinstance(found, list) and all(isinstance(one, str) for one in found)
        assert not any("cannot be read" in one for one in found), (found, other)


def large(keywords_of, sources, keywords, same_answer, **parameters):
    """A certificate with evidence of any size, made by hand."""
    threat = parameters.pop("threat", PassageModification(1))
    radius = parameters.pop("radius", 1)
    names = [f"s{i}" for i in range(sources)]
    listed = PassageList(tuple(names), (False,) * sources, parameters.get("top_k", sources))
    evidence = {
        "inputs": {"query": "0" * 64, "passages": ["0" * 64] * sources, "sources": names},
        "sources": names,
        "keywords": [f"w{i}" for i in range(keywords)],
        "passages": [[i, keywords_of(i), 0] for i in range(sources)],
        "kept": [0],
        "answer": "yes",
        "same_answer": same_answer,
    }
    settings = {"alpha": "3/10", "beta": "3", "max_optional_keywords": 12, "top_k": sources}
    return Certificate(
        claim=CLAIM.format(radius, "the answer 'yes'").replace("1 sources", "1 source"),
        certified=True,
        guarantee="deterministic",
        threat=threat.to_dict(),
        statement="pre_attack",
        radius=radius,
        method="keyword",
        parameters={**settings, **parameters},
        evidence=evidence,
        assumptions=assumptions(listed, threat, "pre_attack", "keyword", {}),
    ).to_dict()


@pytest.mark.parametrize(
    "data",
    [
        large(lambda i: sorted({0, i}), 1000, 1000, [[0]], beta="400"),
        large(lambda i: list(range(i % 2, 20000, i + 2)), 300, 20000, [[0]], beta="90", alpha="1"),
        large(lambda i: sorted({0, i}), 1000, 1000, [[0]], threat=PassageInjection(1), beta="400"),
        large(lambda i: [0], 1000, 20001, [[0]]),
        large(lambda i: [0], 1000, 1, [[0]] * 100_001),
        large(lambda i: list(range(50)), 9, 50, [[0]], max_optional_keywords=10**9, alpha="1"),
        large(lambda i: [0], 10, 1, [[0]], radius=3, top_k=10**9),
    ],
    ids=["sources", "patterns", "injection", "keywords", "sets", "optional", "room"],
)
def test_large_evidence_is_refused_in_bounded_time(data):
    began = time.process_time()
    assert problems(data)
    assert time.process_time() - began < 20


def test_a_long_list_of_agreeing_sources_is_checked():
    assert problems(large(lambda i: [0], 1000, 1, [[0]], radius=2)) == []
    assert problems(large(lambda i: [0], 1000, 1, [[0]], radius=3))


# ------------------------------------------------------- the verifier against every attack


def kept_set(entries, alpha, beta):
    """Keywords that enough of the (source, words) pairs give, ``None`` if nobody responds."""
    given, voices = {}, []
    for source, words in entries:
        if words is not None:
            given.setdefault(source, []).append(set(words))
    for sets in given.values():
        shared = set.intersection(*sets)
        if shared or len(sets) == 1:
            voices.append(shared)
    if not voices:
        return None
    counts = {word: sum(word in voice for voice in voices) for word in set().union(*voices)}
    share = Fraction(alpha) * len(voices)
    return frozenset(word for word, count in counts.items() if count >= share or count >= beta)


HOSTILE = (None, "", "a", "b", "ab", "n", "abn")
"""What a hostile source may respond; ``n`` is a keyword nobody else gives."""


def attacked_lists(entries, budget, each, top_k):
    """Every list of (source, words) that injection (``each`` > 0) or modification leads to."""
    if each:
        for injected in range(budget * each + 1):
            survivors = entries[: max(0, min(len(entries), top_k - injected))]
            most = min(budget, injected)
            for words in itertools.combinations_with_replacement(HOSTILE, most):
                yield [*enumerate(words), *survivors]
        return
    sources = sorted({source for source, _ in entries})
    for size in range(min(budget, len(sources)) + 1):
        for gone in itertools.combinations(sources, size):
            honest = [entry for entry in entries if entry[0] not in gone]
            freed = len(entries) - len(honest) + min(budget - size, top_k - len(entries))
            for words in itertools.combinations_with_replacement(HOSTILE, freed):
                yield [*enumerate(words), *honest]


@pytest.mark.parametrize("each", [0, 1, 2], ids=["modification", "injection", "injection of 2"])
@pytest.mark.parametrize(("alpha", "beta"), [("0.3", 3), ("0.5", 2), ("1", 9)])
def test_the_radius_is_the_one_enumeration_gives(each, alpha, beta):
    draw = random.Random(f"{each} {alpha}")
    threat = PassageInjection(1, each) if each else PassageModification(1)
    for _ in range(20):
        size = draw.randint(2, 5)
        sources = draw.choices("vwxyz", k=size) if draw.random() < 0.4 else "vwxyz"[:size]
        entries = [(source, draw.choice(["a", "a", "ab", "", None])) for source in sources]
        top_k = size + draw.choice([0, 0, 1])
        needs = draw.choice([{"a"}, {"a"}, set()])

        def answer(keywords, needs=needs):
            return "yes" if needs <= set(keywords) else "no"

        def final(words, answer=answer):
            return answer(words) if words else None

        texts = {None: "ABSTAINS", "": NO_WORD}
        data = certify(
            [(source, texts.get(words, " ".join(words or ""))) for source, words in entries],
            threat,
            answer,
            alpha=alpha,
            beta=beta,
            top_k=top_k,
        )
        assert problems(data) == []
        safe = 0
        for budget in (1, 2):
            reached = {
                kept_set(attacked, alpha, beta)
                for attacked in attacked_lists(entries, budget, each, top_k)
            }
            anything = any("n" in (words or ()) for words in reached)
            if anything or {final(words) for words in reached} != {
                final(kept_set(entries, alpha, beta))
            }:
                break
            safe = budget
        assert min(data["radius"], 2) == safe, (entries, top_k, needs)
