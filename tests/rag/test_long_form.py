"""Keyword aggregation for long answers: phrases of several words, and the answers reachable."""

from __future__ import annotations

import pytest

from robust_components.models.testing import KeywordReader, TableTokenModel
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.keywords import SpacyKeywords
from robust_components.rag.prompting import LONG_ANSWER_PROMPT, PHRASES_PROMPT, PromptReader
from robust_components.threats import PassageInjection, PassageModification

LIST = "Nobel Prize, physicist, born in Ulm Germany\n- theory of relativity; Nobel Prize"


def blank(**options):
    pytest.importorskip("spacy")
    return SpacyKeywords("no_such_pipeline", **options)


def test_only_phrases_of_several_words_count():
    assert blank(single_words=False).extract(LIST) == {"nobel prize", "ulm germany"}
    assert blank(single_words=False).extract("physicist, Ulm, 1879") == frozenset()


def test_the_extractor_says_what_it_leaves_out():
    assert blank(single_words=False).description.endswith("phrases only")
    with pytest.raises(ValueError, match="both False"):
        SpacyKeywords(phrases=False, single_words=False)


class Lister:
    """A text generator: lists the passage's facts, then strings the agreed phrases together."""

    name, fingerprint = "lister", "test"

    def __init__(self):
        self.prompts = []

    def generate(self, prompts):
        self.prompts.extend(prompts)
        return [prompt.split("\n")[2 if "Phrases:" in prompt else 1] for prompt in prompts]


def test_long_form_asks_for_phrases_and_then_for_a_long_answer():
    model = Lister()
    generator = RobustRAGGenerator(
        model,
        "keyword",
        long_form=True,
        alpha=0.4,
        beta=4,
        keyword_extractor=blank(single_words=False),
    )
    passages = ["Nobel Prize, Ulm"] * 2 + ["Nobel Prize, Polish novelist"] * 3
    passages = [f"{text}, {extra}" for text, extra in zip(passages, "abcde", strict=True)]
    result = generator.run("Tell me a bio of X", passages)
    assert result.keywords == ("nobel prize", "polish novelist")
    assert result.answer == "Nobel Prize, Polish novelist"
    assert "Phrases:" in model.prompts[0] and "Phrases that enough" in model.prompts[-1]


def test_own_templates_stay():
    kept = PromptReader(Lister(), isolated_prompt="{passage} {query}", long_form=True)
    assert kept.isolated_prompt == "{passage} {query}"
    assert kept.keyword_prompt == LONG_ANSWER_PROMPT
    assert PromptReader(Lister(), long_form=True).isolated_prompt == PHRASES_PROMPT


def test_long_form_belongs_to_keywords():
    with pytest.raises(ValueError, match="long_form=True goes with aggregation='keyword'"):
        RobustRAGGenerator(Lister(), "voting", long_form=True)


def length(answer: str) -> float:
    return float(len(answer))


def test_reachable_votes():
    generator = RobustRAGGenerator(KeywordReader(lambda query, text: text), "voting", top_k=5)
    found = generator.reachable("q", ["a", "a", "a", "a", "bb"], PassageInjection(1))
    assert found.answers == ("a",) and found.complete
    assert found.lowest(length) == 1.0
    close = generator.reachable("q", ["a", "a", "bb", "bb", "c"], PassageInjection(1))
    assert set(close.answers) == {"a", "bb"} and close.complete
    assert close.lowest(length) == 1.0
    lost = generator.reachable("q", ["a", "b", "c", "d", "e"], PassageInjection(1))
    assert not lost.complete and lost.lowest(length) == 0.0 and "no source gives" in lost.reason


def test_reachable_answers_from_keywords():
    class Words:
        def extract(self, text):
            return frozenset(text.split())

    reader = KeywordReader(lambda query, text: text)
    generator = RobustRAGGenerator(
        reader, "keyword", alpha=0.5, beta=3, top_k=6, keyword_extractor=Words()
    )
    passages = ["x y", "x y", "x", "x", "x", "z"]
    found = generator.reachable("q", passages, PassageInjection(1))
    assert found.answers == ("x", "x y") and found.complete
    assert found.lowest(length) == 1.0
    assert not generator.reachable("q", passages, PassageInjection(3)).complete


def test_reachable_decodings_and_none_when_nothing_responds():
    table = {(p, ()): {"yes": 0.9, "no": 0.1} for p in "abcde"}
    table |= {(p, ("yes",)): {"sure": 0.6, "</s>": 0.4} for p in "abc"}
    model = TableTokenModel(table, abstain={"f": 1.0}, no_retrieval={("yes",): "</s>"})
    generator = RobustRAGGenerator(model, "decoding", eta="0.1", max_tokens=3, top_k=5)
    found = generator.reachable("q", list("abcde"), PassageModification(1))
    assert found.complete
    assert found.answers == ("yes", "yes sure")
    assert found.lowest(length) == 3.0
    silent = generator.reachable("q", ["f"], PassageModification(1))
    assert silent.answers == (None,) and silent.lowest(length) == 0.0


def phrases_or_answer(prompt: str) -> str:
    """A chat model: the passage, or the agreed phrases."""
    return prompt.split("\n")[2 if "Phrases:" in prompt else 1]


def test_both_adapters_take_long_form():
    chat = pytest.importorskip("haystack.components.generators.chat")
    haystack = pytest.importorskip("haystack")
    runnables = pytest.importorskip("langchain_core.runnables")
    documents = pytest.importorskip("langchain_core.documents")
    pytest.importorskip("spacy")
    from haystack_integrations.components.generators.robust_components import (
        RobustRAGGenerator as HaystackGenerator,
    )
    from langchain_robust import RobustRAGGenerator as LangChainGenerator

    def reply(messages):
        return haystack.dataclasses.ChatMessage.from_assistant(phrases_or_answer(messages[-1].text))

    texts = ["Nobel Prize, Ulm", "Nobel Prize, Oslo", "Nobel Prize, Bern"]
    mock = chat.MockChatGenerator(response_fn=reply)
    component = HaystackGenerator(mock, "keyword", long_form=True)
    output = component.run("bio", [haystack.Document(content=text) for text in texts])
    assert output["answers"][0].data == "Nobel Prize"
    model = runnables.RunnableLambda(phrases_or_answer)
    robust = LangChainGenerator(llm=model, aggregation="keyword", long_form=True)
    context = [documents.Document(page_content=text, id=text) for text in texts]
    assert robust.invoke({"question": "bio", "context": context}).content == "Nobel Prize"
