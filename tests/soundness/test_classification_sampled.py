"""Random masks: exact where all are tried, and otherwise wrong no more often than stated.

The truth is worked out over all masks, with fractions. The counterexamples of the theory page are
here too: rules that were published and do not hold must be refused.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import warnings
from collections import Counter
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy.stats import binom

from robust_components.classification import CluCertClassifier, KeepImportant, RefineText
from robust_components.classification.published import published_radius
from robust_components.classification.substitute import (
    SynonymKernels,
    synonym_delta,
    total_variation,
)
from robust_components.classification.synonyms import SynonymTable, built_in_synonyms
from robust_components.models.testing import TableClassifier, TableProbabilities
from robust_components.smoothing import BalancedMask, RandomMask
from robust_components.threats import SynonymEdits, WordEdits

LABELS = ("neg", "neutral", "pos")
WORDS = ("a", "b", "y", "z")


def draw(seed, text, most):
    digest = hashlib.blake2b(f"{seed} {text}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % most


def quiet(model, mechanism, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CluCertClassifier(model, mechanism, **options)


def all_copies(words, shown, kept=None):
    """The text of every mask; hidden words are deleted."""
    slots = range(len(words)) if kept is None else kept
    return [" ".join(words[i] for i in mask) for mask in itertools.combinations(slots, shown)]


def shares(table, words, shown, kept=None):
    """The share of all masks that each label has."""
    copies = all_copies(words, shown, kept)
    counts = Counter(table(copy) for copy in copies)
    counts.pop(None, None)
    return {label: Fraction(count, len(copies)) for label, count in counts.items()}


def label_of(table, words, shown, kept=None):
    found = shares(table, words, shown, kept)
    return min(found, key=lambda label: (-found[label], label)) if found else None


def substituted(words, budget):
    for places in itertools.combinations(range(len(words)), min(budget, len(words))):
        for new in itertools.product(WORDS, repeat=len(places)):
            text = list(words)
            for place, word in zip(places, new, strict=True):
                text[place] = word
            yield tuple(text)


def toy_table(seed, clean, lean):
    def table(text):
        if text in clean:
            number = draw(seed, text, 10)
            return LABELS[seed % 3] if number < lean else (*LABELS, None)[number % 4]
        if "y" in text.split():
            return LABELS[(seed + 1) % 3]
        return (LABELS[(seed + 2) % 3], None, "never seen")[seed % 3]

    return table


MASKS = {(6, 1): 0.9, (5, 1): 0.9, (6, 2): 0.7, (6, 3): 0.5, (4, 2): 0.5, (1, 1): 0.9}
"""Words, words shown: mask rate."""


def mask(n, k, samples=50, **options):
    mechanism = RandomMask(MASKS[n, k], samples, None, **options)
    assert mechanism.shown(n) == k
    return mechanism


@pytest.mark.parametrize("n, k", MASKS)
def test_exhaustive_masks_are_exact(n, k):
    """Radius equal to the oracle of the theory page, and no edit beats it."""
    claims = 0
    for seed, lean in itertools.product(range(8), (8, 10)):
        words = tuple(random.Random(seed).choices(WORDS, [5, 4, 1, 1], k=n))
        table = toy_table(seed, set(all_copies(words, k)), lean)
        found = quiet(TableClassifier(table), mask(n, k)).classify(" ".join(words))
        assert found.certificate.problems() == []
        assert found.certificate.guarantee == "deterministic"
        assert found.label == label_of(table, words, k)
        assert found.radius == oracle(table, words, k, found.label)
        for budget in range(1, found.radius + 1):
            claims += 1
            for form in substituted(words, budget):
                assert label_of(table, form, k) == found.label
    assert claims or 2 * k >= n


def oracle(table, words, k, label):
    """max{d: for all D, j: P[f=c, miss D] - P[f=j, miss D] > Delta_d}; j may be a new label."""
    if label is None:
        return -1
    n = len(words)
    votes = [
        (set(m), table(" ".join(words[i] for i in m))) for m in itertools.combinations(range(n), k)
    ]
    rivals = {vote for _, vote in votes} | {"a label never seen"}
    for d in range(1, n + 1):
        for places in itertools.combinations(range(n), d):
            left = [vote for m, vote in votes if not m & set(places)]
            hit = len(votes) - len(left)
            for rival in rivals - {label, None}:
                lead = left.count(label) - left.count(rival) - hit
                if lead < 0 or (lead == 0 and not (label < rival and rival in LABELS)):
                    return d - 1
                if lead == 0 and not left.count(label):
                    return d - 1
    return n


@pytest.mark.parametrize("keep, k", [(2, 1), (3, 1), (4, 2)])
def test_exhaustive_masks_of_important_words(keep, k):
    """Edits of the raw text, though an edit may bring another word among the important ones."""
    importance = {"a": 1.0, "b": 2.0, "y": 3.0, "z": 0.0}
    refine = KeepImportant(keep, importance.__getitem__)
    rate = {(2, 1): 0.5, (3, 1): 0.7, (4, 2): 0.5}[keep, k]
    claims = 0
    for seed in range(12):
        words = tuple(random.Random(seed).choices(WORDS, [4, 4, 1, 1], k=6))
        kept = refine.kept(words)
        table = toy_table(seed, set(all_copies(words, k, kept)), 10)
        model = quiet(TableClassifier(table), RandomMask(rate, 50, None), refine=refine)
        found = model.classify(" ".join(words))
        assert found.certificate.problems() == []
        assert found.label == label_of(table, words, k, kept)
        for budget in range(1, found.radius + 1):
            claims += 1
            for form in substituted(words, budget):
                assert label_of(table, form, k, refine.kept(form)) == found.label
    assert claims or 2 * k >= keep


# --------------------------------------------------------------------------------- coverage


def plausible(wrong, runs, alpha):
    """Whether so many errors can be chance if each run errs with probability ``alpha``."""
    return wrong == 0 or binom.sf(wrong - 1, runs, alpha) > 1e-4


@pytest.mark.parametrize("bound", ["betting", "clopper_pearson"])
@pytest.mark.parametrize("lean", [4, 6, 8])
def test_sampled_radii_are_wrong_no_more_often_than_stated(bound, lean):
    """A text of 12 words, 3 shown: the true radius from all 220 masks, then many samples."""
    alpha, runs, wrong, positive = 0.2, 120, 0, 0
    words = tuple(f"w{i}" for i in range(12))

    def table(text):
        number = draw(lean, text, 12)
        return "pos" if number < lean else ("neg", "neutral", None, "pos")[number % 4]

    found = shares(table, words, 3)
    top = max(found, key=found.get)
    lead = found[top] - max(share for label, share in found.items() if label != top)
    true = -1
    while lead > 2 * (1 - Fraction(comb(11 - true, 3), comb(12, 3))):
        true += 1
    for seed in range(runs):
        mechanism = RandomMask(0.75, 100, None, seed=seed)
        assert mechanism.shown(12) == 3
        got = quiet(TableClassifier(table), mechanism, alpha=alpha, bound=bound).classify(
            " ".join(words)
        )
        assert got.certificate.guarantee == "probabilistic"
        wrong += got.radius > true or (got.label is not None and got.label != top)
        positive += got.radius >= 0
    assert plausible(wrong, runs, alpha), wrong
    assert positive or lean == 4


def test_many_labels_do_not_fool_the_two_batch_rule():
    """50 labels of equal share: choosing and bounding from one sample errs almost always."""
    runs, alpha, wrong = 150, 0.1, 0
    words = " ".join(f"w{i}" for i in range(40))
    for seed in range(runs):
        model = TableClassifier(lambda text, seed=seed: f"label {draw(seed, text, 50)}")
        mechanism = RandomMask(0.9, 60, None, seed=seed)
        wrong += quiet(model, mechanism, alpha=alpha).classify(words).label is not None
    assert plausible(wrong, runs, alpha), wrong


def test_soft_votes_are_covered_too():
    runs, alpha, wrong = 80, 0.2, 0
    words = tuple(f"w{i}" for i in range(12))

    def table(text):
        share = draw(5, text, 101) / 100
        return {"pos": 0.35 + share / 2, "neg": 0.65 - share / 2}

    copies = all_copies(words, 3)
    lead = sum(table(copy)["pos"] - table(copy)["neg"] for copy in copies) / len(copies)
    true = -1
    while lead > 2 * (1 - Fraction(comb(11 - true, 3), comb(12, 3))):
        true += 1
    for seed in range(runs):
        model = TableProbabilities(table, ("neg", "pos"))
        got = quiet(model, RandomMask(0.75, 100, None, seed=seed), alpha=alpha).classify(
            " ".join(words)
        )
        wrong += got.radius > true
    assert plausible(wrong, runs, alpha), wrong


# ---------------------------------------------------------------------------------- kernels


def sample_distribution(words, shown, kernels):
    """Probability of every text a random mask with substitution can show."""
    masks = list(itertools.combinations(range(len(words)), shown))
    found = Counter()
    for places in masks:
        options = [sorted(kernels.support(words[i])) for i in places]
        number = np.prod([len(one) for one in options])
        for drawn in itertools.product(*options):
            key = tuple(zip(places, drawn, strict=True))
            found[key] += Fraction(1, len(masks) * int(number))
    return found


@pytest.mark.parametrize("shown", [1, 2, 3])
def test_synonym_edits_move_no_more_than_delta(shown):
    """The distribution of samples, exactly, before and after every allowed edit."""
    table = SynonymTable({"good": ["fine", "nice"], "fine": ["good"], "bad": ["poor", "evil"]})
    kernels = SynonymKernels(table)
    allowed = {word: {word} for word in ("good", "fine", "nice", "bad", "poor", "evil", "so")}
    for word, others in table.table.items():
        for other in others:
            allowed[word].add(other)
            allowed[other].add(word)
    assert kernels.variation == max(
        total_variation(kernels.support(a), kernels.support(b)) for a in allowed for b in allowed[a]
    )
    words = ("good", "bad", "so", "fine")
    clean = sample_distribution(words, shown, kernels)
    for edits in (1, 2, 3):
        delta = synonym_delta(len(words), shown, edits, kernels.variation)
        for places in itertools.combinations(range(len(words)), edits):
            for new in itertools.product(*(sorted(allowed[words[i]]) for i in places)):
                form = list(words)
                for place, word in zip(places, new, strict=True):
                    form[place] = word
                other = sample_distribution(tuple(form), shown, kernels)
                keys = clean.keys() | other.keys()
                moved = sum(abs(clean[key] - other[key]) for key in keys) / 2
                assert moved <= delta


def test_shared_kernels_give_an_unlimited_radius_within_classes():
    """Every word of a group has the same kernel, so swaps within groups change nothing."""
    assert SynonymKernels().variation == 0
    assert SynonymKernels(built_in_synonyms()).delta(30, 3, 30) == 0
    model = TableClassifier(lambda text: "pos" if "good" in text or "fine" in text else "neg")
    found = quiet(
        model, RandomMask(0.9, 200, None, seed=0), substitute="kernels", threat=SynonymEdits(30)
    ).classify("good " * 30)
    assert found.certified and found.radius == 30
    assert "synonyms" in found.certificate.claim


def test_classes_withstand_any_swaps_besides_the_radius():
    model = TableClassifier(lambda text: "pos" if "good" in text or "movie" in text else "neg")
    mechanism = BalancedMask(5)
    classifier = quiet(model, mechanism, substitute="classes")
    words = ["good", "movie", "great", "good", "film", "terrible"]
    found = classifier.classify(" ".join(words))
    groups = {
        word: group
        for group in (
            ("good", "fine", "decent"),
            ("movie", "film", "flick"),
            ("great", "superb"),
            ("terrible", "awful"),
        )
        for word in group
    }
    generator = random.Random(0)
    assert found.radius >= 1
    for _ in range(300):
        form = [generator.choice(groups[word]) for word in words]
        form = [generator.choice([word, word.upper(), word.title()]) for word in form]
        assert classifier.classify(" ".join(form)).votes == found.votes
        form[generator.randrange(6)] = "zzz"
        assert classifier.classify(" ".join(form)).label == found.label


# -------------------------------------------------------------------------- counterexamples


def test_a_low_mask_rate_warns_and_certifies_nothing():
    """m = .4 shows .6 of the words: one edit changes more than half of the masks."""
    model = TableClassifier(lambda text: "pos")
    with pytest.warns(UserWarning, match="raise mask_rate"):
        classifier = CluCertClassifier(model, RandomMask(0.4, 300, None, seed=0))
    for words in (1, 3, 10, 60):
        assert classifier.classify("a " * words).radius <= 0


def test_gamma_as_the_share_of_votes_is_not_sound():
    """n=10, k=3, p=.725: published as certified; the true worst case is .425."""
    words = tuple(f"w{i}" for i in range(10))
    copies = sorted(all_copies(words, 3), key=lambda copy: ("w0" not in copy.split(), copy))
    positive = set(copies[: round(0.725 * 120)])  # among them all that show the first word
    assert published_radius(10, 3, Fraction(725, 1000)) >= 1

    def table(text):
        return "pos" if text in positive else "neg"

    def attacked(text):
        return "neg" if "new" in text.split() else table(text)

    # the worst word is one whose masks all vote "pos"
    masks = list(itertools.combinations(range(10), 3))
    worst = max(
        range(10),
        key=lambda i: sum(" ".join(words[j] for j in m) in positive for m in masks if i in m),
    )
    form = tuple("new" if i == worst else word for i, word in enumerate(words))
    assert label_of(table, words, 3) == "pos"
    assert shares(attacked, form, 3)["pos"] == Fraction(725, 1000) - Fraction(3, 10)
    assert label_of(attacked, form, 3) == "neg"
    found = quiet(TableClassifier(table), RandomMask(0.7, 200, None)).classify(" ".join(words))
    assert (found.label, found.radius) == ("pos", 0)
    for seed in range(5):
        sampled = quiet(TableClassifier(table), RandomMask(0.7, 100, None, seed=seed))
        assert sampled.classify(" ".join(words)).radius <= 0
    published = quiet(
        TableClassifier(table), RandomMask(0.7, 3000, None, seed=0), method="clucert"
    ).classify(" ".join(words))
    assert published.certificate.guarantee == "heuristic"


def test_votes_outside_the_largest_cluster_count():
    """Dropping them makes 45 % of the masks look like all: the published rule certifies that."""
    pytest.importorskip("sklearn")
    from robust_components.classification.cluster import Clustering
    from robust_components.classification.substitute import Substitution

    class Encoder:
        """Votes for one label are close together, the others lie apart."""

        name = "adversarial"

        def encode(self, texts):
            rows = np.zeros((len(texts), 64))
            for row, text in enumerate(texts):
                if table(text) == "pos":
                    rows[row, 0] = 1.0
                else:
                    rows[row, 1 + draw(1, text, 63)] = 1.0
            return rows

    def table(text):
        return "pos" if draw(3, text, 100) < 45 else ("neg", "neutral")[draw(4, text, 100) < 2]

    text = " ".join(f"w{i}" for i in range(40))
    options = {
        "substitute": Substitution(SynonymTable({"x": ["y"]})),
        "cluster": Clustering(Encoder(), distance=0.01, neighbours=2, variants=2),
    }
    published = quiet(
        TableClassifier(table), RandomMask(0.9, 150, None, seed=1), method="clucert", **options
    ).classify(text)
    assert published.label == "pos" and published.radius >= 1
    assert published.certificate.guarantee == "heuristic"
    assert published.certificate.problems() == []
    sound = quiet(TableClassifier(table), RandomMask(0.9, 150, None, seed=1)).classify(text)
    assert sound.label != "pos" and sound.radius <= 0


def test_refining_the_full_text_claims_nothing_about_the_raw_text():
    found = quiet(
        TableClassifier(lambda text: "pos"), BalancedMask(5), refine=RefineText(str.upper)
    ).classify("a b c d e f")
    assert "refined text" in found.certificate.claim
    assert found.certificate.evidence["refined"]


def test_the_first_failing_radius_is_not_returned():
    """Unanimous over 5 blocks: two edits hold, three do not."""
    model = TableClassifier(lambda text: "pos" if "new" not in text else "neg")
    words = [f"w{i}" for i in range(5)]
    classifier = quiet(model, BalancedMask(5), threat=WordEdits(3))
    found = classifier.classify(" ".join(words))
    assert found.radius == 2 and not found.certified
    assert classifier.classify("new new w2 w3 w4").label == "pos"
    assert classifier.classify("new new new w3 w4").label == "neg"
