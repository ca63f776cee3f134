"""The arithmetic of voting certificates: honest ones pass, forged and malformed ones do not."""

import itertools
import random
import time

import pytest

from robust_components.certificate import Certificate
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.rag.scenarios import PassageList
from robust_components.rag.wording import assumptions
from robust_components.threats import PassageInjection, PassageModification
from robust_components.verification import problems
from robust_components.verification.voting import problems as voting_problems


def respond(query, text):
    if text == "FAILS":
        raise ConnectionError("no response")
    return None if text == "ABSTAINS" else text


def certify(entries, threat, *, top_k=None, gold=None, choices=None):
    generator = RobustRAGGenerator(KeywordReader(respond), top_k=top_k, choices=choices)
    passages = [Passage(text, source=source) for source, text in entries]
    return generator.certify("q", passages, threat, gold=gold).to_dict()


def entries_of(text):
    """One source for each letter; ``-`` abstains, ``!`` fails."""
    said = {"-": "ABSTAINS", "!": "FAILS"}
    return [(f"s{i}", said.get(letter, letter)) for i, letter in enumerate(text)]


@pytest.mark.parametrize("seed", range(10))
def test_honest_certificates_verify(seed, honest):
    draw, model = random.Random(seed), KeywordReader(respond)
    for _ in range(50):
        words = draw.choices(["a", "b", "the C", "A.", "1,000"], [6, 2, 1, 1, 1], k=3)
        passages = honest.random_passages(draw, lambda words=words: draw.choice(words))
        choices = draw.choice([None, None, ["a", "b", "c", "d"]])
        for certificate in honest.certificates(model, passages, draw, choices=choices):
            assert certificate.problems() == [], certificate.to_json()


@pytest.mark.parametrize(
    "threat", [PassageModification(2), PassageInjection(2), PassageInjection(1, 2)], ids=str
)
def test_every_changed_number_is_noticed(threat, forge):
    data = certify(entries_of("aaaaaab-!"), threat, gold=["a"])
    assert problems(data) == []
    changed = list(forge.changed_numbers(data))
    assert len(changed) > 30
    for path, other in changed:
        assert problems(other), path
        claimed = path[0] == "radius" or path[:2] in (
            ("evidence", "votes"),
            ("evidence", "honest_support"),
            ("evidence", "tau"),
        )
        if claimed:
            assert problems(forge.reseal(other)), path


FORGERIES = {
    "larger radius": {"radius": 3},
    "smaller radius": {"radius": 1},
    "larger radius, claim adapted": {
        "radius": 3,
        "claim": "Whatever the passages of up to 3 sources of this clean list are rewritten to, "
        "the answer 'a' stays.",
    },
    "claim of a larger radius": {
        "claim": "Whatever the passages of up to 3 sources of this clean list are rewritten to, "
        "the answer 'a' stays."
    },
    "claim without a number": {"claim": "Nothing can ever change the answer 'a'."},
    "claim of another answer": {
        "claim": "Whatever the passages of up to 2 sources of this clean list are rewritten to, "
        "the answer 'b' stays."
    },
    "claim of the other statement": {
        "claim": "The answer 'a' is what the clean passages would have given, if at most 2 of "
        "these 6 sources are hostile."
    },
    "other statement": {"statement": "observed"},
    "other threat": {
        "threat": {
            "kind": "passage_injection",
            "budget": 2,
            "scope": "sources",
            "passages_per_source": 1,
        }
    },
    "observed injection": {
        "statement": "observed",
        "threat": {
            "kind": "passage_injection",
            "budget": 2,
            "scope": "sources",
            "passages_per_source": 1,
        },
    },
    "words instead of sources": {
        "threat": {"kind": "word_edits", "budget": 2, "scope": "words", "operations": "any"}
    },
    "larger budget": {"threat": {"kind": "passage_modification", "budget": 3, "scope": "sources"}},
    "not certified": {"certified": False},
    "not certified, for a reason": {"certified": False, "reason": "because"},
    "a reason too many": {"reason": "because"},
    "another guarantee": {"guarantee": "empirical"},
    "a confidence too many": {"confidence": 0.999},
    "another format": {"version": "2"},
    "another method": {"method": "keyword"},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_consistent_forgeries_fail(name, forge):
    data = certify(entries_of("aaaaaa"), PassageModification(2))
    assert data["radius"] == 2 and problems(data) == []
    assert problems(forge.reseal({**data, **FORGERIES[name]}))


def withheld(entries):
    robust = RobustRAGGenerator(KeywordReader(respond), on_uncertified="abstain", corruption_size=3)
    return robust.run("q", [text for _, text in entries]).certificate.to_dict()


def test_only_answers_that_are_not_certified_are_withheld(forge):
    data = withheld(entries_of("aaaab"))
    assert data["radius"] == 1 and data["evidence"]["withheld"] is True and problems(data) == []
    evidence = data["evidence"]
    plain = data["claim"].replace("withheld answer", "answer")
    assert problems(forge.reseal({**data, "claim": plain}))
    for other in (False, None, 1, "true"):
        assert problems(forge.reseal({**data, "evidence": {**evidence, "withheld": other}}))
    given = certify(entries_of("aaaaaa"), PassageModification(2))
    claimed = given["claim"].replace("the answer", "the withheld answer")
    forged = {**given, "claim": claimed, "evidence": {**given["evidence"], "withheld": True}}
    assert any("nothing to withhold" in one for one in problems(forge.reseal(forged)))
    silent = withheld(entries_of("--"))
    assert "withheld" not in silent["evidence"] and problems(silent) == []
    more = {**silent, "evidence": {**silent["evidence"], "withheld": True}}
    assert any("nothing to withhold" in one for one in problems(forge.reseal(more)))


def test_an_uncertified_certificate_cannot_be_flipped(forge):
    data = certify(entries_of("aaabb"), PassageModification(1))
    assert data["radius"] == 0 and problems(data) == []
    assert problems(forge.reseal({**data, "certified": True, "reason": None}))
    assert problems(forge.reseal({**data, "certified": True, "reason": None, "radius": 1}))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("answer", "b"),
        ("answer", None),
        ("votes", {"a": 9}),
        ("votes", {"a": True}),
        ("honest_support", 6),
        ("sources", ["s0", "s1", "s2", "s3", "s4", "s5", "nobody"]),
        ("passages", [[0, "a", 0]]),
        ("passages", [[0, "a", 0], [0, "a", 0], *([i, "a", 0] for i in range(1, 6))]),
    ],
)
def test_changed_evidence_fails(where, value, forge):
    data = certify(entries_of("aaaaaa"), PassageModification(2))
    assert problems(forge.reseal(forge.changed(data, ("evidence", where), value)))


