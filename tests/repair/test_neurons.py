"""Layers are found, activations and gradients are right, and nothing stays behind."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from torch import nn

from robust_components.repair.neurons import (
    Activations,
    by_layer,
    find_layers,
    number_of_neurons,
)
from robust_components.repair.scan import activations, batches, influence
from tests.repair.conftest import KINDS, network_of

PAIRS = [("who is the man", "the man a b c"), ("what city", "a river is the city d e f g h")]
POOLINGS = ("document", "first", "last", "all")


def hooks(network):
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in network.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_of_every_architecture_is_found(kind, make_scorer):
    layers = find_layers(make_scorer(kind).network)
    assert len(layers) == (4 if kind.endswith("T5") else 2)
    assert number_of_neurons(layers) == 24 * len(layers)
    gated = kind in ("ModernBert", "gated T5", "Llama", "causal Llama")
    assert all(len(layer.rows) == (2 if gated else 1) for layer in layers)
    assert sum(layer.single for layer in layers) == (2 if kind.endswith("T5") else 0)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_influence_is_the_finite_difference_of_the_logit(kind, pooling, make_scorer):
    """Shift one neuron at the positions that count, by hand, and see what the logit does."""
    scorer = make_scorer(kind, double=True)
    layers = find_layers(scorer.network)
    means, slopes = influence(scorer, layers, PAIRS, pooling)
    assert torch.allclose(means, activations(scorer, layers, PAIRS, pooling), atol=1e-5)
    step, seen = 1e-3, 0  # norms and rotary embeddings are in float32 whatever the weights are
    for place, layer in enumerate(layers):
        before = sum(one.width for one in layers[:place])
        neuron = int(slopes[:, before : before + layer.width].abs().max(0).values.argmax())
        logits, masks = {}, []
        for sign in (1, -1):

            def shift(module, given, sign=sign, neuron=neuron, layer=layer, masks=masks):
                moved = given[0].clone()
                counted = masks[-1][:, :1].clamp(min=1) if layer.single else masks[-1]
                moved[:, :, neuron] += sign * step * counted
                return (moved, *given[1:])

            hook = layer.second.register_forward_pre_hook(shift)
            found = torch.empty(len(PAIRS), dtype=torch.float64)
            with torch.no_grad():
                for batch in batches(scorer, PAIRS, pooling):
                    masks.append(batch.mask)
                    found[torch.tensor(batch.places)] = scorer.relevance(batch.inputs)
            hook.remove()
            logits[sign] = found
        expected = (logits[1] - logits[-1]) / (2 * step)
        got = slopes[:, before + neuron].double()
        assert torch.allclose(got, expected, rtol=2e-2, atol=5e-4), (layer.name, got, expected)
        seen += int((expected.abs() > 1e-2).any())
    assert seen or pooling in ("first", "last")  # some neuron matters


@pytest.mark.parametrize("kind", KINDS)
def test_means_are_those_of_the_document_alone(kind, make_scorer):
    """By hand, one pair at a time, from what the second linear map reads."""
    scorer = make_scorer(kind)
    layers = find_layers(scorer.network)
    found = activations(scorer, layers, PAIRS)
    for at, pair in enumerate(PAIRS):
        (row,), _ = scorer.encoder.encode([pair])
        places = scorer.encoder.document_places(pair[0], row)
        words = scorer.encoder.ids_of(pair[1])
        assert row["input_ids"][places.start : places.stop] == words
        read = []

        def keep(module, given, read=read):
            read.append(given[0][0])

        hooks_ = [layer.second.register_forward_pre_hook(keep) for layer in layers]
        with torch.no_grad():
            scorer.relevance({k: torch.tensor(v) for k, v in scorer.encoder.pad([row]).items()})
        for hook in hooks_:
            hook.remove()
        means = [
            values[0] if layer.single else values[places.start : places.stop].mean(0)
            for layer, values in zip(layers, read, strict=True)
        ]
        assert torch.allclose(found[at], torch.cat(means), atol=1e-5)


def test_hooks_are_removed_however_the_block_ends(make_scorer):
    scorer = make_scorer()
    layers = find_layers(scorer.network)
    before = hooks(scorer.network)
    influence(scorer, layers, PAIRS)
    assert hooks(scorer.network) == before
    with pytest.raises(KeyboardInterrupt), Activations(layers):
        assert hooks(scorer.network) == before + len(layers)
        raise KeyboardInterrupt
    assert hooks(scorer.network) == before
    broken = scorer.relevance
    scorer.relevance = lambda inputs: broken({"input_ids": inputs["input_ids"] + 10**6})
    with pytest.raises(IndexError):
        influence(scorer, layers, PAIRS)
    assert hooks(scorer.network) == before


def test_hooks_are_removed_when_a_layer_cannot_take_one(make_scorer):
    scorer = make_scorer()
    layers = find_layers(scorer.network)
    before = hooks(scorer.network)

    def refuse(hook):
        raise RuntimeError("no")

    layers[1].second.register_forward_pre_hook = refuse
    with pytest.raises(RuntimeError, match="no"), Activations(layers):
        pass
    assert hooks(scorer.network) == before


def test_a_network_without_known_layers_is_refused_with_what_was_looked_for():
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4))
    network.config = type("Config", (), {})()
    with pytest.raises(ValueError, match=r"down_proj after gate_proj and up_proj"):
        find_layers(network)


def test_quantised_and_wrapped_layers_are_refused(make_scorer):
    network = make_scorer().network
    quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ValueError, match=r"quantised or wrapped.*float32"):
        find_layers(quantised)


def test_tied_layers_are_refused(make_scorer):
    network = make_scorer().network
    layers = network.bert.encoder.layer
    layers[1].intermediate.dense.weight = layers[0].intermediate.dense.weight
    with pytest.raises(ValueError, match=r"layer\.0\.intermediate.*tied.*layer\.1"):
        find_layers(network)
    network = make_scorer().network
    network.bert.encoder.layer[1] = network.bert.encoder.layer[0]
    with pytest.raises(ValueError, match="tied"):
        find_layers(network)


def test_neurons_are_counted_through_the_layers(make_scorer):
    layers = find_layers(make_scorer().network)
    assert by_layer(layers, [25, 0, 47, 24]) == [[0], [0, 1, 23]]
    with pytest.raises(ValueError, match="beyond the 48"):
        by_layer(layers, [48])


def test_a_known_head_count_for_the_embedded_shape():
    """Six layers of 1,536: 9,216 neurons."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30,
        hidden_size=12,
        num_attention_heads=2,
        num_hidden_layers=6,
        intermediate_size=1536,
    )
    assert number_of_neurons(find_layers(BertForSequenceClassification(config))) == 9216


def test_random_networks_of_the_tests_differ_from_each_other():
    assert {type(network_of(kind, 40)).__name__ for kind in KINDS} >= {"T5ForConditionalGeneration"}
