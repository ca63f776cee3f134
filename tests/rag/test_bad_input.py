"""What is wrong on input gives a clear error, an abstention, or a certificate that is no stronger.

An error names the value, and what is allowed. Whatever a model does to one passage is a failed
reading of that passage: it uses up budget, and takes no other passage along.
"""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from robust_components.models.chat import ChatCompleter
from robust_components.models.protocols import ModelFailedError, Reading
from robust_components.models.testing import KeywordReader, TableTokenModel
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.rag.prompting import PromptReader
from robust_components.threats import PassageInjection, PassageModification

THREATS = (PassageInjection(1), PassageModification(1))


def echo(query, text):
    return None if text == "-" else text


def make(model=None, aggregation="voting", corruption_size=1, **options):
    return RobustRAGGenerator(model or KeywordReader(echo), aggregation, corruption_size, **options)


def keyword(model=None, **options):
    by_spaces = SimpleNamespace(extract=lambda text: frozenset(text.split()))
    return make(model, "keyword", keyword_extractor=by_spaces, **options)


def reader(read, combine=lambda keywords: Reading(" ".join(keywords))):
    """A passage reader given by two functions that take no query."""
    return SimpleNamespace(
        name="reader",
        fingerprint="1",
        read=lambda query, passages: read(passages),
        combine=lambda query, keywords: combine(keywords),
    )


def text_generator(generate):
    return SimpleNamespace(generate=generate)


def answer_to(prompt):
    """What a chat model echoes: the passage between the dashed lines, or the keywords."""
    return prompt.split("---------------------\n")[1].strip() if "-----" in prompt else "yes"


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    "options, value, allowed",
    [
        ({"corruption_size": 0}, "0", ">= 1"),
        ({"corruption_size": -1}, "-1", ">= 1"),
        ({"corruption_size": True}, "True", ">= 1"),
        ({"corruption_size": 1.5}, "1.5", ">= 1"),
        ({"corruption_size": "2"}, "'2'", ">= 1"),
        ({"top_k": 0}, "0", ">= 1"),
        ({"top_k": 2.0}, "2.0", ">= 1"),
        ({"alpha": 0}, "0", "(0, 1]"),
        ({"alpha": 1.1}, "1.1", "(0, 1]"),
        ({"alpha": -0.3}, "-0.3", "(0, 1]"),
        ({"alpha": math.nan}, "nan", "(0, 1]"),
        ({"alpha": math.inf}, "inf", "(0, 1]"),
        ({"alpha": "x"}, "'x'", "(0, 1]"),
        ({"alpha": None}, "None", "(0, 1]"),
        ({"alpha": True}, "True", "(0, 1]"),
        pytest.param(
            {"alpha": "1/0"},
            "'1/0'",
            "(0, 1]",
        ),
        ({"beta": 0.5}, "0.5", ">= 1"),
        ({"beta": math.inf}, "inf", ">= 1"),
        ({"beta": math.nan}, "nan", ">= 1"),
        ({"beta": [3]}, "[3]", ">= 1"),
        ({"choices": ["yes"]}, "['yes']", "at least 2"),
        ({"choices": ["yes", "Yes."]}, "['yes', 'Yes.']", "at least 2"),
        ({"choices": []}, "[]", "at least 2"),
        ({"choices": "yes no"}, "'yes no'", "at least 2"),
        pytest.param(
            {"choices": [1, 2]},
            "[1, 2]",
            "pass strings",
        ),
        pytest.param(
            {"choices": 5},
            "5",
            "at least 2",
        ),
        pytest.param(
            {"choices": ["known", "unknown"]},
            "unknown",
            "abstention",
        ),
        ({"on_uncertified": "refuse"}, "'refuse'", "'answer' or 'abstain'"),
        ({"on_uncertified": None}, "None", "'answer' or 'abstain'"),
        ({"aggregation": "vote"}, "'vote'", "'voting', 'keyword'"),
        ({"aggregation": "keyword", "max_optional_keywords": -1}, "-1", ">= 0"),
        ({"aggregation": "keyword", "max_final_calls": 0}, "0", ">= 1"),
        ({"model": 5}, "int", "generate(prompts)"),
    ],
    ids=repr,
)
def test_options_out_of_range(options, value, allowed):
    if {"alpha", "beta"} & set(options):
        options = {"aggregation": "keyword", **options}
    with pytest.raises((ValueError, TypeError)) as caught:
        make(**options)
    assert value in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize("threat", [PassageInjection, PassageModification])
