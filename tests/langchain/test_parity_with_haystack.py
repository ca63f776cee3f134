"""Same question, passages and model: same answer and certificate in both frameworks."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core")
pytest.importorskip("haystack")
pytest.importorskip("haystack_integrations.components.generators.robust_components")

import haystack
from haystack.components.generators.chat import MockChatGenerator
from haystack.dataclasses import ChatMessage
from langchain_core.documents import Document
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

import robust_components
from haystack_integrations.components.generators.robust_components import (
    RobustRAGGenerator as HaystackGenerator,
)
from langchain_robust import RobustRAGGenerator
from robust_components import Certificate

CITIES = ("Paris", "Rome", "Oslo", "new Paris")
MAY_DIFFER = ("cost", "digest", "model")
READER = Path(robust_components.__file__).parent / "models" / "weights" / "reader"


def said(prompt: str) -> str:
    """A deterministic model: some passages name a city, some make the call fail."""
    if "broken" in prompt:
        raise ConnectionError("the provider is down")
    cities = [city for city in CITIES if city.lower() in prompt.lower()]
    return cities[0] + "." if cities else "I don't know."


def random_passages(rng: random.Random) -> list[dict[str, Any]]:
    """Passages with shared sources, doubled ids, failures and abstentions."""
    passages = []
    for i in range(rng.choice((0, 2, 6, 8, 10))):
        words = rng.choices((*CITIES, "nothing", "broken"), weights=(14, 2, 1, 1, 2, 1))[0]
        source = rng.choice(("a", "b", "c", None, None, None))
        meta = {"note": "x"} if source is None else {"source_id": source}
        ident = "same" if rng.random() < 0.1 else f"id {i}"
        passages.append({"content": f"Passage {i} has {words}.", "meta": meta, "id": ident})
    return passages


def settings(rng: random.Random, aggregation: str) -> dict[str, Any]:
    return {
        "aggregation": aggregation,
        "corruption_size": rng.choice((1, 1, 2)),
        "top_k": rng.choice((None, 5, 10)),
        **(
            {"choices": rng.choice((None, None, ["Paris", "Rome"]))}
            if aggregation == "voting"
            else {"alpha": rng.choice((0.3, 0.5, "0.6")), "beta": rng.choice((2, 2.5, "3"))}
        ),
        "on_uncertified": rng.choice(("answer", "abstain")),
        "retries": 0,
    }


def comparable(certificate: dict[str, Any]) -> dict[str, Any]:
    assert Certificate.from_dict(certificate)
    return {name: value for name, value in certificate.items() if name not in MAY_DIFFER}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("aggregation", ["voting", "keyword"])
async def test_same_answer_and_certificate(aggregation: str, asynchronous: bool) -> None:
    if aggregation == "keyword":
        pytest.importorskip("spacy")
    llm = RunnableLambda(lambda prompt: AIMessage(said(prompt)))
    mock = MockChatGenerator(
        response_fn=lambda messages: ChatMessage.from_assistant(said(messages[-1].text))
    )
    rng = random.Random(7)
    pairs = []
    for _ in range(6):
        chosen = settings(rng, aggregation)
        pairs.append((RobustRAGGenerator(llm=llm, **chosen), HaystackGenerator(mock, **chosen)))
    certified = 0
    for ours, theirs in pairs * 5:
        passages = random_passages(rng)
        documents = [Document(p["content"], id=p["id"], metadata=p["meta"]) for p in passages]
        there = [haystack.Document(**passage) for passage in passages]
        given = {"question": "Which city?", "context": documents}
        if asynchronous:
            message = await ours.ainvoke(given)
            outputs = await theirs.run_async(query="Which city?", documents=there)
        else:
            message = ours.invoke(given)
            outputs = theirs.run(query="Which city?", documents=there)
        (answer,) = outputs["answers"]
        data = message.response_metadata
        assert message.content == answer.data
        assert comparable(data["certificate"]) == comparable(outputs["certificate"])
        assert data["passages"] == [d.meta["robust_rag"] for d in answer.documents]
        for name in ("abstained", "sources", "keywords"):
            assert data[name] == answer.meta[name]
        certified += data["certificate"]["certified"]
    assert 3 < certified < 27


@pytest.mark.skipif(
    not READER.is_dir() or importlib.util.find_spec("peft") is None,
    reason="needs the embedded reader's weights and the extra 'transformers'",
)
@pytest.mark.parametrize("on_uncertified", ["answer", "abstain"])
def test_same_decoding_and_same_stream(on_uncertified: str) -> None:
    texts = [
        "Hamlet was written by William Shakespeare.",
        "Francis Bacon wrote Hamlet.",
        "Hamlet was written by Shakespeare.",
        "Shakespeare, William, is the author of Hamlet.",
    ]
    chosen = {"aggregation": "decoding", "on_uncertified": on_uncertified}
    given = {"question": "Who wrote Hamlet?", "context": [Document(t, id=t) for t in texts]}
    chunks = list(RobustRAGGenerator(**chosen).stream(given))
    sent: list[Any] = []
    outputs = HaystackGenerator(**chosen).run(
        query="Who wrote Hamlet?",
        documents=[haystack.Document(content=text, id=text) for text in texts],
        streaming_callback=sent.append,
    )
    assert [chunk.content for chunk in chunks] == [chunk.content for chunk in sent]
    data = chunks[-1].response_metadata
    assert comparable(data["certificate"]) == comparable(outputs["certificate"])
    assert data["tokens"] == outputs["replies"][0].meta["tokens"]
    assert data["abstained"] == (on_uncertified == "abstain")
    assert data["abstained"] or len(chunks) > 1
