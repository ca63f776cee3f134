"""The arithmetic of ranking certificates: honest ones pass, forged and malformed ones do not."""

from __future__ import annotations

import copy
import hashlib
import itertools
import random
import time
import warnings

import pytest

from robust_components.certificate import Certificate
from robust_components.models.testing import TableScorer
from robust_components.ranking import SmoothedRanker
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask, TermCoverage
from robust_components.threats import WordEdits
from robust_components.verification import problems

SCOPES = ("promotion", "demotion", "any")
GOOD, BAD = " ".join(["good"] * 12), " ".join(["bad"] * 12)
TEXTS = [GOOD, BAD, "bad bad", BAD + " bad", ""]
COVERED = {
    "query": "good so q",
    "coverage": TermCoverage("0.35", weights={"good": 2, "so": 1}),
}


def draw(seed, text):
    return hashlib.blake2b(f"{seed} {text}".encode("utf-8", "replace"), digest_size=2).digest()[0]


def worth(query, text):
    return 0.9 if "good" in text else 0.2 if "bad" in text else 0.5


def votes(query, text):
    return float("good" in text)


def rank(mechanism, texts=TEXTS, *, score=worth, query="q", **options):
    options = {"statement": "pre_attack", "scope": "promotion", "top_k": 1} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SmoothedRanker(TableScorer(score), mechanism, **options).rank(query, texts)


def balanced():
    return rank(BalancedMask(5, seed=3), threat=WordEdits(2)).certificate.to_dict()


def covered():
    threat = WordEdits(2)
    return rank(BalancedMask(5, seed=3), **COVERED, threat=threat).certificate.to_dict()


def covered_document():
    threat = WordEdits(2)
    ranking = rank(BalancedMask(5, seed=3), **COVERED, threat=threat)
    return ranking.items[0].certificate.to_dict()


def balanced_document(place=0):
    return rank(BalancedMask(5, seed=3), threat=WordEdits(2)).items[place].certificate.to_dict()


def sampled(**options):
    return rank(RandomMask(0.9, samples=400, seed=0), **options).certificate.to_dict()


def sampled_document(**options):
    return rank(RandomMask(0.9, samples=400, seed=0), **options).items[0].certificate.to_dict()


def published():
    mechanism = RandomMask(0.5, samples=60, seed=0)
    texts = ["good", "bad bad", "good bad"]
    return rank(mechanism, texts, method="robustmask", scope=None).certificate.to_dict()


KINDS = {
    "ranking": balanced,
    "ranking_document": balanced_document,
    "covered": covered,
    "covered_document": covered_document,
    "sampled_ranking": sampled,
    "sampled_document": sampled_document,
    "robustmask": published,
}


# ------------------------------------------------------------------------------------- honest

