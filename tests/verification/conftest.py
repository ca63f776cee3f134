"""Honest certificates from random lists, and the tools of a forger."""

import contextlib
import copy
import hashlib
import json
import math
from types import SimpleNamespace

import pytest

from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.threats import PassageInjection, PassageModification

NASTY = (
    None,
    True,
    -1,
    0,
    3,
    1.5,
    10**12,
    10**30,
    math.nan,
    math.inf,
    "",
    "9" * 60,
    "1e999999999",
    "1/0",
    "\ud800",
    [],
    [[]],
    [None] * 2000,
    [-1, True],
    ["a", "a"],
    {},
    {"a": -1},
    b"bytes",
)


def reseal(data):
    """Give a changed certificate the digest that fits it."""
    body = {name: value for name, value in data.items() if name not in ("digest", "signature")}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return {**data, "digest": hashlib.sha256(text.encode()).hexdigest()}


def places(data, path=()):
    """The path of every value in nested dictionaries and lists, itself included."""
    yield path, data
    if isinstance(data, dict):
        children = list(data.items())
    else:
        children = list(enumerate(data)) if isinstance(data, list) else []
    for name, child in children:
        yield from places(child, (*path, name))


def changed(data, path, value):
    """A copy with another value at ``path``."""
    if not path:
        return value
    data = copy.deepcopy(data)
    at = data
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return data


def changed_numbers(data):
    """Every copy in which one number is different."""
    for path, value in places(data):
        if isinstance(value, int | float) and not isinstance(value, bool):
            for other in (value + 1, value - 1):
                yield path, changed(data, path, other)


def malformed(data):
    """Copies with something unexpected in one place, and with one thing missing or too much.

    They have a fitting digest if one can be made, so that no other check stops them early.
    """
    for other in _malformed(data):
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            other = reseal(other)
        yield other


def _malformed(data):
    for path, _ in places(data):
        for value in NASTY:
            yield changed(data, path, value)
    for path, value in places(data):
        if isinstance(value, dict):
            yield changed(data, path, {**value, "surplus": 1})
            for name in value:
                yield changed(data, path, {k: v for k, v in value.items() if k != name})
        elif isinstance(value, list):
            yield changed(data, path, value + value)
            yield changed(data, path, value[1:])


def random_passages(random, answers):
    """Up to 8 passages of up to 8 sources; ``answers`` gives the text of one."""
    sources = random.randint(1, 8)
    return [
        Passage(
            random.choices([answers(), "FAILS", "ABSTAINS"], [85, 7, 8])[0],
            source=f"source {random.randrange(sources)}" if random.random() < 0.6 else None,
        )
        for _ in range(random.randint(0, 8))
    ]


def certificates(model, passages, random, **options):
    """One observed certificate and one for each attack on clean passages; none where all fail."""
    size = len(passages)
    top_k = random.choice([None, max(1, size - 1), size + 1, size + 3])
    budget, gold = random.randint(1, 4), random.choice([None, ["a"], ["b", "The C"]])
    if passages and all(passage.text == "FAILS" for passage in passages[:top_k]):
        return
    generator = RobustRAGGenerator(model, top_k=top_k, corruption_size=budget, **options)
    yield generator.run("q", passages).certificate
    for threat in (PassageInjection(budget, random.randint(1, 2)), PassageModification(budget)):
        yield generator.certify("q", passages, threat, gold=gold)


@pytest.fixture(scope="session")
def forge():
    return SimpleNamespace(
        reseal=reseal, changed=changed, changed_numbers=changed_numbers, malformed=malformed
    )


@pytest.fixture(scope="session")
def honest():
    return SimpleNamespace(random_passages=random_passages, certificates=certificates)
