"""A Hugging Face folder as the model of the Haystack component."""

from __future__ import annotations

import pytest

pytest.importorskip("haystack")

from haystack import Pipeline
from haystack.dataclasses import StreamingChunk

from haystack_integrations.components.generators.robust_components import RobustRAGGenerator
from robust_components import Certificate

QUERY = "What is the capital of France?"


@pytest.fixture(scope="module")
def folder(tiny_models, tmp_path_factory):
    return tiny_models.saved(tmp_path_factory.mktemp("tiny"), chat=True)


@pytest.mark.parametrize("eta", [0, "0.1"])
async def test_it_answers_from_yaml_and_streams(folder, documents, eta):
    component = RobustRAGGenerator(
        aggregation="decoding",
        token_model=folder,
        token_model_kwargs={"dtype": "float32", "max_passage_tokens": 32},
        gamma=1,
        eta=eta,
        max_tokens=4,
    )
    pipeline = Pipeline()
    pipeline.add_component("rag", component)
    loaded = Pipeline.loads(pipeline.dumps())
    chunks: list[StreamingChunk] = []
    inputs = {"query": QUERY, "documents": documents, "streaming_callback": chunks.append}
    result = loaded.run({"rag": inputs})["rag"]
    text = result["replies"][0].text
    assert "".join(chunk.content for chunk in chunks) == text == result["answers"][0].data
    certificate = Certificate.from_dict(result["certificate"])
    assert certificate.verify() and certificate.model["name"] == folder
    assert certificate.parameters["eta"] == str(eta)
    awaited = await component.run_async(QUERY, documents)
    assert awaited["replies"][0].text == text
    assert [d.meta["robust_rag"]["failure"] for d in awaited["answers"][0].documents] == [None] * 6


def test_it_loads_once_at_warm_up(folder, documents, monkeypatch):
    from robust_components.models import token_models

    loaded = []
    load = token_models.load_token_model

    def counting(*args, **options):
        loaded.append(options)
        return load(*args, **options)

    monkeypatch.setattr(token_models, "load_token_model", counting)
    component = RobustRAGGenerator(aggregation="decoding", token_model=folder, max_tokens=3)
    assert loaded == []
    component.warm_up()
    component.warm_up()
    component.run(QUERY, documents)
    assert loaded == [{"max_answer_tokens": 3}]


@pytest.mark.parametrize("name", ["./nowhere", "./nowhere/model.gguf"])
async def test_a_model_that_is_not_there_is_an_error(name, documents, tiny_models):
    component = RobustRAGGenerator(aggregation="decoding", token_model=name)
    with pytest.raises((OSError, ValueError, ImportError), match=r"nowhere|llama"):
        component.warm_up()
    with pytest.raises((OSError, ValueError, ImportError), match=r"nowhere|llama"):
        await component.run_async(QUERY, documents)
