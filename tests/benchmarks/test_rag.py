"""The speed benchmark: the three ways agree where they must, and count what they feed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tqdm")

import torch

from benchmarks import rag
from benchmarks.rag_flows import counting, ours, prompts_of, published, vanilla
from benchmarks.random_llama import build, question, token_model
from benchmarks.reporting import peak_memory

STEPS = 6


@pytest.fixture(scope="module")
def tokens():
    return token_model(build("tiny"), STEPS)


def test_prompts_are_as_long_as_the_benchmark_says(tokens):
    query, passages = question(3)
    prompt = tokens.prompts.question(query)
    assert 350 <= len(prompt.prefix) <= 450
    assert all(len(tokens.prompts.passage(text, prompt.room)[0]) == 100 for text in passages)


def test_vanilla_is_greedy_generation(tokens):
    query, passages = question(3)
    answer = vanilla(tokens, query, passages, STEPS)
    joined = prompts_of(tokens, query, [" ".join(passages)])[0]
    expected = tokens.model.generate(
        torch.tensor([joined]), do_sample=False, max_new_tokens=STEPS, pad_token_id=0
    )[0, len(joined) :]
    assert answer.tokens == tuple(expected.tolist())


@pytest.mark.parametrize("passages", [2, 5])
def test_secure_decoding_gives_the_same_tokens_either_way(tokens, passages):
    query, texts = question(passages, seed=1)
    plain = published(tokens, query, texts, STEPS, certificate=True)
    assert len(plain.tokens) == STEPS
    for certificate in (False, True):
        assert ours(tokens, query, texts, STEPS, certificate=certificate).tokens == plain.tokens
    assert published(tokens, query, texts, STEPS, certificate=False).tokens == plain.tokens


def test_what_is_fed_is_counted(tokens):
    query, passages = question(3)
    prompts = prompts_of(tokens, query, passages)
    longest, forced = max(map(len, prompts)), len(tokens.prompts.question(query).abstention)
    with counting(tokens.model) as fed:
        published(tokens, query, passages, STEPS, certificate=True)
    decoding = 4 * (longest + STEPS - 1)  # three passages and none
    assert fed.rows == 4 * (longest + forced) + 2 * decoding
    tokens.forget()
    with counting(tokens.model) as fed:
        ours(tokens, query, passages, STEPS, certificate=True)
    shared = len(tokens.prompts.question(query).prefix)
    own = sum(len(prompt) - shared + forced - 1 for prompt in prompts[:-1])
    steps = tokens.rows_per_call * (STEPS - 1)
    assert fed.rows >= shared + own + steps  # and, the first time, what tries out the shape
    with counting(tokens.model) as fed:
        ours(tokens, query, passages, STEPS, certificate=True)
    assert fed.rows == own + steps


def test_measured_ratios(tokens, monkeypatch):
    monkeypatch.setattr(rag, "STEPS", STEPS)
    row = rag.measure(tokens, 3, repeats=1)
    assert row["ours_certified"]["token_rows"] < row["published_certified"]["token_rows"] / 2
    ratios = rag.ratios_of({**row, "peak_mib": {"ours_certified": 30.0, "vanilla": 20.0}})
    assert ratios["memory_vs_vanilla"] == 1.5
    assert 0 < ratios["token_rows_vs_published"] < 0.5
    assert set(rag.ratios_of(row, certificate=False)) == {
        "token_rows_vs_published",
        "wall_vs_published",
        "wall_vs_vanilla",
    }


def test_ways_that_disagree_are_an_error(tokens, monkeypatch):
    monkeypatch.setattr(rag, "STEPS", STEPS)
    made = {name: rag.run_one(name, tokens, 2, seed=0) for name in ("vanilla", *rag.SECURE)}
    made["ours"]["answer"].tokens = (1, 2, 3)
    with pytest.raises(RuntimeError, match="the same tokens"):
        rag.check(made)
    made["ours"]["answer"].tokens = (*made["vanilla"]["answer"].tokens[:-1], -1)
    assert rag.check(made, exact=False) is False


def test_peak_memory_is_that_of_the_block():
    with peak_memory() as peak:
        block = bytearray(64 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        del block
    assert 60 <= peak.mebibytes <= 90