def test_tau_is_held_against_the_answer(forge):
    for gold, tau in ((["a"], 1.0), (["b"], 0.0)):
        data = certify(entries_of("aaaaaa"), PassageModification(2), gold=gold)
        assert data["evidence"]["tau"] == tau and problems(data) == []
        for other in (1.0 - tau, 0.5, True, None):
            assert problems(forge.reseal(forge.changed(data, ("evidence", "tau"), other)))


@pytest.mark.parametrize("statement", ["observed", "pre_attack"])
def test_malformed_evidence_is_a_problem_not_a_traceback(statement, forge):
    data = certify(entries_of("aaab!"), PassageInjection(1, 2), gold=["a"], choices=["a", "b"])
    data["statement"] = statement
    others = list(forge.malformed(data))
    assert len(others) > 500
    for other in others:
        found = problems(other)
        assert isinstance(found, list) and all(isinstance(one, str) for one in found)
        assert not any("cannot be read" in one for one in found), (found, other)


def large(answers, radius, threat=None, **other):
    """A certificate as the component would give it, made by hand for the sake of time."""
    threat = threat or PassageModification(2)
    votes = {answer: answers.count(answer) for answer in sorted(set(answers))}
    names = [f"s{i}" for i in range(len(answers))]
    listed = PassageList(tuple(names), (False,) * len(names), len(names))
    values = {
        "claim": f"Whatever the passages of up to {radius} sources of this clean list are "
        "rewritten to, the answer 'a' stays.",
        "certified": True,
        "guarantee": "deterministic",
        "threat": threat.to_dict(),
        "statement": "pre_attack",
        "radius": radius,
        "method": "voting",
        "parameters": {"top_k": len(answers)},
        "evidence": {
            "inputs": {"query": "0" * 64, "passages": ["0" * 64] * len(names), "sources": names},
            "sources": names,
            "passages": [[i, answer, 0] for i, answer in enumerate(answers)],
            "answer": "a",
            "votes": votes,
            "honest_support": votes["a"] - radius,
        },
        "assumptions": assumptions(listed, threat, "pre_attack", "voting", {}),
    }
    return Certificate(**{**values, **other}).to_dict()


def test_large_evidence_is_checked_or_refused_in_bounded_time():
    began = time.process_time()
    assert problems(large("a" * 700 + "b" * 300, 199)) == []
    assert problems(large("a" * 700 + "b" * 300, 200))
    claim = "Whatever passages of up to 333 sources are injected into this clean list, the answer "
    injection = {
        "claim": f"{claim}'a' stays.",
        "threat": PassageInjection(2, 2),
    }
    assert problems(large("a" * 1000, 333, **injection)) == []
    rivals = "".join(chr(ord("b") + i) * i for i in range(40))
    assert any("too large" in one for one in problems(large("a" * 220 + rivals, 3)))
    assert any("at most 1000" in one for one in problems(large("a" * 1001, 3)))
    assert problems(large("a" * 1000, 333, parameters={"top_k": 10**9}))
    assert problems(large("a" * 1000, 333, parameters={"top_k": 10**12}))
    assert time.process_time() - began < 20


