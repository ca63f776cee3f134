"""The arithmetic of classification certificates: honest ones pass, forged and malformed do not."""

from __future__ import annotations

import copy
import hashlib
import itertools
import random
import time
import warnings

import pytest

from robust_components.certificate import Certificate
from robust_components.classification import (
    CluCertClassifier,
    KeepImportant,
    RefineCopies,
    RefineText,
)
from robust_components.classification.substitute import Substitution, SynonymClasses
from robust_components.models.testing import TableClassifier, TableProbabilities
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask
from robust_components.threats import SynonymEdits, WordEdits
from robust_components.verification import problems

LABELS = ("bad", "fair", "good")
GOOD, MIXED = " ".join(["good"] * 15), " ".join(["good"] * 24 + ["bad"] * 2)


def draw(seed, text, most):
    digest = hashlib.blake2b(f"{seed} {text}".encode("utf-8", "replace"), digest_size=4).digest()
    return int.from_bytes(digest, "big") % most


def opinion(text):
    return "good" if "good" in text else "bad" if "bad" in text else None


def shares(text):
    words = [word for word in text.split() if word != "[MASK]"]
    return {"good": (words.count("good") + 0.2) / (len(words) + 0.5), "bad": 0.02}


def classify(mechanism, text=GOOD, *, soft=False, table=None, **options):
    table = table or (shares if soft else opinion)
    model = TableProbabilities(table, LABELS) if soft else TableClassifier(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CluCertClassifier(model, mechanism, **options).classify(text)


def sampled_mask(samples=60):
    return RandomMask(0.9, samples=samples, seed=0)


KINDS = {
    "fixed": lambda: classify(BalancedMask(7, seed=3), threat=WordEdits(2)),
    "seen": lambda: classify(BalancedMask(4, 3, seed=3), MIXED, soft=True),
    "buckets": lambda: classify(
        HashBuckets(9, seed=1), "a b c d e f g", labels=LABELS, table=lambda text: "good"
    ),
    "all masks": lambda: classify(RandomMask(0.9, 200, seed=0), "good " * 7),
    "sampled": lambda: classify(sampled_mask(), MIXED),
    "soft": lambda: classify(sampled_mask(40), GOOD * 3, soft=True),
    "counts": lambda: classify(sampled_mask(40), MIXED, bound="clopper_pearson"),
    "published": lambda: classify(RandomMask(0.8, 40, seed=0), MIXED, method="clucert"),
}
METHOD = {
    **dict.fromkeys(KINDS, "classification"),
    **dict.fromkeys(("sampled", "soft", "counts"), "sampled_classification"),
    "published": "clucert",
}
GROUPS = {
    "any": list(KINDS),
    "exact": ["fixed", "seen", "buckets", "all masks"],
    "drawn": ["sampled", "soft", "counts"],
}


def honest(kind):
    return KINDS[kind]().certificate.to_dict()


# ------------------------------------------------------------------------------------- honest

HONEST = {
    "balanced": (BalancedMask(5), {}),
    "partitions": (BalancedMask(5, 4, span=2), {"threat": WordEdits(2)}),
    "pieces": (BalancedMask(5, span=None), {}),
    "shifted pieces": (BalancedMask(5, 4, span=None), {"threat": WordEdits(2)}),
    "important words, pieces": (BalancedMask(9, 2, span=None), {"refine": KeepImportant(6, len)}),
    "many partitions of long texts": (BalancedMask(3, 30), {}),
    "masked": (BalancedMask(4, mask_token="[M]"), {"labels": LABELS}),
    "pre-attack": (BalancedMask(4), {"statement": "pre_attack"}),
    "buckets": (HashBuckets(9), {}),
    "buckets, substitutions": (HashBuckets(9, 2), {"threat": WordEdits(1, "substitute")}),
    "important words": (BalancedMask(9), {"refine": KeepImportant(6, len)}),
    "important words, buckets": (HashBuckets(9), {"refine": KeepImportant(6, len)}),
    "important words, masks": (RandomMask(0.8, 60), {"refine": KeepImportant(6, len)}),
    "important words, sampled": (RandomMask(0.8, 60), {"refine": KeepImportant(20, len)}),
    "refined copies": (BalancedMask(5), {"refine": RefineCopies(str.lower)}),
    "refined text": (BalancedMask(5), {"refine": RefineText(lambda text: text[:30])}),
    "variants": (BalancedMask(5), {"substitute": Substitution()}),
    "classes": (BalancedMask(5), {"substitute": SynonymClasses(), "statement": "pre_attack"}),
    "kernels": (RandomMask(0.8, 60), {"substitute": "kernels", "threat": SynonymEdits(3)}),
    "random": (RandomMask(0.9, 90), {}),
    "random, all samples": (RandomMask(0.9, 90), {"adaptive": False}),
    "random, loose": (RandomMask(0.7, 60, None), {"alpha": 0.3, "threat": WordEdits(4)}),
    "counts": (RandomMask(0.8, 60), {"bound": "clopper_pearson"}),
    "draws": (RandomMask(0.8, 60), {"randomised": True}),
    "trusted draws": (RandomMask(0.8, 60), {"randomised": True, "trust_draws": True}),
    "published": (RandomMask(0.6, 60), {"method": "clucert"}),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_certificates_verify(name):
    mechanism, options = HONEST[name]
    labelled = 0
    for seed in range(6):
        generator = random.Random(f"{name} {seed}")
        words = ["good", "bad", "so", "Fine!", "\u4e16", "\ud800"]
        weights = [8, 1, 1, 1, 1, 1] if seed % 3 else [1, 1, 1, 1, 1, 1]
        text = " ".join(generator.choices(words, weights, k=generator.choice([0, 1, 2, 6, 14, 40])))

        def table(text, seed=seed):
            if seed % 4 == 0:
                return (None, *LABELS, "other")[
                    draw(seed, text, 5 if not options.get("labels") else 4)
                ]
            return opinion(text)

        soft_table = shares if seed % 2 else lambda t: {LABELS[draw(1, t, 3)]: draw(2, t, 9) / 8}
        only_hard = {"bound", "method", "labels"} & options.keys()
        for soft in (False,) if only_hard else (False, True):
            found = classify(
                mechanism, text, soft=soft, table=soft_table if soft else table, **options
            )
            certificate = found.certificate
            labelled += found.label is not None
            assert certificate.problems() == [], certificate.to_json()
            again = Certificate.from_json(certificate.to_json())
            assert again == certificate and again.verify()
            assert problems(certificate.sign("secret").to_dict(), "secret") == []
            assert found.radius in (certificate.radius, -1)
            assert (found.radius == -1) == (found.label is None)
    assert labelled


def test_failed_copies_are_stated_and_verified(forge):
    def table(text):
        if "b0" in text:
            raise RuntimeError("no answer")
        return "good"

    found = classify(BalancedMask(7), " ".join(f"b{i}" for i in range(7)), table=table)
    assert found.failed == 1
    assert found.radius == 2  # 6 votes, 1 for the rival: 5 ahead, 2 lost an edit
    assert found.certificate.problems() == []
    data = found.certificate.to_dict()
    where = data["evidence"]["votes"].index(-2)
    forged = put(data, (("evidence", "votes", where), -1))
    assert problems(forge.reseal(forged))


def test_certificates_concern_their_own_text():
    found = classify(BalancedMask(5), GOOD)
    assert found.concerns(GOOD)
    assert not found.concerns(GOOD + " ")
    assert not found.concerns(MIXED)
    refined = classify(BalancedMask(5), GOOD, refine=RefineText(lambda text: text[:14]))
    assert refined.concerns(GOOD)
    digest = hashlib.sha256(GOOD[:14].encode()).hexdigest()
    assert refined.certificate.evidence["refined"] == digest


# -------------------------------------------------------------------------------------- forged


def put(data, *changes):
    """A copy with other values at the given paths, ``(path, value)`` each."""
    data = copy.deepcopy(data)
    for path, value in changes:
        at = data
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_number_breaks_the_digest(kind, forge):
    data = honest(kind)
    assert data["method"] == METHOD[kind]
    assert data["certified"]
    assert problems(data) == []
    for path, other in itertools.islice(forge.changed_numbers(data), 0, 400, 3):
        assert problems(other), path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", [-2, -1, 1, 2, 50])
def test_another_radius_is_noticed_whatever_the_claim_says(kind, by, forge):
    data = honest(kind)
    stated, radius = data["radius"], data["radius"] + by
    if radius < 0:
        return
    budget = data["threat"]["budget"]
    other = put(data, (("radius",), radius), (("certified",), radius >= budget))
    held = f"; it holds up to {radius}" if radius else ""
    reason = (
        f"Another label after {budget} edited word{'s' * (budget > 1)} cannot be excluded{held}."
    )
    other["reason"] = None if other["certified"] else reason
    verbs = [f"{n} word{'s' * (n > 1)} {'were' if n > 1 else 'was'}" for n in (stated, radius)]
    claim = data["claim"].replace(*verbs)
    if radius == 0:
        claim = 'Nothing is guaranteed about whether the label "good" withstands edits.'
    assert claim != data["claim"]
    forged = forge.reseal({**other, "claim": claim})
    assert any("radius" in one for one in problems(forged)), problems(forged)


FORGERIES = {
    "claim without a number": ("any", [(("claim",), "Nothing can ever change the label.")]),
    "other label in the claim": ("any", [(("evidence", "label"), "bad")]),
    "no label": ("any", [(("evidence", "label"), None)]),
    "other statement": ("any", [(("statement",), "pre_attack")]),
    "operations the mechanism does not cover": ("any", [(("threat", "operations"), "all")]),
    "other threat": ("any", [(("threat",), SynonymEdits(1).to_dict())]),
    "no budget": ("any", [(("threat", "budget"), 0)]),
    "missing assumption": ("any", [(("assumptions",), [])]),
    "friendlier assumption": ("any", [(("assumptions", 1), "Attackers are friendly.")]),
    "an assumption too many": ("any", [(("assumptions",), ["So be it."] * 9)]),
    "stronger guarantee": ("published", [(("guarantee",), "deterministic")]),
    "heuristic as probabilistic": (
        "published",
        [(("guarantee",), "probabilistic"), (("confidence",), 0.95)],
    ),
    "heuristic as exact": ("published", [(("method",), "classification")]),
    "chance hidden": ("drawn", [(("guarantee",), "deterministic"), (("confidence",), None)]),
    "more confidence": ("drawn", [(("confidence",), 0.999)]),
    "more confidence, with alpha": (
        "drawn",
        [(("confidence",), 1 - 1e-30), (("parameters", "alpha"), "1e-30")],
    ),
    "alpha of one": ("drawn", [(("parameters", "alpha"), "1")]),
    "unknown bound": ("drawn", [(("parameters", "bound"), "guessing")]),
    "a bound that was not used": ("sampled", [(("parameters", "bound"), "clopper_pearson")]),
    "draws that were not checked": ("drawn", [(("parameters", "randomised"), True)]),
    "a draw that is no truth value": ("drawn", [(("parameters", "trust_draws"), 1)]),
    "unknown mechanism": ("any", [(("parameters", "mechanism", "name"), "magic")]),
    "another mechanism": ("fixed", [(("parameters", "mechanism", "name"), "hash_buckets")]),
    "more blocks": ("fixed", [(("parameters", "mechanism", "blocks"), 50)]),
    "more partitions": ("fixed", [(("parameters", "mechanism", "partitions"), 2)]),
    "another seed, so other words together": (
        "seen",
        [(("parameters", "mechanism", "partitions"), 1)],
    ),
    "another rate": ("drawn", [(("parameters", "mechanism", "mask_rate"), 1.5)]),
    "words hidden that were shown": (
        "all masks",
        [(("parameters", "mechanism", "mask_rate"), 0.5)],
    ),
    "fewer samples allowed": ("drawn", [(("parameters", "mechanism", "samples"), 1)]),
    "unknown votes": ("any", [(("parameters", "votes"), "loud")]),
    "labels as probabilities": ("fixed", [(("parameters", "votes"), "soft")]),
    "one label": ("any", [(("parameters", "labels"), ["good"])]),
    "a label twice": ("any", [(("parameters", "labels"), ["good", "good", "bad"])]),
    "labels closed": ("fixed", [(("parameters", "labels"), ["bad", "good"])]),
    "a margin for labels": ("fixed", [(("parameters", "numerical_margin"), "0.1")]),
    "a margin not stated": ("seen", [(("parameters", "numerical_margin"), "0")]),
    "refined after all": ("any", [(("parameters", "refine"), {"kind": "full_text", "name": "x"})]),
    "refined in copies": ("any", [(("parameters", "refine"), {"kind": "in_sample", "name": "x"})]),
    "important words": (
        "any",
        [(("parameters", "refine"), {"kind": "word_importance", "name": "x", "keep": 3})],
    ),
    "unknown refinement": ("any", [(("parameters", "refine"), {"kind": "magic", "name": "x"})]),
    "classes": ("any", [(("parameters", "substitute"), {"kind": "classes"})]),
    "kernels": ("any", [(("parameters", "substitute"), {"kind": "kernels", "variation": "0"})]),
    "clusters of nothing": ("any", [(("parameters", "cluster"), {"kind": "dbscan"})]),
    "another question": ("any", [(("evidence", "inputs", "query"), "0" * 64)]),
    "two texts": ("any", [(("evidence", "inputs", "passages"), ["0" * 64] * 2)]),
    "no digest": ("any", [(("evidence", "inputs", "passages"), ["good text"])]),
    "refined text without refinement": ("any", [(("evidence", "refined"), "0" * 64)]),
    "more words than shown": ("any", [(("evidence", "words"), -1)]),
    "votes left out": ("any", [(("evidence", "votes"), [])]),
    "votes of nobody": ("any", [(("evidence", "votes", 0), 7)]),
    "a vote that is a truth value": ("any", [(("evidence", "votes", 0), True)]),
    "a vote for two": ("seen", [(("evidence", "votes", 0), [10**9 + 1, 0, 0])]),
    "a label nobody gave": ("fixed", [(("evidence", "labels"), ["good", "other"])]),
    "labels in another order": ("seen", [(("evidence", "labels"), ["good", "fair", "bad"])]),
    "no selection": ("drawn", [(("evidence", "selection"), [])]),
    "repetitions": ("drawn", [(("evidence", "repeats"), [30, 2])]),
    "a larger bound": ("published", [(("evidence", "low"), 999_999_999)]),
    "a smaller bound": ("published", [(("evidence", "low"), 600_000_000)]),
    "other samples": ("published", [(("evidence", "drawn"), 39)]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_noticed(name, forge):
    group, changes = FORGERIES[name]
    for kind in GROUPS.get(group, [group]):
        data = honest(kind)
        forged = put(data, *changes)
        if forged == data:
            continue
        assert problems(forge.reseal(forged)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_votes_against_the_label_make_the_radius_smaller(kind, forge):
    """Every vote counts: with some of them turned the stated radius no longer follows."""
    data = honest(kind)
    labels = data["evidence"]["labels"]
    votes = data["evidence"]["votes"]
    turned = []
    for vote in votes:
        if isinstance(vote, list):
            turned.append([10**9 if name == "bad" else 0 for name in labels])
        else:
            turned.append(-2)
    number = max(2, len(votes) // 2)
    forged = put(data, (("evidence", "votes"), turned[:number] + votes[number:]))
    assert problems(forge.reseal(forged))


@pytest.mark.parametrize("kind", ["sampled", "soft"])
def test_the_order_of_the_votes_counts(kind, forge):
    """A betting bound is made of the votes one by one: bad ones first prove less."""
    data = honest(kind)
    votes = data["evidence"]["votes"]
    for_good, against = [0, 0, 10**9] if kind == "soft" else 0, -2
    worse = [against] * (len(votes) // 3) + votes[len(votes) // 3 :]
    assert problems(forge.reseal(put(data, (("evidence", "votes"), worse))))
    late = put(data, (("evidence", "votes"), [for_good] * 30 + [against] * 10))
    early = put(data, (("evidence", "votes"), [against] * 10 + [for_good] * 30))
    assert problems(forge.reseal(late)) != problems(forge.reseal(early))


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_evidence_is_a_problem_not_a_traceback(kind, forge):
    data = honest(kind)
    votes = data["evidence"]["votes"]
    count = 0
    step = 5 + len(votes) // 3
    for other in itertools.islice(forge.malformed(data), 0, None, step):
        count += 1
        found = problems(other)
        assert isinstance(found, list) and all(isinstance(one, str) for one in found)
        assert not any("cannot be read" in one for one in found), (found, other)
    assert count > 100


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_or_added_is_noticed(kind, forge):
    """Every field of parameters and evidence is needed, and no other is allowed."""
    data = honest(kind)
    for part in ("parameters", "evidence", "threat"):
        for name in data[part]:
            less = put(data, ((part,), {k: v for k, v in data[part].items() if k != name}))
            assert problems(forge.reseal(less)), (part, name)
        more = put(data, ((part, "more"), 1))
        assert problems(forge.reseal(more)), part


def test_long_texts_are_checked_quickly():
    text = " ".join(["good"] * 10_000)
    began = time.process_time()
    for mechanism in (BalancedMask(10, 3), HashBuckets(10), RandomMask(0.99, 60, seed=0)):
        certificate = classify(mechanism, text).certificate
        assert certificate.problems() == []
    assert time.process_time() - began < 30


def test_evidence_too_large_to_check_is_refused_in_time(forge):
    data = honest("seen")
    began = time.process_time()
    forged = put(
        data,
        (("parameters", "mechanism", "blocks"), 20_000),
        (("parameters", "mechanism", "partitions"), 5),
        (("evidence", "votes"), [[10**9, 0, 0]] * 100_000),
        (("evidence", "words"), 400),
    )
    assert problems(forge.reseal(forged))
    forged = put(data, (("parameters", "mechanism", "blocks"), 10**9))
    assert problems(forge.reseal(forged))
    forged = put(
        honest("all masks"),
        (("parameters", "mechanism", "samples"), 10**9),
        (("parameters", "mechanism", "mask_rate"), 0.5),
        (("evidence", "words"), 10_000),
    )
    assert problems(forge.reseal(forged))
    assert time.process_time() - began < 20
