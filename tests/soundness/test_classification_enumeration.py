"""CluCertClassifier attacked by enumeration, against labels computed apart.

Texts are tuples of up to six words. A model is a table from visible text to a label, an abstention
or shares in twentieths. Every edited form of a text within the budget is listed and labelled by
`label_of`, which is written here from its meaning. A certificate of radius r is wrong if one form
within r edits has another label, or none.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import warnings

import numpy as np
import pytest

from robust_components.classification import (
    CluCertClassifier,
    KeepImportant,
    RefineCopies,
    RefineText,
)
from robust_components.classification.cluster import Clustering
from robust_components.classification.substitute import Substitution
from robust_components.classification.synonyms import SynonymTable
from robust_components.models.testing import TableClassifier, TableProbabilities
from robust_components.smoothing import BalancedMask, HashBuckets
from robust_components.threats import WordEdits

WORDS = ("a", "b", "y", "z")
"""Texts are mostly of ``a`` and ``b``; attackers write ``y`` and ``z``."""
FEW = (*WORDS, *"cdefghijkl")
LABELS = ("neg", "neutral", "pos")

MECHANISMS = {
    "one partition": (BalancedMask(5, seed=1), "substitute"),
    "three blocks": (BalancedMask(3, seed=4), "substitute"),
    "masked": (BalancedMask(4, mask_token="[M]", seed=2), "substitute"),
    "spans": (BalancedMask(3, span=2, seed=3), "substitute"),
    "pieces": (BalancedMask(5, span=None), "substitute"),
    "shifted pieces": (BalancedMask(4, 2, span=None), "substitute"),
    "masked pieces": (BalancedMask(3, 3, span=None, mask_token="[M]"), "substitute"),
    "two partitions": (BalancedMask(4, 2, seed=5), "substitute"),
    "three partitions": (BalancedMask(3, 3, seed=6), "substitute"),
    "buckets": (HashBuckets(11, seed=1), "any"),
    "buckets, substitutions": (HashBuckets(31, seed=2), "substitute"),
    "two sets of buckets": (HashBuckets(9, 2, seed=3), "any"),
}


def draw(seed, text, most):
    """A number in 0..most-1, at random but fixed."""
    digest = hashlib.blake2b(f"{seed} {text}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % most


# ------------------------------------------------------------------------------- the attacker


def substituted(words, budget):
    """Every text that differs from ``words`` in at most ``budget`` places."""
    found = set()
    for places in itertools.combinations(range(len(words)), min(budget, len(words))):
        for new in itertools.product(WORDS, repeat=len(places)):
            text = list(words)
            for place, word in zip(places, new, strict=True):
                text[place] = word
            found.add(tuple(text))
    return found


def one_edit(words):
    """Every text one insertion, deletion or move away."""
    for place in range(len(words) + 1):
        for word in WORDS:
            yield (*words[:place], word, *words[place:])
    for place in range(len(words)):
        rest = words[:place] + words[place + 1 :]
        yield rest
        for other in range(len(words)):
            yield (*rest[:other], words[place], *rest[other:])


def edited(words, budget, operations):
    """Every form an attacker can give the text, its own included."""
    if operations == "substitute":
        return substituted(words, budget)
    found = {words}
    for _ in range(budget):
        found |= {text for one in found for text in one_edit(one)}
    return found


# ---------------------------------------------------------------------------------- the models


def hard_table(seed, clean, lean):
    """Clean copies vote mostly for one label; what is new votes as its words say."""

    def table(text):
        if text in clean:
            number = draw(seed, text, 10)
            return LABELS[seed % 3] if number < lean else (*LABELS, None)[number % 4]
        words = text.split()
        if "y" in words:
            return LABELS[(seed + 1) % 3]
        if "z" in words:
            return (LABELS[(seed + 2) % 3], None, "never seen")[seed % 3]
        return (*LABELS, None)[draw(seed, text, 4)]

    return table


def random_table(seed, clean, lean):
    return lambda text: (*LABELS, None)[draw(seed, text, 4)]


def soft_table(seed, clean, lean):
    """The same with shares in twentieths."""
    hard = hard_table(seed, clean, lean)

    def table(text):
        label = hard(text)
        if text not in clean:
            return {label: 1.0} if label in LABELS else {}
        most = 20 - draw(seed, f"{text} share", 2 * (11 - lean) + 1)
        other = LABELS[draw(seed, f"{text} other", 3)]
        shares = dict.fromkeys(LABELS, 0.0)
        if label is not None:
            shares[label] = most / 20
        shares[other] += draw(seed, f"{text} rest", 21 - most) / 20 if other != label else 0.0
        return shares

    return table


# ------------------------------------------------------------------------- what must be true


def label_of(words, mechanism, table, *, soft, order, kept=None, stage=None):
    """The label of the vote over all copies of ``words``, in exact twentieths."""
    totals = {}
    for copy in mechanism.copies(words):
        visible = [i for i in copy.visible if kept is None or i in kept(words)]
        if not visible:
            continue
        token = getattr(mechanism, "mask_token", None)
        if token is None:
            text = " ".join(words[i] for i in visible)
        else:
            text = " ".join(w if i in visible else token for i, w in enumerate(words))
        text = text if stage is None else stage(text)
        if not text:
            continue
        vote = table(text)
        shares = {} if vote is None else vote if soft else {vote: 1.0}
        for label, share in shares.items():
            totals[label] = totals.get(label, 0) + round(20 * share)
    totals = {label: total for label, total in totals.items() if total}
    if not totals:
        return None
    place = {label: i for i, label in enumerate(order or sorted(totals))}
    return min(totals, key=lambda label: (-totals[label], place[label]))


def classifier(table, mechanism, operations, *, soft, labels=None, **options):
    model = TableProbabilities(table, LABELS) if soft else TableClassifier(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CluCertClassifier(
            model,
            mechanism,
            labels=None if soft else labels,
            threat=WordEdits(1, operations),
            numerical_margin=0,
            **options,
        )


def toy_text(generator, mechanism):
    """Up to six words; for hash buckets up to five, mostly different ones."""
    if mechanism.name == "hash_buckets":
        longest = 6 if mechanism.buckets > 20 else 5
        return tuple(generator.sample(FEW, generator.randint(longest - 5, longest)))
    return tuple(generator.choices(WORDS, [6, 3, 1, 1], k=generator.randint(0, 6)))


def visible_texts(words, mechanism):
    return {copy.text for copy in mechanism.copies(words)}


def check(found, words, label, operations, budgets):
    """Compare one classification with the labels of all forms; count what it claims."""
    assert found.certificate.problems() == []
    assert found.label == label(words)
    claims = 0
    for budget in budgets:
        if found.radius >= budget:
            claims += 1
            for form in edited(words, budget, operations):
                assert label(form) == found.label, (words, form, found.certificate)
    return claims


# ------------------------------------------------------------------------------- enumeration

KINDS = {
    "hard, open": {"soft": False},
    "hard, closed": {"soft": False, "labels": LABELS},
    "soft": {"soft": True},
}


def closed(table):
    """Labels outside the closed set become abstentions: the model keeps to its labels."""
    return lambda text: label if (label := table(text)) in LABELS else None


def tables(kind, seed, clean):
    if KINDS[kind]["soft"]:
        yield soft_table(seed, clean, 9)
        yield soft_table(seed, clean, 6)
        return
    for shape, lean in ((hard_table, 9), (hard_table, 7), (random_table, 0)):
        table = shape(seed, clean, lean)
        yield closed(table) if "labels" in KINDS[kind] else table


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MECHANISMS)
def test_no_edit_beats_a_radius(name, kind):
    mechanism, operations = MECHANISMS[name]
    claims = 0
    budgets = (1, 2, 3) if operations == "substitute" else (1, 2)
    for seed in range(30):
        generator = random.Random(f"{name} {seed}")
        words = toy_text(generator, mechanism)
        for table in tables(kind, seed, visible_texts(words, mechanism)):
            model = classifier(table, mechanism, operations, **KINDS[kind])
            soft = KINDS[kind]["soft"]
            order = LABELS if soft or "labels" in KINDS[kind] else None

            def label(form, table=table, soft=soft, order=order):
                return label_of(form, mechanism, table, soft=soft, order=order)

            found = model.classify(" ".join(words))
            claims += check(found, words, label, operations, budgets)
    assert claims > 5, "the instances are too hard to tell anything"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["one partition", "three blocks", "masked", "two partitions", "three partitions"]
)
def test_the_exact_mode_equals_the_oracle(name, kind):
    """For a model as bad as it can be the certified radius is the true one, not just a bound."""
    mechanism, operations = MECHANISMS[name]
    radii = set()
    for seed in range(25):
        words = tuple(f"w{i}" for i in range(random.Random(seed).randint(1, 6)))
        clean = visible_texts(words, mechanism)
        others = [*LABELS, None]
        if kind == "hard, open":
            others.append("aa")
        shaped = next(iter(tables(kind, seed, clean)))
        order = LABELS if len(others) == 4 else None
        soft = KINDS[kind]["soft"]
        found = classifier(shaped, mechanism, operations, **KINDS[kind]).classify(" ".join(words))
        true = 6
        for rival in others:
            if rival == found.label:
                continue

            def table(text, rival=rival, clean=clean, shaped=shaped, soft=soft):
                if text in clean:
                    return shaped(text)
                return ({} if rival is None else {rival: 1.0}) if soft else rival

            for budget in range(1, len(words) + 1):
                forms = set()
                for places in itertools.combinations(range(len(words)), budget):
                    forms.add(tuple("new" if i in places else w for i, w in enumerate(words)))
                labels = {
                    label_of(form, mechanism, table, soft=soft, order=order) for form in forms
                }
                if labels != {found.label}:
                    true = min(true, budget - 1)
                    break
        if found.label is not None:
            assert found.radius == true, (words, found.certificate)
            radii.add(found.radius)
    assert len(radii) > 1


# ------------------------------------------------------------------------- refine variants

IMPORTANCE = {
    "flat": dict.fromkeys(WORDS, 1.0),
    "attackers first": {"a": 1.0, "b": 2.0, "y": 3.0, "z": 0.0},
    "attackers last": {"a": 2.0, "b": 3.0, "y": 0.5, "z": 2.5},
}
for table in IMPORTANCE.values():
    table.update({word: 2.0 + place / 9 for place, word in enumerate("cdefghijkl")})


@pytest.mark.parametrize("shape", IMPORTANCE)
@pytest.mark.parametrize(
    "name", ["one partition", "masked", "two partitions", "buckets", "buckets, substitutions"]
)
def test_keeping_important_words_covers_edits_of_the_raw_text(name, shape):
    mechanism, operations = MECHANISMS[name]
    hashed = mechanism.name == "hash_buckets"
    if hashed:  # two buckets an edit: one needs five votes
        mechanism = HashBuckets(40, seed=mechanism.seed)
    claims = 0
    for seed, keep in itertools.product(range(25), (5, 6) if hashed else (2, 3, 4)):
        generator = random.Random(f"{name} {seed}")
        words = tuple(generator.sample(FEW, 6)) if hashed else toy_text(generator, mechanism)
        refine = KeepImportant(keep, IMPORTANCE[shape].__getitem__)
        clean = set()
        for copy in mechanism.copies(words):
            visible = [i for i in copy.visible if i in refine.kept(words)]
            token = getattr(mechanism, "mask_token", None)
            shown = [
                word if i in visible else token
                for i, word in enumerate(words)
                if i in visible or token
            ]
            clean.add(" ".join(shown))
        table = hard_table(seed, clean, 10)
        model = classifier(table, mechanism, operations, soft=False, refine=refine)

        def label(form, table=table, refine=refine):
            return label_of(
                form, mechanism, table, soft=False, order=None, kept=lambda w: refine.kept(w)
            )

        found = model.classify(" ".join(words))
        claims += check(found, words, label, operations, (1,) if hashed else (1, 2))
        assert "refined" not in found.certificate.claim
    assert claims > 3


def scramble(text):
    """A refinement that reads the whole of what it is given."""
    words = sorted(text.split())
    if draw(7, text, 15) == 0:
        return ""
    return " ".join(words[: 1 + draw(1, text, 4)])


@pytest.mark.parametrize("name", MECHANISMS)
def test_refining_each_copy_covers_edits_of_the_raw_text(name):
    mechanism, operations = MECHANISMS[name]
    claims = 0
    for seed in range(40):
        generator = random.Random(f"{name} {seed}")
        words = toy_text(generator, mechanism)
        clean = {scramble(text) for text in visible_texts(words, mechanism)}
        table = hard_table(seed, clean, 10)
        model = classifier(table, mechanism, operations, soft=False, refine=RefineCopies(scramble))

        def label(form, table=table):
            return label_of(form, mechanism, table, soft=False, order=None, stage=scramble)

        found = model.classify(" ".join(words))
        claims += check(found, words, label, operations, (1, 2))
    assert claims > 2


@pytest.mark.parametrize("name", ["one partition", "two partitions", "buckets"])
def test_refining_the_full_text_covers_edits_of_the_refined_text_only(name):
    """Its certificate holds for those, says so, and would be wrong for edits of the raw text."""
    mechanism, operations = MECHANISMS[name]
    claims = broken = 0
    for seed in range(40):
        generator = random.Random(f"{name} {seed}")
        words = toy_text(generator, mechanism)
        refined = tuple(reversed(words)) if "y" not in words else ("z",) * len(words)

        def rewrite(text):
            return " ".join(text.split()[::-1]) if "y" not in text else "z " * len(text.split())

        table = hard_table(seed, visible_texts(refined, mechanism), 10)
        model = classifier(table, mechanism, operations, soft=False, refine=RefineText(rewrite))

        def label(form, table=table):
            return label_of(form, mechanism, table, soft=False, order=None)

        found = model.classify(" ".join(words))
        claims += check(found, refined, label, operations, (1, 2))
        if found.radius >= 1:
            assert "refined text" in found.certificate.claim
            assert any("before refining" in one for one in found.certificate.assumptions)
            forms = edited(words, 1, operations)
            broken += any(model.classify(" ".join(f)).label != found.label for f in forms)
    assert claims > 5
    assert broken, "an edit of the raw text should change the label somewhere"


# -------------------------------------------------------------------------- observed texts


@pytest.mark.parametrize("name", ["one partition", "two partitions", "buckets"])
def test_an_observed_text_has_the_label_of_every_clean_form(name):
    """Edits are undone by as many edits, so the clean text is one of the forms."""
    mechanism, operations = MECHANISMS[name]
    for seed in range(8):
        generator = random.Random(f"observed {name} {seed}")
        clean = toy_text(generator, mechanism)
        table = hard_table(seed, visible_texts(clean, mechanism), 9)
        model = classifier(table, mechanism, operations, soft=False, statement="observed")
        for budget in (1, 2):
            for form in sorted(edited(clean, budget, operations))[::7]:
                found = model.classify(" ".join(form))
                if found.radius >= budget:
                    assert found.label == label_of(clean, mechanism, table, soft=False, order=None)


# ----------------------------------------------------------------- substitution and clusters


class Letters:
    """A toy encoder: which letters a text has."""

    def encode(self, texts):
        return np.array(
            [[text.count(letter) for letter in "abcdefghijklyz"] for text in texts], dtype=float
        )


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("name", ["one partition", "masked", "two partitions", "buckets"])
def test_variants_and_clusters_belong_to_the_smoothed_function(name, clustered):
    """They read one masked copy each, so no edit of the raw text beats a radius."""
    if clustered:
        pytest.importorskip("sklearn")
    mechanism, operations = MECHANISMS[name]
    table = SynonymTable({"a": ["b", "c"], "b": ["a"], "y": ["a", "z"], "c": ["y"]})
    options = {"substitute": Substitution(table, rate=0.6)}
    if clustered:
        options["cluster"] = Clustering(Letters(), variants=4, neighbours=2, distance=0.3)
    claims = 0
    for seed in range(10):
        generator = random.Random(f"{name} {seed}")
        words = toy_text(generator, mechanism)

        def opinion(text, seed=seed):
            if "y" in text.split():
                return LABELS[(seed + 1) % 3]
            return LABELS[seed % 3] if draw(seed, text, 12) else None

        model = classifier(opinion, mechanism, operations, soft=False, **options)
        found = model.classify(" ".join(words))
        assert found.certificate.problems() == []
        if found.radius < 1:
            continue
        claims += 1
        forms = sorted(edited(words, 1, operations))
        for other in model.classify_many([" ".join(form) for form in forms]):
            assert other.label == found.label
    assert claims > 1


@pytest.mark.parametrize("name", ["one partition", "three blocks", "two partitions", "buckets"])
def test_soft_votes_certify_no_less_than_separate_bounds(name):
    """Ld_c(d) > max_j U_j(d) bounds each label by itself; the lead is bounded at least as well."""
    mechanism, operations = MECHANISMS[name]
    certified = 0
    for seed in range(60):
        generator = random.Random(f"{name} {seed}")
        words = toy_text(generator, mechanism)
        table = soft_table(seed, visible_texts(words, mechanism), 8)
        found = classifier(table, mechanism, operations, soft=True).classify(" ".join(words))
        if found.label is None:
            continue
        votes = [[0, 0, 0] if vote == -1 else vote for vote in found.certificate.evidence["votes"]]
        rows = np.array(votes).reshape(mechanism.partitions, mechanism.blocks, 3)
        winner, radius = LABELS.index(found.label), 0
        while radius < mechanism.blocks:
            touched = radius + 1
            rising = np.sort(rows, axis=1)
            lower = rising[:, : mechanism.blocks - touched].sum(axis=(0, 1))
            upper = rising[:, touched:].sum(axis=(0, 1)) + touched * mechanism.partitions * 10**9
            if lower[winner] <= max(upper[j] for j in range(3) if j != winner):
                break
            radius += 1
        assert found.radius >= radius
        certified += radius > 0
    assert certified > 3
