"""Patch files somebody else wrote: a digest that fits is not enough."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from safetensors.torch import save_file

from robust_components import NeuronRepairedRanker
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair.patch import Patch, weights_hash
from robust_components.repair.perturb import NeuronRows
from robust_components.threats import PassageModification
from tests.repair.test_repair import bits, same
from tests.repair.toy import toy_patch

DOCUMENTS = ["the man a b", "a river c d e", "what city"]


@pytest.fixture(scope="module")
def patch(tiny_ranker, tmp_path_factory):
    return Patch.load(toy_patch(tiny_ranker, tmp_path_factory.mktemp("patch"))[0])


def with_figures(patch, **changes):
    return dataclasses.replace(patch, figures={**patch.figures, **changes})


def counts(before, after):
    return {
        when: {"lists": number[0], "succeeded": number[1], "gain": 0.0}
        for when, number in (("before", before), ("after", after))
    }


SAID = {
    "base": lambda p: dataclasses.replace(p, base="none"),
    "base_name": lambda p: dataclasses.replace(p, base_name=3),
    "probes": lambda p: dataclasses.replace(p, probes=p.probes.upper()),
    "neurons": lambda p: dataclasses.replace(p, settings={}),
    "settings": lambda p: dataclasses.replace(p, settings={"neurons": True}),
    "held_out": lambda p: dataclasses.replace(p, figures={"clean_drift": p.figures["clean_drift"]}),
    "kinds": lambda p: with_figures(p, certified=counts((1, 1), (1, 0))),
    "clean_drift": lambda p: with_figures(p, clean_drift={}),
    "kendall_tau": lambda p: with_figures(p, clean_drift={"kendall_tau": 2.0, "largest": 0.0}),
    "largest": lambda p: with_figures(p, clean_drift={"kendall_tau": 1.0, "largest": math.inf}),
    "succeeded": lambda p: with_figures(p, unseen=counts((2, 3), (2, 0))),
    "lists": lambda p: with_figures(p, adaptive=counts((5, 3), (500, 0))),
    "gain": lambda p: with_figures(
        p, unseen={w: {"lists": 1, "succeeded": 0, "gain": math.nan} for w in ("before", "after")}
    ),
    "number": lambda p: with_figures(p, unseen=counts((2.0, 1), (2.0, 0))),
    "seconds": lambda p: dataclasses.replace(p, seconds="long"),
}


@pytest.mark.parametrize("field", SAID)
def test_figures_that_no_repair_writes_are_refused(field, patch, tiny_ranker, tmp_path):
    odd = SAID[field](patch)
    odd.save(tmp_path / "odd")
    with pytest.raises(ValueError, match="not as a repair writes it"):
        Patch.load(tmp_path / "odd")
    with pytest.raises(ValueError, match="not as a repair writes it"):
        NeuronRepairedRanker(load_pair_scorer(tiny_ranker), odd)


def rows_with(patch, **changes):
    first, *others = patch.rows
    return dataclasses.replace(patch, rows=(dataclasses.replace(first, **changes), *others))


def filled(tensor, value):
    found = tensor.clone()
    found.view(-1)[1] = value
    return found


ROWS = {
    "nan": lambda p: rows_with(p, weight=filled(p.rows[0].weight, math.nan)),
    "infinity": lambda p: rows_with(p, weight=filled(p.rows[0].weight, math.inf)),
    "nan bias": lambda p: rows_with(p, bias=filled(p.rows[0].bias, math.nan)),
    "a row twice": lambda p: rows_with(p, index=p.rows[0].index[:1].expand(len(p.rows[0].index))),
    "a map twice": lambda p: dataclasses.replace(p, rows=(*p.rows, copy.deepcopy(p.rows[0]))),
    "no rows": lambda p: dataclasses.replace(p, rows=()),
    "mask": lambda p: rows_with(p, index=p.rows[0].index.to(torch.uint8)),
    "float index": lambda p: rows_with(p, index=p.rows[0].index.float()),
    "from behind": lambda p: rows_with(p, index=p.rows[0].index - 100),
    "too few": lambda p: rows_with(p, weight=p.rows[0].weight[:1]),
    "too few biases": lambda p: rows_with(p, bias=p.rows[0].bias[:1]),
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_that_no_repair_makes_are_refused(kind, patch, tiny_ranker, tmp_path):
    odd = ROWS[kind](patch)
    odd.save(tmp_path / "odd")
    with pytest.raises(ValueError, match="not as a repair writes it"):
        Patch.load(tmp_path / "odd")
    model = load_pair_scorer(tiny_ranker)
    before = bits(model.network)
    with pytest.raises(ValueError, match="not as a repair writes it"):
        odd.apply(model)
    assert same(model.network, before)


ELSEWHERE = {
    "beyond the map": lambda one: {"index": one.index + 10**6},
    "wide": lambda one: {"weight": one.weight.repeat(1, 2)},
    "another map": lambda one: {"name": one.name.replace("intermediate.dense", "output.dense")},
    "no module": lambda one: {"name": "nowhere"},
    "no bias": lambda one: {"bias": None},
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_rows_a_model_lacks_are_refused_and_nothing_is_written(kind, patch, tiny_ranker):
    model = load_pair_scorer(tiny_ranker)
    before = bits(model.network)
    *others, last = patch.rows
    odd = dataclasses.replace(last, **ELSEWHERE[kind](last))
    with pytest.raises(ValueError, match="that this model lacks"):
        dataclasses.replace(patch, rows=(*others, odd)).apply(model)
    assert same(model.network, before)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", "{}", "nothing", '{"version": "2"}'])
def test_headers_that_are_none_are_refused(text, tmp_path):
    save_file({"0.index": torch.tensor([1])}, tmp_path / "odd", {"repair": text})
    with pytest.raises(ValueError, match="no patch"):
        Patch.load(tmp_path / "odd")


def test_patches_of_version_1_are_refused(patch, tmp_path):
    patch.save(tmp_path / "old")
    whole = (tmp_path / "old").read_bytes()
    (tmp_path / "old").write_bytes(whole.replace(b'version\\": \\"2', b'version\\": \\"1'))
    with pytest.raises(ValueError, match="no patch of version 2"):
        Patch.load(tmp_path / "old")


def test_half_precision_takes_no_patch_even_where_the_weights_are_the_same(patch, tiny_ranker):
    model = load_pair_scorer(tiny_ranker)
    model.network.half()
    here = dataclasses.replace(patch, base=weights_hash(model.network))
    before = bits(model.network)
    with pytest.raises(ValueError, match=r"float16 weights.*network\.float\(\)"):
        here.apply(model)
    assert same(model.network, before)


def test_huge_rows_give_no_ranking(patch, tiny_ranker):
    huge = tuple(
        NeuronRows(one.name, one.index, torch.full_like(one.weight, 1e38), one.bias)
        for one in patch.rows
    )
    ranker = NeuronRepairedRanker(
        load_pair_scorer(tiny_ranker), dataclasses.replace(patch, rows=huge)
    )
    with pytest.raises(ValueError, match="scores must be finite"):
        ranker.rank("who", DOCUMENTS)


def test_a_folder_that_is_missing_is_an_error_of_the_system(patch, tmp_path):
    with pytest.raises(OSError, match="none"):
        patch.save(tmp_path / "none" / "patch")
    with pytest.raises(OSError, match="directory"):
        patch.save(tmp_path)


def test_rankers_travel_whole(patch, tiny_ranker):
    ranker = NeuronRepairedRanker(load_pair_scorer(tiny_ranker), patch)
    again = pickle.loads(pickle.dumps(ranker))
    one, two = (r.rank("who", DOCUMENTS) for r in (ranker, again))
    assert one.items == two.items
    assert one.certificate.evidence == two.certificate.evidence
    assert two.certificate.verify()


def test_odd_arguments_of_the_ranker(patch, tiny_ranker):
    model = load_pair_scorer(tiny_ranker)
    with pytest.raises(TypeError, match="threat must be WordEdits"):
        NeuronRepairedRanker(model, patch, threat=PassageModification(1))
    ranker = NeuronRepairedRanker(model, patch)
    expected = ranker.rank("who", DOCUMENTS)
    assert ranker.rank("who", iter(DOCUMENTS)).items == expected.items
    for documents in (None, 3, "text", {"a": 1}, [b"a"], [None]):
        with pytest.raises(TypeError, match="documents must be a list of texts"):
            ranker.rank("who", documents)
    odd = ["", "a\ud800", "\x00", "the man " * 400]
    ranking = ranker.rank("who \udfff", odd)
    assert len(ranking.items) == 4
    assert ranking.certificate.verify()
    assert ranking.certificate.concerns("who \udfff", odd)
    alone = [ranker.score("who \udfff", [one])[0] for one in odd]
    assert [i.score for i in sorted(ranking.items, key=lambda i: i.index)] == pytest.approx(alone)


def test_every_edit_of_a_certificate_is_seen(patch, tiny_ranker):
    from robust_components.verification import problems

    ranker = NeuronRepairedRanker(load_pair_scorer(tiny_ranker), patch)
    data = ranker.rank("who", DOCUMENTS).certificate.to_dict()
    assert problems(data) == []

    def edited(value):
        if isinstance(value, bool) or value is None:
            return [not value]
        if isinstance(value, int | float):
            return [value + 1]
        if isinstance(value, str):
            return [value + " "]
        if isinstance(value, list):
            return [[*value, "more"], *([value[:-1]] if value else [])]
        return [{**value, "more": 1}, *({**value, k: v} for k in value for v in edited(value[k]))]

    edits = [{**data, name: value} for name in data for value in edited(data[name])]
    assert len(edits) > 40
    for one in edits:
        if one["signature"] is None:  # a signature is judged with its key alone
            assert problems(json.loads(json.dumps(one)))
