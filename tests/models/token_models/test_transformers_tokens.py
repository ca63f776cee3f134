"""Hugging Face models as token models: their numbers are those of plain forward passes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from robust_components.certificate import Certificate  # noqa: E402
from robust_components.models import load_token_model  # noqa: E402
from robust_components.models.protocols import TokenModel  # noqa: E402
from robust_components.models.token_prompt import Example, PromptTemplate  # noqa: E402
from robust_components.models.transformers_tokens import TransformersTokenModel  # noqa: E402
from robust_components.rag.generator import RobustRAGGenerator  # noqa: E402

QUERY = "What is the colour of the lamp?"
PASSAGES = [
    "The colour of the lamp is red. The owner of the boat is Anna Lopez.",
    "According to the register, the colour of the lamp is red.",
    "The bridge is green. " * 20,
    "",
]
CAUSAL = ["Llama", "Qwen2", "Mistral", "GPT2", "Bloom"]
ENCODERS = ["T5", "Bart"]
FORKS = [(), (300,), (300, 301), (302,), (300, 301, 302), (300, 303), (302, 301), ()]
Made = Callable[..., TransformersTokenModel]


@pytest.fixture(scope="module")
def made(tiny_models: Any) -> Made:
    """Token models by architecture, each made once."""
    known: dict[Any, TransformersTokenModel] = {}

    def make(kind: str, *, chat: bool = False, **options: Any) -> TransformersTokenModel:
        key = (kind, chat, *sorted(options.items()))
        if key not in known:
            tokenizer = tiny_models.tokenizer(chat=chat, end=kind in ENCODERS)
            network = tiny_models.network(kind, tokenizer)
            known[key] = TransformersTokenModel(network, tokenizer, end_at_newline=False, **options)
        return known[key]

    return make


def prompt_of(model: TransformersTokenModel, query: str, passage: str) -> list[int]:
    question = model.prompts.question(query)
    tokens, _ = model.prompts.passage(passage, question.room)
    return [*question.prefix, *tokens, *question.suffix]


def plain(model: TransformersTokenModel, prompt: list[int], answer: tuple[int, ...]) -> Any:
    """Distributions (1 + answer, vocabulary) of one forward pass over everything."""
    with torch.no_grad():
        if model.is_encoder_decoder:
            start = model.model.config.decoder_start_token_id
            logits = model.model(
                input_ids=torch.tensor([prompt]),
                decoder_input_ids=torch.tensor([[start, *answer]]),
            ).logits[0]
        else:
            logits = model.model(torch.tensor([[*prompt, *answer]])).logits[0]
    return torch.softmax(logits[-1 - len(answer) :].double(), dim=-1).numpy()


def greedy(session: Any, row: int = 0, longest: int = 12) -> tuple[int, ...]:
    """Greedy tokens of one row, end-of-sequence included."""
    prefix: tuple[int, ...] = ()
    while len(prefix) < longest and session.eos not in prefix:
        prefix = (*prefix, int(session.next_probabilities(prefix, [row])[0].argmax()))
    return prefix


@pytest.mark.parametrize(("rows", "prompts"), [(16, 1), (1, 1), (32, 4)])
@pytest.mark.parametrize("kind", [*CAUSAL, *ENCODERS])
def test_numbers_are_those_of_a_plain_forward_pass(
    made: Made, kind: str, rows: int, prompts: int
) -> None:
    """With shared beginnings, kept keys and values, masked slots and forks, and without."""
    model = made(kind, rows_per_call=rows, prompts_per_call=prompts if kind != "Mistral" else 1)
    session = model.open(QUERY, PASSAGES)
    assert session.failures == [None] * 4
    for prefix in FORKS:
        found = session.next_probabilities(prefix, range(4))
        assert found.shape == (4, model.vocabulary_size) and found.dtype == np.float64
        for row, passage in enumerate(PASSAGES):
            wanted = plain(model, prompt_of(model, QUERY, passage), prefix)[-1]
            np.testing.assert_allclose(found[row], wanted, rtol=2e-3, atol=1e-6)
            assert found[row].argmax() == wanted.argmax()
            assert found[row].sum() == pytest.approx(1, abs=1e-9)
    assert len({group.slots for group, _ in session._groups}) == 1
    assert session._groups[0][0].slots == rows


@pytest.mark.parametrize("kind", ["Llama", "GPT2", *ENCODERS])
def test_abstention_is_the_probability_of_the_whole_phrase(made: Made, kind: str) -> None:
    model = made(kind)
    session = model.open(QUERY, PASSAGES)
    forced = model.prompts.abstention
    assert model.vocabulary.text(forced) == "I don't know" and len(forced) > 1
    for row, passage in enumerate(PASSAGES):
        shares = plain(model, prompt_of(model, QUERY, passage), forced)
        product = np.prod([shares[at, token] for at, token in enumerate(forced)])
        assert session.abstention[row] == pytest.approx(product, rel=1e-2)
        assert product > 0


@pytest.mark.parametrize(("kind", "chat"), [("Llama", True), ("Llama", False), ("T5", False)])
def test_greedy_decoding_equals_generate(made: Made, kind: str, chat: bool) -> None:
    model = made(kind, chat=chat)
    session = model.open(QUERY, PASSAGES)
    for row, passage in enumerate(PASSAGES):
        prompt = torch.tensor([prompt_of(model, QUERY, passage)])
        written = model.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=12,
            pad_token_id=0,
        )[0].tolist()
        answer = written[1:] if model.is_encoder_decoder else written[prompt.shape[1] :]
        assert list(greedy(session, row)) == answer


@pytest.mark.parametrize("chat", [True, False])
def test_no_retrieval_tokens_are_those_of_the_prompt_without_passage(
    made: Made, chat: bool
) -> None:
    model = made("Llama", chat=chat)
    question = model.prompts.question(QUERY, with_passage=False)
    text = model.vocabulary.text([*question.prefix, *question.suffix])
    assert "Context" not in text and QUERY in text
    session = model.open(QUERY, PASSAGES)
    for prefix in [(300, 301), (), (302,), (300, 301, 302)]:
        (wanted,) = plain(model, [*question.prefix, *question.suffix], prefix)[-1:]
        assert session.no_retrieval_token(prefix) == wanted.argmax()


def test_a_chat_template_is_used(made: Made) -> None:
    model = made("Llama", chat=True)
    prompt = prompt_of(model, QUERY, PASSAGES[0])
    written = model.vocabulary._tokenizer.decode(prompt)
    assert written.startswith("<|im_start|>user\nAnswer the question")
    assert written.endswith(f"Question: {QUERY}\nAnswer:<|im_end|>\n<|im_start|>assistant\n")
    assert (
        made("Llama")
        .vocabulary._tokenizer.decode(prompt_of(made("Llama"), QUERY, PASSAGES[0]))
        .endswith(f"{QUERY}\nAnswer:")
    )


def test_it_is_a_token_model(made: Made) -> None:
    model = made("Llama")
    assert isinstance(model, TokenModel)
    assert len(model.fingerprint) == 16
    assert model.fingerprint != made("Qwen2").fingerprint
    assert model.name == "LlamaForCausalLM"


def test_each_prompt_is_fed_once(tiny_models: Any) -> None:
    tokenizer = tiny_models.tokenizer()
    model = TransformersTokenModel(tiny_models.network("Llama", tokenizer), tokenizer)
    question = model.prompts.question(QUERY)
    prefix, forced = len(question.prefix), len(question.abstention) - 1
    prompts = sum(len(prompt_of(model, QUERY, p)) - prefix + forced for p in PASSAGES)
    session = model.open(QUERY, PASSAGES)
    assert session.token_rows == prefix + prompts
    session.next_probabilities((), [0, 1])
    assert session.token_rows == prefix + prompts
    session.next_probabilities((7,), [0, 1])
    session.next_probabilities((7, 8), [0, 1])
    assert session.token_rows == prefix + prompts + 4
    assert session.padding_rows == 2 * 14
    session.next_probabilities((7, 9), [0, 1])
    session.next_probabilities((7, 8, 5), [0, 1])  # (7,) and (7, 8) are recalled, not fed
    assert session.token_rows == prefix + prompts + 8
    checked = model.check_rows
    assert model.open(QUERY, PASSAGES).token_rows == prompts
    assert model.check_rows == checked > 0
    model.forget()
    assert model.open(QUERY, PASSAGES).token_rows == prefix + prompts


def test_prompts_of_one_width_are_read_in_one_call(tiny_models: Any) -> None:
    tokenizer = tiny_models.tokenizer()
    model = TransformersTokenModel(
        tiny_models.network("Llama", tokenizer), tokenizer, prompts_per_call=4
    )
    question = model.prompts.question(QUERY)
    beginning, forced = len(question.prefix), len(question.abstention) - 1
    model.open(QUERY, PASSAGES)  # shapes are tried out
    calls: list[tuple[int, ...]] = []
    model.model.register_forward_pre_hook(
        lambda module, args, named: calls.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    session = model.open(QUERY, PASSAGES)
    lengths = [len(prompt_of(model, QUERY, p)) - beginning + forced for p in PASSAGES]
    widths = {next(w for w in (64, 96, 128, 192) if w > length) for length in lengths}
    assert sorted(calls) == sorted((4, width) for width in widths)
    assert session.token_rows == sum(lengths)
    assert session.padding_rows == 4 * sum(widths) - sum(lengths)


def test_evicted_branches_give_the_same_numbers(tiny_models: Any) -> None:
    tokenizer = tiny_models.tokenizer()
    network = tiny_models.network("Llama", tokenizer)
    kept, evicted = (TransformersTokenModel(network, tokenizer, branch_tokens=n) for n in (512, 1))
    sessions = [model.open(QUERY, PASSAGES) for model in (kept, evicted)]
    for prefix in FORKS * 2:
        one, other = (session.next_probabilities(prefix, range(4)) for session in sessions)
        assert np.array_equal(one, other)
    assert sessions[0].token_rows < sessions[1].token_rows


def test_worked_examples_are_part_of_the_shared_beginning(made: Made, tiny_models: Any) -> None:
    tokenizer = tiny_models.tokenizer(chat=True)
    fields = {"passage": "The boat is {query}.", "question": "What is it?", "answer": "{passage}"}
    template = PromptTemplate(examples=(Example(**fields),) * 2)
    network = made("Llama").model
    model = TransformersTokenModel(network, tokenizer, template=template)
    text = tokenizer.decode(model.prompts.question(QUERY).prefix)
    assert text.count("The boat is {query}.") == 2
    assert text.count("assistant\n{passage}<|im_end|>") == 2
    bare = model.prompts.question(QUERY, with_passage=False)
    assert "boat" not in tokenizer.decode(bare.prefix + bare.suffix)
    same = TransformersTokenModel(network, tokenizer, template={"examples": [fields, fields]})
    assert same.prompts.question(QUERY) == model.prompts.question(QUERY)


def test_newlines_end_plain_completions(made: Made) -> None:
    bare = made("Llama")
    tokenizer = bare.vocabulary._tokenizer
    model = TransformersTokenModel(bare.model, tokenizer)
    newline = tokenizer.encode("\n")[0]
    assert newline in model.other_ends and newline not in bare.other_ends
    before, after = (
        m.open(QUERY, PASSAGES[:1]).next_probabilities((), [0])[0] for m in (bare, model)
    )
    assert after[newline] == 0 and after.sum() == pytest.approx(1)
    assert after[model.eos] == pytest.approx(before[model.eos] + before[model.other_ends].sum())


def test_tokens_have_names_and_spell_the_answer(made: Made) -> None:
    model = made("Llama")
    session = model.open(QUERY, PASSAGES[:1])
    names = [session.token_text(token) for token in range(model.vocabulary_size + 3)]
    assert len(set(names)) == len(names)
    tokens = model.vocabulary.encode(" Anna Lopez", markup=False)
    assert session.text(tokens) == session.text([*tokens, session.eos]) == "Anna Lopez"


@pytest.mark.parametrize("text", ["naïve 中文 🐟", "fish 🐟🐟 end"])
def test_answers_grow_even_where_a_token_is_part_of_a_character(made: Made, text: str) -> None:
    """What is streamed after each token never has to be taken back."""
    model = made("Llama")
    session = model.open(QUERY, PASSAGES[:1])
    tokens = model.vocabulary.encode(text, markup=False)
    grown = [session.text(tokens[:length]) for length in range(1, len(tokens) + 1)]
    assert len(tokens) > len(text) and grown[-1] == text
    for shorter, longer in pairwise(grown):
        assert longer.startswith(shorter) and "\ufffd" not in shorter


@pytest.mark.parametrize("kind", ["Llama", "T5"])
def test_models_are_loaded_by_path(made: Made, kind: str, tmp_path: Path) -> None:
    wanted = made(kind)
    wanted.model.save_pretrained(tmp_path)
    wanted.vocabulary._tokenizer.save_pretrained(tmp_path)
    model = load_token_model(tmp_path, dtype="float32", end_at_newline=False)
    assert isinstance(model, TransformersTokenModel)
    assert model.fingerprint == wanted.fingerprint and model.name == str(tmp_path)
    one, other = (m.open(QUERY, PASSAGES) for m in (model, wanted))
    for prefix in FORKS[:3]:
        numbers = (s.next_probabilities(prefix, range(4)) for s in (one, other))
        assert np.array_equal(*numbers)
    half = load_token_model(str(tmp_path), dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16 and half.fingerprint != wanted.fingerprint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_cuda_device(made: Made, tmp_path: Path, dtype: str) -> None:
    wanted = made("Llama")
    wanted.model.save_pretrained(tmp_path)
    wanted.vocabulary._tokenizer.save_pretrained(tmp_path)
    model = load_token_model(tmp_path, device="cuda", dtype=dtype, end_at_newline=False)
    one, other = (m.open(QUERY, PASSAGES) for m in (model, wanted))
    tolerance = 1e-4 if dtype == "float32" else 0.1
    for prefix in FORKS:
        numbers = (s.next_probabilities(prefix, range(4)) for s in (one, other))
        np.testing.assert_allclose(*numbers, atol=tolerance)


def test_one_model_serves_several_threads(made: Made) -> None:
    model = made("Llama", chat=True)

    def ask(number: int) -> Any:
        passages = [PASSAGES[0], "</s><|im_start|>" * number, PASSAGES[1]]
        session = model.open(QUERY, passages)
        return [session.next_probabilities(prefix, [0, 2]) for prefix in FORKS]

    wanted = ask(1)
    model.forget()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(ask, range(12)):
            assert all(map(np.array_equal, found, wanted))


@pytest.mark.parametrize("kind", ["Llama", "T5"])
@pytest.mark.parametrize("eta", ["0", "0.1"])
def test_answers_are_decoded_and_certified(made: Made, kind: str, eta: str) -> None:
    generator = RobustRAGGenerator(made(kind), "decoding", gamma="1", eta=eta, max_tokens=4)
    result = generator.run(QUERY, [PASSAGES[0]] * 2 + PASSAGES[1:3])
    certificate = Certificate.from_dict(result.certificate.to_dict())
    assert certificate.verify(), certificate.problems()
    assert 0 < len(result.tokens) <= 4
    assert "".join(token.text for token in result.tokens) == result.answer
    model = certificate.to_dict()["model"]
    assert model == {"name": made(kind).name, "fingerprint": made(kind).fingerprint}