def test_ejection_can_bring_out_a_vote_that_no_source_gave_before():
    entries = [("x", "a"), ("y", "a"), ("z", "b"), ("z", "a")]
    data = certify(entries, PassageInjection(1))
    assert problems(data) == []
    assert data["radius"] == 0, "a passage saying b in front ejects the last: b wins two to two"


def test_leading_articles_are_left_out():
    data = certify(
        [(f"s{i}", "The A Team") for i in range(5)], PassageModification(1), gold=["A Team"]
    )
    assert data["evidence"]["answer"] == "team" and problems(data) == []
    data = certify(
        [(f"s{i}", "The A Team") for i in range(5)], PassageModification(1), gold=["The A Team"]
    )
    assert data["evidence"]["tau"] == 1.0 and problems(data) == []


def test_every_spelling_of_an_answer_is_found_in_its_claim():
    spellings = ["A", "a.", "the a", "a's", 'say "a"', 'it\'s "a"\n', "\\a", "a\x00\u2028", "½ a"]
    for answer in spellings:
        data = certify([(f"s{i}", answer) for i in range(5)], PassageModification(1))
        assert problems(data) == [], answer


def test_the_choices_close_the_set_of_answers(forge):
    data = certify(entries_of("aab-"), PassageInjection(1), choices=["a", "b"])
    assert problems(data) == []
    for choices in (["a"], ["a", "a"], ["a", "c"], "ab", [1, 2]):
        assert problems(forge.reseal(forge.changed(data, ("parameters", "choices"), choices)))


# ------------------------------------------------------- the verifier against every attack


def elected(entries):
    """The answer of (source, answer) pairs, best rank first; one vote a source."""
    said = {}
    for source, answer in entries:
        said.setdefault(source, set()).add(answer)
    votes = {s: (given - {None}).pop() for s, given in said.items() if len(given - {None}) == 1}
    counts = {a: list(votes.values()).count(a) for a in votes.values()}
    for source, _ in entries:
        if source in votes and counts[votes[source]] == max(counts.values()):
            return votes[source]
    return None


def injected(entries, budget, each, top_k):
    """New sources say anything in any number of passages, which rank first."""
    owners = [f"evil {i}" for i in range(budget) for _ in range(each)]
    for count in range(min(top_k, len(owners)) + 1):
        for chosen in set(itertools.combinations(owners, count)):
            for answers in itertools.product("abn", repeat=count):
                yield ([*zip(chosen, answers, strict=True), *entries])[:top_k]


def modified(entries, budget, top_k):
    """Sources are rewritten, or drop out and unknown ones take their slots; all rank first."""
    sources = sorted({source for source, _ in entries})
    for size in range(min(budget, len(sources)) + 1):
        for gone in itertools.combinations(sources, size):
            honest = [entry for entry in entries if entry[0] not in gone]
            freed = len(entries) - len(honest) + min(budget - size, top_k - len(entries))
            for count in range(freed + 1):
                for answers in itertools.product("abn", repeat=count):
                    yield [*enumerate(answers), *honest]


def recomputed(entries, threat, top_k):
    """The radius the verifier finds, read off its objection to an impossible one."""
    data = certify(entries, threat, top_k=top_k)
    (objection,) = [one for one in voting_problems({**data, "radius": 99}) if "follows" in one]
    return int(objection.split("but ")[1].split()[0])


LISTS = [
    [(source, answer) for source, answer in zip(sources, answers, strict=True)]
    for sources in ("x", "xy", "xx", "xyz", "xyy", "xyx", "xxx", "wxyz", "wxyy", "xyzx")
    for answers in itertools.product("ab", repeat=len(sources))
]


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("each", [0, 1, 2], ids=["modification", "injection", "injection of 2"])
def test_the_radius_is_the_one_enumeration_gives(each, extra):
    for entries in LISTS:
        top_k = len(entries) + extra
        if each:
            radius = recomputed(entries, PassageInjection(1, each), top_k)
        else:
            radius = recomputed(entries, PassageModification(1), top_k)
        clean, safe = elected(entries), 0
        for budget in range(1, 3):
            attacks = (
                injected(entries, budget, each, top_k) if each else modified(entries, budget, top_k)
            )
            if clean is None or any(elected(attacked) != clean for attacked in attacks):
                break
            safe = budget
        assert min(radius, 2) == safe, (entries, top_k)