@pytest.mark.parametrize("budget", [0, -1, True, 1.5, None])
def test_threats_out_of_range(threat, budget):
    with pytest.raises((ValueError, TypeError), match=r"budget must be .*>= 1, got"):
        threat(budget)


def test_threat_of_another_kind():
    with pytest.raises(TypeError, match="must be PassageInjection or PassageModification"):
        make().certify("q", ["a"], 1)


# ------------------------------------------------------------------------------ the question


@pytest.mark.parametrize("query, error", [("", ValueError), (" \n", ValueError), (None, TypeError)])
def test_no_question(query, error):
    with pytest.raises(error, match="query must"):
        make().run(query, ["a"])
    with pytest.raises(error, match="query must"):
        make().certify(query, ["a"])


@pytest.mark.parametrize(
    "passages, named",
    [
        ("one text", "str"),
        (b"bytes", "bytes"),
        (["a", 7], "passage 1 must be text, got int"),
        (["a", None], "NoneType"),
        ([Passage(None)], "NoneType"),
        ([b"a"], "bytes"),
        pytest.param(
            None,
            "passages must be a list",
        ),
        pytest.param(
            Passage("a"),
            "passages must be a list",
        ),
    ],
    ids=repr,
)
def test_passages_that_are_no_texts(passages, named):
    with pytest.raises(TypeError) as caught:
        make().run("q", passages)
    assert named in str(caught.value)


def test_passages_from_a_generator():
    """Refused or read; not taken for "no passages"."""
    try:
        result = make().run("q", (text for text in ["a", "a", "a"]))
    except TypeError:
        return
    assert result.answer == "a"


@pytest.mark.parametrize("generator", [make(), keyword(), keyword(alpha=1, beta=1)])
def test_nothing_to_answer_from(generator):
    for passages in ([], ["-"], ["-", "-", "-"], ["", "  \n"]):
        result = generator.run("q", passages)
        assert result.abstained
        assert result.answer == "I don't know"
        assert len(result.passages) == len(passages)
        for certificate in (
            result.certificate,
            *(generator.certify("q", passages, threat, gold=["a"]) for threat in THREATS),
        ):
            assert not certificate.certified
            assert certificate.radius == 0
            assert certificate.reason
        assert generator.certify("q", passages, gold=["a"]).evidence["tau"] == 0.0


def test_more_attackers_than_sources():
    for corruption_size in (3, 4, 50):
        for generator in (
            make(corruption_size=corruption_size),
            keyword(corruption_size=corruption_size),
        ):
            result = generator.run("q", ["a", "a", "a"])
            assert result.answer == "a"
            assert not result.certificate.certified
            assert result.certificate.radius < 3
            assert result.certificate.reason
            assert not generator.certify("q", ["a", "a", "a"]).certified


def test_uncertified_answers_are_given_or_withheld():
    passages = ["a", "b"]
    given = make(on_uncertified="answer").run("q", passages)
    withheld = make(on_uncertified="abstain", abstention="No answer.").run("q", passages)
    assert (given.answer, given.abstained) == ("a", False)
    assert (withheld.answer, withheld.abstained) == ("No answer.", True)
    assert make(on_uncertified="abstain").run("q", ["a"] * 3).answer == "a"


# ------------------------------------------------------------------------------ odd passages


