"""ChatCompleter: order, concurrency, time-outs and retries."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time

import pytest

from robust_components.models.chat import ChatCompleter, settings_fingerprint, total_tokens
from robust_components.models.protocols import Completion


def test_results_keep_the_order_of_the_prompts():
    def complete(prompt):
        time.sleep(0.05 if prompt == "1" else 0)
        return prompt.upper()

    prompts = ["1", "a", "b", "a", "c"]
    assert ChatCompleter(complete).generate(prompts) == ["1", "A", "B", "A", "C"]
    assert ChatCompleter(complete).generate([]) == []


def test_no_more_calls_at_once_than_allowed():
    lock, running, most = threading.Lock(), [0], [0]

    def complete(prompt):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return prompt

    ChatCompleter(complete, max_concurrency=3).generate([str(i) for i in range(12)])
    assert 1 < most[0] <= 3


def test_a_failed_call_is_tried_again_and_then_reported_in_its_place():
    attempts = []

    def complete(prompt):
        attempts.append(prompt)
        if prompt == "bad" or (prompt == "once" and attempts.count("once") == 1):
            raise ConnectionError(prompt)
        return prompt

    results = ChatCompleter(complete, retries=2).generate(["a", "bad", "once"])
    assert [results[0], results[2]] == ["a", "once"]
    assert isinstance(results[1], ConnectionError)
    assert (attempts.count("bad"), attempts.count("once")) == (3, 2)


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["text"], 0, False])
def test_values_that_are_no_text_become_errors(value):
    (result,) = ChatCompleter(lambda prompt: value, retries=0).generate(["a"])
    assert isinstance(result, TypeError)


def test_slow_calls_time_out_alone():
    def complete(prompt):
        if prompt == "slow":
            threading.Event().wait(60)
        return prompt

    began = time.monotonic()
    chat = ChatCompleter(complete, timeout=2, retries=0)
    results = chat.generate(["a", "slow", "b", *"cdefghij"])
    assert isinstance(results[1], TimeoutError)
    assert [*results[:1], *results[2:]] == ["a", "b", *"cdefghij"]
    assert time.monotonic() - began < 30


def test_coroutines():
    async def complete(prompt):
        await asyncio.sleep(60 if prompt == "slow" else 0)
        if prompt == "bad":
            raise ConnectionError(prompt)
        return prompt.upper()

    chat = ChatCompleter(None, complete, timeout=2, retries=0)
    for results in (
        chat.generate(["a", "slow", "bad", "b"]),
        asyncio.run(chat.generate_async(["a", "slow", "bad", "b"])),
    ):
        assert [results[0], results[3]] == ["A", "B"]
        assert isinstance(results[1], TimeoutError)
        assert isinstance(results[2], ConnectionError)


def test_a_coroutine_function_serves_blocking_calls_inside_an_event_loop():
    async def complete(prompt):
        return prompt

    async def program():
        return ChatCompleter(None, complete).generate(["a", "b"])

    assert asyncio.run(program()) == ["a", "b"]


def test_a_blocking_function_serves_the_event_loop():
    async def program():
        chat = ChatCompleter(lambda prompt: prompt + "!")
        return await chat.generate_async(["a", "b"])

    assert asyncio.run(program()) == ["a!", "b!"]


def test_calls_see_the_context_of_the_caller():
    tenant = contextvars.ContextVar("tenant", default="nobody")
    tenant.set("somebody")
    assert ChatCompleter(lambda prompt: tenant.get()).generate(["a"]) == ["somebody"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"complete": None}, "pass at least one"),
        ({"timeout": 0}, "timeout must be > 0"),
        ({"timeout": math.nan}, "timeout must be > 0"),
        ({"timeout": math.inf}, "timeout must be > 0"),
        ({"max_concurrency": 0}, "max_concurrency must be >= 1"),
        ({"retries": -1}, "retries must be >= 0"),
        ({"retries": 1.5}, "retries must be an integer"),
        ({"retry_delay": -1}, "retry_delay must be >= 0"),
        ({"retry_delay": math.inf}, "retry_delay must be >= 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ChatCompleter(**{"complete": str, **options})


def test_completions_say_what_the_calls_took():
    attempts = []

    def complete(prompt):
        attempts.append(prompt)
        if prompt == "bad" or attempts.count(prompt) < 2:
            raise ConnectionError(prompt)
        return Completion("yes", tokens=7)

    async def complete_async(prompt):
        return complete(prompt)

    for chat in (
        ChatCompleter(complete, retries=2, retry_delay=0),
        ChatCompleter(None, complete_async, retries=2, retry_delay=0),
    ):
        attempts.clear()
        good, bad = chat.completions(["good", "bad"])
        assert (good.text, good.tokens, good.calls) == ("yes", 7, 2)
        assert (bad.text, bad.calls) == (None, 3) and isinstance(bad.failure, ConnectionError)
        attempts.clear()
        good, bad = asyncio.run(chat.completions_async(["good", "bad"]))
        assert (good.calls, bad.calls) == (2, 3)
    (wrong,) = ChatCompleter(lambda prompt: Completion(7), retries=0).completions(["a"])
    assert isinstance(wrong.failure, TypeError)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_attempts_wait_longer_and_longer(asynchronous):
    moments = []

    def complete(prompt):
        moments.append(time.monotonic())
        raise ConnectionError

    async def complete_async(prompt):
        return complete(prompt)

    chat = ChatCompleter(complete, complete_async, retries=2, retry_delay=0.1)
    if asynchronous:
        asyncio.run(chat.generate_async(["a"]))
    else:
        chat.generate(["a"])
    first, second = moments[1] - moments[0], moments[2] - moments[1]
    assert first >= 0.09 and second >= 0.19


def test_a_call_that_waits_for_its_retry_holds_up_no_other():
    order = []

    def complete(prompt):
        order.append(prompt)
        if prompt == "bad":
            raise ConnectionError
        return prompt

    ChatCompleter(complete, retries=1, retry_delay=0.2, max_concurrency=1).generate(["bad", *"abc"])
    assert order == ["bad", "a", "b", "c", "bad"]


def test_the_providers_own_time_out_keeps_its_words():
    async def complete(prompt):
        raise TimeoutError("gateway")

    (failure,) = asyncio.run(ChatCompleter(None, complete, retries=0).generate_async(["a"]))
    assert str(failure) == "gateway"


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}, 7),
        ({"prompt_tokens": 3, "completion_tokens": 4}, 7),
        ({"input_tokens": 3, "output_tokens": None}, 3),
        ({"total_tokens": True}, 0),
        ({"total_tokens": -1}, 0),
        ({}, 0),
        (None, 0),
        ("7", 0),
    ],
)
def test_tokens_are_read_from_usage_data(usage, tokens):
    assert total_tokens(usage) == tokens


def test_settings_have_a_stable_fingerprint():
    one = settings_fingerprint({"temperature": 0, "seed": 1, "client": object()})
    assert one == settings_fingerprint({"seed": 1, "client": object(), "temperature": 0})
    assert one != settings_fingerprint({"temperature": 0.5, "seed": 1, "client": object()})
    assert settings_fingerprint(None) == settings_fingerprint({}) == "unknown"
    assert settings_fingerprint({1: 2, "a": 3}) == "unknown"
