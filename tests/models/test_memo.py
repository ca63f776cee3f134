"""A memo makes a model that samples repeat itself, whichever way it is asked."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from robust_components import RobustRAGGenerator
from robust_components.models.chat import ChatCompleter
from robust_components.models.memo import Memo, MemoReader
from robust_components.models.protocols import Reading
from robust_components.models.testing import KeywordReader, TableTokenModel
from robust_components.rag.prompting import PromptReader


def sampling():
    """Never the same response twice; counts its calls."""
    numbers = itertools.count(1)
    return ChatCompleter(lambda prompt: f"answer {next(numbers)}", retries=0), numbers


def test_a_prompt_is_asked_once():
    chat, numbers = sampling()
    reader = MemoReader(PromptReader(chat))
    first = reader.read("q", ["a", "b", "a"])
    assert first[0].answer == first[2].answer != first[1].answer
    assert [r.answer for r in reader.read("q", ["b", "a"])] == [first[1].answer, first[0].answer]
    assert [r.answer for r in asyncio.run(reader.read_async("q", ["a"]))] == [first[0].answer]
    words = reader.combine("q", ["x", "y"])
    assert reader.combine_many("q", [["x", "y"]])[0].answer == words.answer
    assert asyncio.run(reader.combine_many_async("q", [("x", "y")]))[0].answer == words.answer
    assert next(numbers) == 4


def test_remembered_readings_cost_nothing():
    reader = MemoReader(KeywordReader(lambda query, text: text))
    assert [reading.calls for reading in reader.read("q", ["a"])] == [1]
    assert [(r.calls, r.tokens) for r in reader.read("q", ["a"])] == [(0, 0)]


def test_the_key_is_model_settings_and_full_prompt():
    memo = Memo()

    def answers(reader):
        return MemoReader(reader, memo).read("q", ["a"])[0].answer

    said = KeywordReader(lambda query, text: "one", name="m")
    other = KeywordReader(lambda query, text: "two", name="m")
    assert answers(said) == answers(other) == "one"
    other.fingerprint = "settings 2"
    assert answers(other) == "two"
    chat, _ = sampling()
    short = PromptReader(chat, name="m", isolated_prompt="{passage} {query}")
    long = PromptReader(chat, name="m", isolated_prompt="{passage}\n{query}")
    assert answers(short) != answers(long)
    assert answers(short) == answers(short)


def test_failures_are_not_remembered():
    calls = []

    def read(query, text):
        calls.append(text)
        if len(calls) == 1:
            raise ConnectionError("busy")
        return "a"

    reader = MemoReader(KeywordReader(read))
    assert reader.read("q", ["x"])[0].failure
    assert reader.read("q", ["x"])[0].answer == reader.read("q", ["x"])[0].answer == "a"
    assert len(calls) == 2


def test_threads_that_ask_at_once_get_one_answer():
    numbers, gate = itertools.count(), threading.Barrier(4)

    class Slow:
        name = fingerprint = "slow"

        def read(self, query, passages):
            gate.wait(20)
            return [Reading(str(next(numbers))) for _ in passages]

        def combine(self, query, keywords):
            return Reading("x")

    memo = Memo()
    reader = MemoReader(Slow(), memo)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: reader.read("q", ["p"])[0].answer, range(4)))
    assert len(set(found)) == 1 and next(numbers) == 4
    assert len(memo) == 1


def test_the_oldest_is_forgotten():
    memo = Memo(size=2)
    reader = MemoReader(KeywordReader(lambda query, text: text), memo)
    assert [r.answer for r in reader.read("q", ["a", "b", "c"])] == ["a", "b", "c"]
    assert len(memo) == 2
    assert reader.read("q", ["a"])[0].calls == 1
    with pytest.raises(ValueError, match="size must be >= 1"):
        Memo(size=0)


def test_copies_share_their_memo():
    memo = Memo()
    assert copy.deepcopy(memo) is memo
    assert memo


@pytest.mark.parametrize("aggregation", ["voting", "keyword"])
def test_generators_with_a_memo_say_so(aggregation):
    chat, numbers = sampling()
    options = {"keyword_extractor": str.split} if aggregation == "keyword" else {}
    generator = RobustRAGGenerator(chat, aggregation, memo=True, **options)
    passages = ["a", "b", "c", "d"]
    first, second = generator.run("q", passages), generator.run("q", passages)
    assert first.answer == second.answer
    assert first.certificate.evidence == second.certificate.evidence
    asked = next(numbers)
    assert generator.run("q", passages).certificate.cost["model_passes"] == 0
    assert next(numbers) == asked + 1
    certificate = second.certificate
    assert certificate.parameters["memo"] is True and certificate.verify()
    assert any("conditional on a deterministic model" in one for one in certificate.assumptions)
    plain = RobustRAGGenerator(KeywordReader(lambda query, text: text)).run("q", passages)
    assert "memo" not in plain.certificate.parameters
    assert not any("memo" in one for one in plain.certificate.assumptions)


def test_generators_can_share_a_memo():
    memo = Memo()
    said = [RobustRAGGenerator(sampling()[0], memo=memo).run("q", ["a"]).answer for _ in range(2)]
    assert said[0] == said[1] and len(memo) == 1


def test_decoding_takes_no_memo():
    with pytest.raises(ValueError, match="memo goes with aggregation='voting' or 'keyword'"):
        RobustRAGGenerator(TableTokenModel({}), "decoding", memo=True)