def test_a_megabyte_is_cut_and_flagged():
    prompts = []

    def complete(prompt):
        prompts.append(prompt)
        return "Paris"

    reader = PromptReader(ChatCompleter(complete), max_passage_characters=5_000)
    result = make(reader).run("q", ["x" * 1_000_000, "short", "short too"])
    assert [passage.truncated for passage in result.passages] == [True, False, False]
    assert max(map(len, prompts)) < 6_000
    assert result.answer == "Paris"
    assert result.certificate.radius == 1


def test_duplicate_documents_count_once():
    passages = [Passage("a", id="1"), Passage("a", id="1"), Passage("b", id="2")]
    result = make().run("q", passages)
    assert dict(result.certificate.evidence["votes"]) == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    "text",
    ["\x00", "\ud800", "\u200b", "{query}{passage}{}", "%s", "x" * 50_000, "\x00any other answer"],
    ids=ascii,
)
def test_odd_characters(text):
    for generator in (make(), keyword(), make(text_generator(lambda p: [answer_to(x) for x in p]))):
        result = generator.run("q", [text, text, "a"])
        assert len(result.passages) == 3
        assert result.certificate.to_json()
        assert result.certificate.radius == 0


# ------------------------------------------------------------------------- models that misbehave


def read_each(one):
    return reader(lambda passages: [one(passage) for passage in passages])


def raises_for_bad(passage):
    if passage == "bad":
        raise MemoryError("no memory left")
    return Reading(passage)


@pytest.mark.parametrize(
    "one",
    [
        raises_for_bad,
        lambda p: Reading(p, probability=math.nan if p == "bad" else 0.5),
        lambda p: Reading(p, probability=-1.0 if p == "bad" else 0.5),
        lambda p: Reading("" if p == "bad" else p),
        lambda p: Reading(" \n" if p == "bad" else p),
        lambda p: Reading(b"bytes" if p == "bad" else p),
        lambda p: Reading(p, failure="quota" if p == "bad" else None),
        lambda p: "a string" if p == "bad" else Reading(p),
        lambda p: None if p == "bad" else Reading(p),
        pytest.param(
            lambda p: Reading(p, probability="high" if p == "bad" else 0.5),
        ),
    ],
)
def test_one_unusable_reading_uses_up_budget(one):
    clean = make().run("q", ["a", "a", "a", "a"])
    assert clean.certificate.radius == 1
    result = make(read_each(one)).run("q", ["a", "a", "a", "bad"])
    assert result.answer == "a"
    assert [passage.failure is None for passage in result.passages] == [True, True, True, False]
    assert result.passages[3].vote is None
    assert result.certificate.radius == 1
    assert "1 that failed" in result.certificate.claim
    assert make(read_each(one)).run("q", ["a", "a", "bad"]).certificate.radius == 1
    assert make(read_each(one)).run("q", ["a", "bad"]).certificate.radius == 0
    assert make(read_each(one)).run("q", ["a", "a", "a", "bad", "bad"]).certificate.radius == 2
    assert make(read_each(one)).run("q", ["a", "a", "bad", "bad"]).certificate.radius == 0


@pytest.mark.parametrize("build", [make, keyword])
def test_a_failure_without_a_reason_is_a_failure(build):
    """As ``Reading(None, failure=str(error))`` of a ``TimeoutError()`` is."""
    one = read_each(lambda p: Reading(None, failure="") if p == "bad" else Reading(p))
    result = build(one).run("q", ["a", "a", "a", "a", "bad"])
    assert result.passages[4].failure
    assert "1 that failed" in result.certificate.claim
    assert build(one).run("q", ["a", "a", "bad", "bad"]).certificate.radius == 0