HONEST = {
    "balanced": (BalancedMask(4), {}),
    "two partitions": (BalancedMask(3, 2, span=2), {"threat": WordEdits(2)}),
    "pieces": (BalancedMask(4, span=None), {}),
    "shifted pieces": (BalancedMask(3, 2, span=None), {"threat": WordEdits(2)}),
    "one block": (BalancedMask(1), {}),
    "masked": (BalancedMask(3, mask_token="[M]"), {"numerical_margin": 0}),
    "buckets": (HashBuckets(5), {"threat": WordEdits(2, "any")}),
    "buckets, substitutions": (HashBuckets(5, 2), {"threat": WordEdits(1, "substitute")}),
    "large budget": (BalancedMask(4), {"threat": WordEdits(50)}),
    "quantile": (BalancedMask(5, 2), {"aggregation": "quantile", "quantile": 0.3}),
    "least quantile": (HashBuckets(4), {"aggregation": "quantile", "quantile": 0.001}),
    "coverage": (BalancedMask(5, 2), COVERED | {"threat": WordEdits(2)}),
    "coverage, buckets": (HashBuckets(5), COVERED | {"threat": WordEdits(1, "any")}),
    "random": (RandomMask(0.8, samples=60, seed=1), {}),
    "random, loose": (RandomMask(0.9, samples=30, seed=1), {"alpha": 0.3, "threat": WordEdits(9)}),
    "few passes": (RandomMask(0.9, samples=90, seed=1), {"pass_budget": 40}),
    "counts": (RandomMask(0.9, samples=60, seed=1), {"bound": "clopper_pearson"}),
    "no samples": (RandomMask(0.9, samples=60, seed=1), {"pass_budget": 18}),
    "published": (RandomMask(0.5, samples=40, seed=1), {"method": "robustmask"}),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_certificates_verify(name):
    mechanism, options = HONEST[name]
    counted = options.get("bound") == "clopper_pearson"
    logits = options.get("aggregation") == "quantile"
    certified = 0
    for seed in range(6):
        generator = random.Random(f"{name} {seed}")
        words = ["good", "bad", "so", "\u4e16", "\ud800"]
        texts = [
            " ".join(generator.choices(words, k=generator.choice([0, 1, 2, 5, 30])))
            for _ in range(generator.choice([0, 1, 2, 4, 9]))
        ]
        texts += [GOOD] * (seed % 3)

        def score(query, text, seed=seed):
            if counted:
                return draw(seed, text) % 2 if seed % 2 else votes(query, text)
            if logits:
                return draw(seed, text) * 100.0 - 9000.0
            return draw(seed, text) / 255 if seed % 2 else worth(query, text)

        for scope in (*SCOPES, None):
            statement = "pre_attack" if scope else "observed"
            if options.get("method"):
                scope, statement = "promotion", "pre_attack"
            ranking = rank(
                mechanism,
                texts,
                score=score,
                scope=scope,
                statement=statement,
                top_k=generator.randint(1, 4),
                **options,
            )
            for certificate in (ranking.certificate, *(i.certificate for i in ranking.items)):
                if certificate is not None:
                    certified += certificate.certified
                    assert certificate.problems() == [], certificate.to_json()
                    again = Certificate.from_json(certificate.to_json())
                    assert again == certificate
                    assert again.verify()
                    assert problems(certificate.sign("secret").to_dict(), "secret") == []
    assert certified or name in ("one block", "no samples")


def test_certificates_concern_their_own_query_and_documents():
    ranking = rank(BalancedMask(5))
    assert ranking.certificate.concerns("q", TEXTS)
    assert not ranking.certificate.concerns("q?", TEXTS)
    assert not ranking.certificate.concerns("q", TEXTS[::-1])


@pytest.mark.parametrize("mechanism", [BalancedMask(5), RandomMask(0.9, samples=40, seed=0)])
def test_certificates_of_documents_name_their_list_of_candidates(mechanism):
    one = rank(mechanism).items[0].certificate
    assert one.concerns("q", [GOOD])
    assert one.concerns("q", TEXTS)
    for texts in ([BAD], [], TEXTS[::-1], TEXTS[:-1], [*TEXTS, GOOD], [GOOD, *TEXTS[:1], ""]):
        assert not one.concerns("q", texts)
    assert not one.concerns("q?", TEXTS)
    assert not one.concerns("q", TEXTS, ["a"] * len(TEXTS))
    assert one.verify()


def test_a_certificate_of_a_document_from_another_list_is_noticed(forge):
    data = balanced_document()
    other = rank(BalancedMask(5, seed=3), [BAD, "so"]).items[0].certificate.to_dict()
    inputs = {**other["evidence"]["inputs"], "passages": data["evidence"]["inputs"]["passages"]}
    mixed = Certificate.from_dict(forge.reseal(put(data, (("evidence", "inputs"), inputs))))
    assert not mixed.concerns("q", [BAD, "so"])  # its document is not among them
    alone = rank(BalancedMask(5), [GOOD]).items[0].certificate.to_dict()
    assert problems(alone) == []
    forged = put(alone, (("evidence", "inputs", "candidates"), "0" * 64))
    assert any("another list" in one for one in problems(forge.reseal(forged)))


def test_the_verifier_imports_no_component():
    import ast
    from pathlib import Path

    import robust_components.verification as room

    for file in Path(room.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                if name.startswith("robust_components"):
                    assert name.startswith("robust_components.verification"), (file.name, name)


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
    data = KINDS[kind]()
    assert data["method"] == kind.replace("covered_", "ranking_").replace("covered", "ranking")
    assert problems(data) == []
    for path, other in forge.changed_numbers(data):
        assert problems(other), path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", [-2, -1, 1, 2, 50])
def test_another_radius_is_noticed_whatever_the_claim_says(kind, by, forge):
    """Radius, claim, verdict and reason adapted, evidence as it was, digest made anew."""
    data = KINDS[kind]()
    stated = data["radius"]
    radius = stated + by
    if radius < 0:
        return
    other = put(data, (("radius",), radius))
    other["certified"] = radius >= data["threat"]["budget"]
    budget = data["threat"]["budget"]
    held = f"; it holds up to {radius}" if radius else ""
    noun = "word" if budget == 1 else "words"
    reason = f"A change by {budget} edited {noun} a document cannot be excluded{held}."
    other["reason"] = None if other["certified"] else reason
    for old, new in itertools.product(
        (f"at most {stated} words are", f"at most {stated} word is"),
        (f"at most {radius} words are", f"at most {radius} word is"),
    ):
        forged = put(other, (("claim",), data["claim"].replace(old, new)))
        assert problems(forge.reseal(forged)), forged["claim"]


FORGERIES = {
    # what is claimed
    "claim without a number": ("any", [(("claim",), "Nothing can ever change the top 1.")]),
    "claim for any number": (
        "ranking",
        [
            (
                ("claim",),
                "The top 1 stay the same documents if any number of words are substituted in each "
                "document outside the top 1.",
            )
        ],
    ),
    "other statement": ("any", [(("statement",), "observed")]),
    "other scope": ("any", [(("parameters", "scope"), "demotion")]),
    "unknown scope": ("any", [(("parameters", "scope"), "all")]),
    "operations the mechanism does not cover": ("any", [(("threat", "operations"), "any")]),
    "no budget": ("any", [(("threat", "budget"), 0)]),
    "other top": ("any", [(("parameters", "top_k"), 2)]),
    "no top": ("any", [(("parameters", "top_k"), 0)]),
    "missing assumption": ("any", [(("assumptions",), [])]),
    "friendlier assumption": ("any", [(("assumptions", 1), "The query is trusted.")]),
    "no reason": ("any", [(("reason",), "none")]),
    "stronger guarantee": ("robustmask", [(("guarantee",), "deterministic")]),
    "heuristic as probabilistic": (
        "robustmask",
        [(("guarantee",), "probabilistic"), (("confidence",), 0.95)],
    ),
    "chance hidden": ("sampled", [(("guarantee",), "deterministic"), (("confidence",), None)]),
    "more confidence": ("sampled", [(("confidence",), 0.999)]),
    "more confidence, with alpha": (
        "sampled",
        [(("confidence",), 0.99), (("parameters", "alpha"), "0.01")],
    ),
    "other level of the bounds": ("sampled", [(("parameters", "bound_level"), "1/20")]),
    "unknown bound": ("sampled", [(("parameters", "bound"), "guessing")]),
    "bound that was not used": ("sampled", [(("parameters", "bound"), "clopper_pearson")]),
    # how it was computed
    "unknown mechanism": ("any", [(("parameters", "mechanism", "name"), "magic")]),
    "mechanism of another kind": ("fixed", [(("parameters", "mechanism", "name"), "hash_buckets")]),
    "more blocks": ("fixed", [(("parameters", "mechanism", "blocks"), 50)]),
    "more partitions": ("fixed", [(("parameters", "mechanism", "partitions"), 2)]),
    "half a block": ("fixed", [(("parameters", "mechanism", "blocks"), 0.5)]),
    "another rate": ("sampled", [(("parameters", "mechanism", "mask_rate"), 1.5)]),
    "fewer samples allowed": ("sampled", [(("parameters", "mechanism", "samples"), 1)]),
    "other aggregation": ("any", [(("parameters", "aggregation"), {"name": "max"})]),
    "other score map": ("any", [(("parameters", "score_map"), "min_max")]),
    "other margin": ("any", [(("parameters", "numerical_margin"), "0.2")]),
    "no margin": ("any", [(("parameters", "numerical_margin"), "0")]),
    "infinite margin": ("any", [(("parameters", "numerical_margin"), "1e999999")]),
    "margin that is no number": ("any", [(("parameters", "numerical_margin"), "1/0")]),
    "surplus parameter": ("any", [(("parameters", "cap"), 3)]),
    # evidence of a list
    "another top document": ("list", [(("evidence", "inside"), [1])]),
    "no top document": ("list", [(("evidence", "inside"), [])]),
    "two top documents": ("list", [(("evidence", "inside"), [0, 1])]),
    "digest that is none": ("any", [(("evidence", "inputs", "query"), "q")]),
    "no digests": ("any", [(("evidence", "inputs"), {})]),
    "no list of candidates": ("document", [(("evidence", "inputs", "candidates"), None)]),
    "a list that is no digest": ("document", [(("evidence", "inputs", "candidates"), "all")]),
    "a document too many": ("any", [(("evidence", "inputs", "passages"), ["0" * 64] * 9)]),
    "no documents": ("list", [(("evidence", "documents"), [])]),
    "score above one": ("ranking", [(("evidence", "documents", 0, "scores", 0, 0), 10**9 + 1)]),
    "score below zero": ("ranking", [(("evidence", "documents", 1, "scores", 0, 0), -1)]),
    "score that is true": ("ranking", [(("evidence", "documents", 0, "scores", 0, 0), True)]),
    "a block missing": ("ranking", [(("evidence", "documents", 0, "scores", 0), [0] * 4)]),
    "fewer words, so fewer copies to touch": (
        "ranking",
        [(("evidence", "documents", 1, "words"), 1)],
    ),
    "no words at all": ("ranking", [(("evidence", "documents", 1, "words"), 0)]),
    "words that are touched named as fixed": (
        "ranking",
        [(("evidence", "documents", 1, "touchable"), [[0] * 5])],
    ),
    "the top made worse": (
        "ranking",
        [(("evidence", "documents", 0, "scores"), [[6 * 10**8] * 5])],
    ),
    "estimates swapped": (
        "sampled_ranking",
        [(("evidence", "documents", 0, "estimate"), 0)],
    ),
    "bounds crossed": (
        "sampled_ranking",
        [(("evidence", "documents", 0, "low"), 10**9), (("evidence", "documents", 0, "high"), 0)],
    ),
    "a bound no sample supports": (
        "sampled_ranking",
        [
            (("evidence", "documents", 0, "low"), 999_999_999),
            (("evidence", "documents", 0, "high"), 10**9),
        ],
    ),
    "a bound without samples": ("sampled_ranking", [(("evidence", "documents", 0, "samples"), 0)]),
    "more samples than were allowed": (
        "sampled_ranking",
        [(("evidence", "documents", 0, "samples"), 401)],
    ),
    # words of the query
    "a share of everything": ("covered", [(("parameters", "aggregation", "share"), "1")]),
    "a share too fine": ("covered", [(("parameters", "aggregation", "share"), "1/3")]),
    "another share": ("covered", [(("parameters", "aggregation", "share"), "0.05")]),
    "weights of more than one": (
        "covered",
        [(("parameters", "aggregation", "weights"), [10**9, 10**9])],
    ),
    "a language that is none": (
        "covered",
        [(("parameters", "aggregation", "language"), "no such language")],
    ),
    "a weight below zero": ("covered", [(("parameters", "aggregation", "weights", 0), -1)]),
    "another word": ("covered", [(("parameters", "aggregation", "weights"), [10**8] * 3)]),
    "no weights": ("covered", [(("parameters", "aggregation"), {"name": "mean"})]),
    "words of the query left out": ("covered", [(("evidence", "documents", 0, "terms"), [])]),
    "more of them than words": ("covered", [(("evidence", "documents", 2, "terms"), [2, 2])]),
    "words of the query in an empty document": (
        "covered",
        [(("evidence", "documents", 4, "terms"), [1, 0])],
    ),
    "a count that is true": ("covered", [(("evidence", "documents", 0, "terms", 0), True)]),
    "words of the query beside random masks": (
        "random",
        [
            (
                ("parameters", "aggregation"),
                {"name": "mean_and_terms", "share": "1/2", "language": None, "weights": [10**9]},
            )
        ],
    ),
    "a quantile of random masks": (
        "random",
        [(("parameters", "aggregation"), {"name": "quantile", "quantile": "1/2"})],
    ),
    "words of the query left out of one document": (
        "covered_document",
        [(("evidence", "terms"), [])],
    ),
    "another word in one document": ("covered_document", [(("evidence", "terms"), [1, 0])]),
    "words where none count": ("ranking", [(("evidence", "documents", 0, "terms"), [])]),
    # evidence of one document
    "other side": ("document", [(("evidence", "inside"), False)]),
    "side that is no truth value": ("document", [(("evidence", "inside"), 1)]),
    "fewer documents than the top": ("document", [(("evidence", "documents"), 0)]),
    "alone": ("document", [(("evidence", "documents"), 1)]),
    "rivals left out": ("document", [(("evidence", "rivals"), {})]),
    "no rivals": ("document", [(("evidence", "rivals"), {"2": None, "3": None})]),
    "scores of another document": ("ranking_document", [(("evidence", "scores"), [[0] * 5])]),
    "fewer words of its own": ("ranking_document", [(("evidence", "words"), -1)]),
    "a shorter longest document": ("sampled_document", [(("evidence", "longest"), 3)]),
    "more documents, so other levels": ("sampled_document", [(("evidence", "documents"), 6)]),
    # evidence of the published rule
    "gap": ("robustmask", [(("evidence", "rule", "gap"), 10**9)]),
    "no rule": ("robustmask", [(("evidence", "rule"), None)]),
    "shorter rival": ("robustmask", [(("evidence", "rule", "words"), 9)]),
    "fewer words shown": ("robustmask", [(("evidence", "rule", "shown"), 0)]),
    "betas left out": ("robustmask", [(("evidence", "rule", "betas"), [])]),
    "betas of more than one": ("robustmask", [(("evidence", "rule", "betas", 0), 2 * 10**9)]),
}
GROUPS = {
    "any": list(KINDS),
    "fixed": ["ranking", "ranking_document"],
    "sampled": ["sampled_ranking", "sampled_document"],
    "random": ["sampled_ranking", "sampled_document", "robustmask"],
    "list": ["ranking", "sampled_ranking", "robustmask"],
    "document": ["ranking_document", "sampled_document"],
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_noticed(name, forge):
    group, changes = FORGERIES[name]
    for kind in GROUPS.get(group, [group]):
        data = KINDS[kind]()
        forged = put(data, *changes)
        if forged["threat"]["budget"]:
            forged["certified"] = forged["radius"] >= forged["threat"]["budget"]
        if forged["certified"]:
            forged["reason"] = None
        if forged == data:
            continue
        assert problems(forge.reseal(forged)), kind


def test_every_single_score_counts(forge):
    """The radius is as large as it can be: one score at its worst makes it smaller."""
    data = balanced()
    assert data["radius"] == 4
    for document, worst in ((0, 0), (1, 10**9), (3, 10**9)):
        for block in range(5):
            path = ("evidence", "documents", document, "scores", 0, block)
            assert problems(forge.reseal(put(data, (path, worst)))), (document, block)


def test_equal_texts_must_have_equal_scores(forge):
    data = rank(BalancedMask(5), [GOOD, BAD, BAD]).certificate.to_dict()
    assert problems(data) == []
    scores = list(data["evidence"]["documents"][2]["scores"][0])
    scores[0] -= 1
    forged = put(data, (("evidence", "documents", 2, "scores"), [scores]))
    assert any("same text" in one for one in problems(forge.reseal(forged)))
    data = rank(BalancedMask(5), [GOOD, "bad", ""]).certificate.to_dict()
    scores = list(data["evidence"]["documents"][2]["scores"][0])
    scores[0] -= 1
    forged = put(data, (("evidence", "documents", 2, "scores"), [scores]))
    assert any("without words" in one for one in problems(forge.reseal(forged)))


def test_counts_must_support_their_bounds(forge):
    data = sampled(score=votes, bound="clopper_pearson")
    assert problems(data) == []
    row = data["evidence"]["documents"][0]
    assert row["wins"] == row["samples"] == 400
    for name, value in (("wins", 390), ("wins", 401), ("low", row["low"] + 1000), ("samples", 300)):
        forged = put(data, (("evidence", "documents", 0, name), value))
        assert problems(forge.reseal(forged)), name
    rival = data["evidence"]["documents"][1]
    forged = put(data, (("evidence", "documents", 1, "high"), rival["high"] - 1000))
    assert any("do not support" in one for one in problems(forge.reseal(forged)))


def test_binomial_tails_are_rounded_up_and_exact_to_many_places():
    from fractions import Fraction
    from math import comb

    from robust_components.verification.sampled_ranking import UNIT, upper_tail

    for count in (1, 2, 7, 30):
        for wins in range(count + 1):
            for mean in (1, 10**6, UNIT // 3, UNIT // 2, UNIT - 1, UNIT):
                p = Fraction(mean, UNIT)
                exact = sum(
                    comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(wins, count + 1)
                )
                tail = upper_tail(wins, count, mean)
                assert exact <= tail
                if wins >= p * count:  # a bound on the right side of what was counted
                    assert tail <= exact + Fraction(1, 2**200)


def test_a_radius_between_saturation_and_budget_is_no_radius(forge):
    """What holds at all copies holds for any number of edits; there is nothing in between."""
    ranking = rank(BalancedMask(3), ["", ""], threat=WordEdits(9), top_k=2)
    data = ranking.certificate.to_dict()
    assert data["radius"] == 9
    assert problems(data) == []
    forged = put(data, (("radius",), 5), (("certified",), False))
    forged["reason"] = "A change by 9 edited words a document cannot be excluded; it holds up to 5."
    forged["claim"] = (
        "The top 2 stay the same documents if at most 5 words are substituted in each document "
        "outside the top 2."
    )
    assert problems(forge.reseal(forged))


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_evidence_is_a_problem_not_a_traceback(kind, forge):
    data = KINDS[kind]()
    others = list(forge.malformed(data))
    assert len(others) > 500
    for other in others:
        found = problems(other)
        assert isinstance(found, list) and all(isinstance(one, str) for one in found)
        assert not any("cannot be read" in one for one in found), (found, other)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_out_or_added_is_noticed(kind, forge):
    """Every field of parameters and evidence is needed, and no other is allowed."""
    data = KINDS[kind]()
    for part in ("parameters", "evidence", "threat"):
        for name in data[part]:
            less = put(data, ((part,), {k: v for k, v in data[part].items() if k != name}))
            assert problems(forge.reseal(less)), (part, name)
        more = put(data, ((part, "more"), 1))
        assert problems(forge.reseal(more)), part


def test_large_lists_are_checked_quickly_or_refused(forge):
    texts = [f"good w{i} bad" for i in range(1000)]
    data = rank(BalancedMask(10), texts).certificate.to_dict()
    began = time.process_time()
    assert problems(data) == []
    rows = data["evidence"]["documents"] * 101
    hashes = data["evidence"]["inputs"]["passages"] * 101
    huge = put(
        data,
        (("evidence", "documents"), rows),
        (("evidence", "inputs", "passages"), hashes),
    )
    assert problems(forge.reseal(huge))
    many = put(sampled(), (("evidence", "documents", 0, "words"), 10**7))
    assert isinstance(problems(forge.reseal(many)), list)
    assert time.process_time() - began < 20


def test_long_documents_are_checked_quickly():
    """50,000 words and any radius: shares of masks are products of few factors, or refused."""
    texts = [" ".join(["good"] * 50_000), "bad " * 40_000, "so"]
    began = time.process_time()
    for threat in (WordEdits(1), WordEdits(3)):
        certificate = rank(RandomMask(0.99, samples=60, seed=0), texts, threat=threat).certificate
        assert certificate.problems() == []
    assert time.process_time() - began < 60