def with_package():
    """The environment of a process that imports the package under test."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_numbers_of_numpy_are_numbers():
    """What a model written with numpy or torch hands over; refusing it makes every row hostile."""
    model = read_each(lambda p: Reading(p, probability=np.float32(0.5), tokens=np.int64(7)))
    result = make(model).run("q", ["a", "a", "a"])
    assert result.certificate.radius == 1
    assert result.certificate.cost["tokens"] == 21
    assert result.to_dict()


def fails(*arguments):
    raise ConnectionError("the service is down")


@pytest.mark.parametrize(
    "model",
    [
        reader(fails),
        reader(lambda passages: []),
        reader(lambda passages: None),
        reader(lambda passages: [Reading("a")] * (len(passages) + 1)),
        text_generator(fails),
        text_generator(lambda prompts: []),
        text_generator(lambda prompts: [None] * len(prompts)),
        text_generator(lambda prompts: [""] * len(prompts)),
        ChatCompleter(fails, retries=0),
        ChatCompleter(lambda prompt: 7, retries=0),
        ChatCompleter(lambda prompt: None, retries=0),
        ChatCompleter(lambda prompt: time.sleep(5), timeout=0.05, retries=0),
    ],
)
@pytest.mark.parametrize("build", [make, keyword])
def test_a_model_that_fails_for_every_passage(model, build):
    generator = build(model)
    for call in (
        lambda: generator.run("q", ["a", "a", "a"]),
        lambda: asyncio.run(generator.run_async("q", ["a", "a", "a"])),
        lambda: generator.certify("q", ["a", "a", "a"], gold=["a"]),
    ):
        with pytest.raises(ModelFailedError, match="no usable response to any of 3 passages"):
            call()


def test_one_passage_that_times_out():
    def complete(prompt):
        if "slow" in prompt:
            time.sleep(60)
        return "a"

    chat = ChatCompleter(complete, timeout=2, retries=0)
    result = make(chat).run("q", ["1", "2", "slow", "3"])
    assert result.answer == "a"
    assert "TimeoutError" in result.passages[2].failure
    assert result.certificate.radius == 1


def final_call(function):
    """A generator that reads passages well, and whose final call is ``function(prompts)``."""
    return text_generator(
        lambda prompts: ["w"] * len(prompts) if "-----" in prompts[0] else function(prompts)
    )


@pytest.mark.parametrize(
    "model",
    [
        final_call(fails),
        final_call(lambda prompts: [None] * len(prompts)),
        final_call(lambda prompts: [""] * len(prompts)),
        reader(lambda passages: [Reading("w")] * len(passages), fails),
        reader(lambda passages: [Reading("w")] * len(passages), lambda keywords: "yes"),
        pytest.param(
            final_call(lambda prompts: []),
        ),
    ],
)
def test_a_final_call_that_fails(model):
    for result in (
        keyword(model).run("q", ["1", "2", "3"]),
        asyncio.run(keyword(model).run_async("q", ["1", "2", "3"])),
    ):
        assert result.abstained
        assert result.certificate.radius == 0
        assert "final call failed" in result.certificate.reason


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(fails, id="raises"),
        pytest.param(lambda text: None, id="returns None"),
    ],
)
def test_an_extractor_that_fails_for_one_response(found):
    extractor = SimpleNamespace(
        extract=lambda text: found(text) if text == "bad" else frozenset({text})
    )
    generator = make(aggregation="keyword", keyword_extractor=extractor)
    result = generator.run("q", ["a"] * 4 + ["bad"])
    assert result.answer == "a"
    assert result.passages[4].failure


def test_asynchronous_readers_lose_no_more_rows_than_blocking_ones():
    async def read_async(query, passages):
        return list(map(raises_for_bad, passages))

    model = reader(lambda passages: list(map(raises_for_bad, passages)))
    model.read_async = read_async
    generator = make(model)
    passages = ["a", "a", "a", "bad"]
    assert generator.run("q", passages).answer == "a"
    assert asyncio.run(generator.run_async("q", passages)).answer == "a"


class Opening:
    """A token model that cannot open some passages, whose sessions hand over plain lists."""

    name = fingerprint = "opening"

    def __init__(self, unreadable):
        self.unreadable = unreadable
        rows = {(text, ()): {text: 1.0} for text in ("a", "b")}
        self.inner = TableTokenModel(rows)

    def open(self, query, passages):
        if any(text in self.unreadable for text in passages):
            raise MemoryError("a passage is too long")
        session = self.inner.open(query, passages)
        session.abstention = list(session.abstention)
        return session


def test_a_passage_that_cannot_be_opened_takes_no_other_along():
    generator = make(Opening(["bad"]), "decoding")
    assert generator.run("q", ["a"] * 4).certificate.radius == 1
    result = generator.run("q", ["a", "a", "a", "bad"])
    assert result.answer == "a" and result.certificate.radius == 1
    assert "1 that failed" in result.certificate.claim and result.certificate.verify()
    assert "MemoryError: a passage is too long" in result.passages[3].failure
    assert asyncio.run(generator.run_async("q", ["a", "a", "a", "bad"])).answer == "a"
    for unreadable in (["bad"], ["a", "bad", ""]):  # "" stands in for what cannot be opened
        with pytest.raises(ModelFailedError, match="MemoryError"):
            make(Opening(unreadable), "decoding").run("q", ["bad", "bad"])


def test_a_blank_passage_abstains_where_probabilities_are_a_list():
    result = make(Opening([]), "decoding").run("q", ["a", "a", "a", " "])
    assert result.answer == "a" and result.passages[3].abstained


# ---------------------------------------------------------------- what the certificate says of it


@pytest.mark.parametrize(
    ("options", "passages"),
    [
        ({"eta": "-0", "numerical_margin": "-0.0"}, ["a"] * 3),
        ({"eta": "+0.05", "gamma": "+.5"}, ["a"] * 3),
        ({}, [Passage("a", source="one site")] * 150 + ["a"] * 3),
    ],
)
def test_what_is_taken_gives_a_certificate_that_verifies(options, passages):
    result = make(Opening([]), "decoding", **options).run("q", passages)
    assert result.certificate.problems() == []


@pytest.mark.parametrize("build", [make, keyword])
def test_gold_answers_may_come_from_a_generator_and_are_texts(build):
    certificate = build().certify("q", ["a"] * 5, gold=(answer for answer in ["a"]))
    assert certificate.evidence["tau"] == 1.0 and certificate.verify()
    with pytest.raises(TypeError, match=r"gold must hold texts only, got \[5\]"):
        build().certify("q", ["a"] * 5, gold=[5])


def test_certificate_names_the_model_given_for_the_call():
    other = KeywordReader(echo, name="other")
    assert make().run("q", ["a"], model=other).certificate.model["name"] == "other"


def test_certificate_keeps_the_fingerprint_of_a_chat_model():
    chat = ChatCompleter(answer_to, name="m", fingerprint="2026-11")
    assert make(chat).run("q", ["a"]).certificate.model == {"name": "m", "fingerprint": "2026-11"}


def test_claim_at_radius_zero_does_not_overstate_the_danger():
    """Three rows failed and count as hostile; one more hostile source is not what breaks it."""
    result = make(read_each(raises_for_bad)).run("q", ["a"] * 3 + ["bad"] * 3)
    assert result.certificate.radius == 0
    assert "one hostile source could change it" not in result.certificate.claim


def test_claim_when_the_search_was_given_up():
    """No answer but "yes" exists, so that no source can change it: nothing was *shown*."""
    yes = reader(lambda passages: [Reading(p) for p in passages], lambda keywords: Reading("yes"))
    result = keyword(yes, max_optional_keywords=0, alpha=1).run("q", ["w x", "w y", "w z"])
    assert result.answer == "yes"
    assert "budget exceeded" in result.certificate.reason
    assert "could change it" not in result.certificate.claim


@pytest.mark.slow
def test_a_large_beta_does_not_hang():
    script = """
from types import SimpleNamespace
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
split = SimpleNamespace(extract=lambda text: frozenset(text.split()))
model = KeywordReader(lambda query, text: text)
generator = RobustRAGGenerator(model, "keyword", keyword_extractor=split, alpha=1, beta=15)
generator.run("q", ["w"] * 30)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True, env=with_package())
