"""What a CluCertClassifier does with settings, texts and models that are not as they should be."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

from robust_components import CluCertClassifier
from robust_components.classification import KeepImportant, RefineCopies, RefineText
from robust_components.classification.asking import PROBES
from robust_components.classification.cluster import Clustering
from robust_components.classification.substitute import (
    CosineFilter,
    Substitution,
    SynonymClasses,
    SynonymKernels,
)
from robust_components.classification.synonyms import SynonymTable
from robust_components.classification.wordnet import WordNetMissingError, WordNetSynonyms
from robust_components.models.protocols import ModelFailedError
from robust_components.models.testing import TableClassifier, TableProbabilities
from robust_components.smoothing import BalancedMask, HashBuckets, RandomMask
from robust_components.threats import PassageInjection, SynonymEdits, WordEdits


def opinion(text):
    return "pos" if "good" in text else "neg"


def model():
    return TableClassifier(opinion)


def shares(text):
    return {"pos": 0.9, "neg": 0.1} if "good" in text else {"pos": 0.2, "neg": 0.8}


def soft_model():
    return TableProbabilities(shares, ("neg", "pos"))


class Encoder:
    name = "toy"

    def encode(self, texts):
        return np.array([[1.0, len(text)] for text in texts])


# ------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("mechanism", [BalancedMask(5), HashBuckets(5), RandomMask(0.9, 60)])
@pytest.mark.parametrize("text", ["", "   \n\t "])
def test_a_text_without_words_gets_no_label(mechanism, text):
    found = CluCertClassifier(model(), mechanism).classify(text)
    assert found.label is None and found.radius == -1 and not found.certified
    assert found.reason == "The text has no words."
    assert found.certificate.problems() == []


@pytest.mark.parametrize("mechanism", [BalancedMask(5), HashBuckets(5), RandomMask(0.9, 60)])
def test_one_word_is_labelled_and_certifies_nothing(mechanism):
    found = CluCertClassifier(model(), mechanism).classify("good")
    assert (found.label, found.radius) == ("pos", 0)
    assert found.certificate.problems() == []


@pytest.mark.parametrize("mechanism", [BalancedMask(10, 2), HashBuckets(10), RandomMask(0.99, 60)])
def test_ten_thousand_words(mechanism):
    found = CluCertClassifier(model(), mechanism).classify("good " * 10_000)
    assert found.label == "pos"
    assert found.certificate.problems() == []


@pytest.mark.parametrize(
    "text",
    ["😀 😀 👩‍👩‍👧 good 🏳️‍🌈", "这 部 电影 good 很 好", "هذا فيلم good جيد", "\ud800 good \x00 ok"],
)
@pytest.mark.filterwarnings("ignore:.*can hardly certify")
def test_other_scripts_and_emoji(text):
    for mechanism in (BalancedMask(5), HashBuckets(5), RandomMask(0.5, 60)):
        found = CluCertClassifier(model(), mechanism, substitute="table").classify(text)
        assert found.label is not None
        assert found.certificate.problems() == []
        assert found.concerns(text)


def test_texts_must_be_texts():
    classifier = CluCertClassifier(model())
    with pytest.raises(TypeError, match=r"texts\[1\] must be text, got int"):
        classifier.classify_many(["a", 3])
    with pytest.raises(TypeError, match="use classify for one"):
        classifier.classify_many("a b c")
    with pytest.raises(TypeError, match="must be text, got NoneType"):
        classifier.classify(None)
    assert classifier.classify_many([]) == []


# ------------------------------------------------------------------------------------ models


def test_models_without_the_methods_are_refused():
    with pytest.raises(TypeError, match="must have a method classify"):
        CluCertClassifier(object())
    with pytest.raises(ValueError, match="needs a model with labels and probabilities"):
        CluCertClassifier(model(), votes="soft")


@pytest.mark.parametrize(
    "labels, message",
    [
        (["pos"], "at least two names"),
        (["pos", "pos", "neg"], "'pos' twice"),
        ([], "at least two"),
    ],
)
def test_label_sets_that_decide_nothing(labels, message):
    with pytest.raises(ValueError, match=message):
        CluCertClassifier(model(), labels=labels)
    with pytest.raises(ValueError, match=message):
        CluCertClassifier(TableProbabilities(shares, labels))


def test_labels_must_be_names():
    with pytest.raises(TypeError, match="must be names"):
        CluCertClassifier(model(), labels="pos")
    with pytest.raises(TypeError, match="must be names"):
        CluCertClassifier(model(), labels=[1, 2])
    with pytest.raises(ValueError, match="are not the model's"):
        CluCertClassifier(soft_model(), labels=["pos", "other"])


def test_a_model_that_raises_on_one_copy_loses_that_vote_only():
    def table(text):
        if "crash" in text:
            raise RuntimeError("too long")
        return opinion(text)

    found = CluCertClassifier(TableClassifier(table), BalancedMask(7)).classify(
        "good good good crash good good good"
    )
    assert found.label == "pos" and found.failed == 1 and found.radius == 2
    assert any("1 copy got no usable response" in one for one in found.certificate.assumptions)
    assert found.certificate.problems() == []


def test_one_hostile_text_does_not_spoil_the_others():
    def table(text):
        if "crash" in text:
            raise RuntimeError("too long")
        return opinion(text)

    texts = ["good " * 7, "crash " * 7, "bad " * 7]
    good, crash, bad = CluCertClassifier(TableClassifier(table), BalancedMask(7)).classify_many(
        texts
    )
    assert (good.label, good.radius, bad.label, bad.radius) == ("pos", 3, "neg", 3)
    assert crash.label is None
    assert crash.reason == "The model gave no usable response to any masked copy."
    assert crash.certificate.problems() == []


def test_a_model_that_always_raises_is_an_error():
    def table(text):
        raise ConnectionError("no route")

    with pytest.raises(ModelFailedError, match="no route"):
        CluCertClassifier(TableClassifier(table)).classify("some words")


def test_unknown_labels_count_against_the_label():
    found = CluCertClassifier(
        TableClassifier(lambda text: "odd" if "odd" in text else "pos"),
        BalancedMask(5),
        labels=["pos", "neg"],
    ).classify("a b c d odd")
    assert (found.label, found.failed, found.radius) == ("pos", 1, 1)


def test_values_that_are_not_finite_count_against_the_label():
    class Sick(TableProbabilities):
        def probabilities(self, texts):
            rows = super().probabilities(texts)
            rows[["nan" in text for text in texts]] = np.nan
            return rows

    found = CluCertClassifier(Sick(shares, ("neg", "pos")), BalancedMask(7)).classify(
        "good good good nan good good good"
    )
    assert (found.label, found.failed, found.radius) == ("pos", 1, 2)
    assert found.certificate.problems() == []


class Returns:
    """A model that returns what it is told to."""

    labels = ("neg", "pos")

    def __init__(self, value):
        self.value = value

    def probabilities(self, texts):
        return self.value(texts)

    def classify(self, texts):
        return self.value(texts)


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda texts: np.zeros((len(texts), 3)), r"shape \(2, 2\).*got shape \(2, 3\)"),
        (lambda texts: np.zeros(len(texts)), r"shape \(2, 2\).*got shape \(2,\)"),
        (lambda texts: [[0.5, 0.5], [0.5]][: len(texts)], r"shape \(2, 2\).*inhomogeneous"),
        (lambda texts: None, r"shape \(2, 2\)"),
        (lambda texts: np.full((len(texts), 2), 0.4 / len(texts)), "other texts of the call"),
    ],
)
def test_wrong_probabilities_are_errors(value, message):
    with pytest.raises(ValueError, match=message):
        CluCertClassifier(Returns(value), BalancedMask(3)).classify("a b c d")


ODD_ROWS = [
    ([4.0, 4.0], "4 to 4, 8 in all; apply softmax"),
    ([0.9, 0.9], "add up to at most 1"),
    ([1.2, -0.2], "must lie in"),
    ([1e308, 1e308], "apply softmax"),
    ([float("nan"), 0.5], "not finite"),
    ([0.5], r"shape \(2,\).*got \(1,\)"),
    ([0.2, 0.3, 0.5], r"shape \(2,\).*got \(3,\)"),
    (0.5, r"shape \(2,\).*got \(\)"),
    (["half", "half"], "must be numbers: ValueError"),
    (None, "got"),
]


def with_odd(row, odd):
    """A model that gives ``row`` to copies with the word odd."""

    def value(texts):
        return [row if odd(text) else list(shares(text).values())[::-1] for text in texts]

    return Returns(value)


@pytest.mark.parametrize(("row", "message"), ODD_ROWS)
@pytest.mark.parametrize("batch_size", [1, 512])
def test_odd_probabilities_of_one_copy_cost_that_vote(row, message, batch_size):
    hostile, clean = "good good good odd good good good", "good " * 7
    classifier = CluCertClassifier(
        with_odd(row, lambda text: "odd" in text), BalancedMask(7), batch_size=batch_size
    )
    found, other = classifier.classify_many([hostile, clean])
    assert (found.label, found.failed, found.radius) == ("pos", 1, 2)
    assert found.certificate.evidence["votes"].count(-2) == 1
    assert found.certificate.problems() == []
    alone = CluCertClassifier(soft_model(), BalancedMask(7)).classify(clean)
    assert other.certificate.evidence == alone.certificate.evidence
    assert (other.radius, other.failed) == (alone.radius, 0)


@pytest.mark.parametrize(("row", "message"), ODD_ROWS)
def test_nothing_but_odd_probabilities_is_an_error(row, message):
    model = with_odd(row, lambda text: text not in PROBES)
    with pytest.raises(ModelFailedError, match=message):
        CluCertClassifier(model, BalancedMask(3)).classify("a b c d")


def test_the_number_of_rows_is_checked():
    model = Returns(lambda texts: np.full((2 if len(texts) > 2 else len(texts), 2), 0.5))
    with pytest.raises(ValueError, match=r"one row for each of 3 texts, got 2 in ndarray"):
        CluCertClassifier(model, BalancedMask(3)).classify("a b c")


@pytest.mark.parametrize("seed", range(20))
def test_a_failed_copy_certifies_no_more_than_any_vote_in_its_place(seed):
    """All votes in the place of the failed copies: none of them certifies less."""
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(7)]
    given = {word: rng.dirichlet([0.3, 0.3]) for word in words}
    odd = set(rng.choice(words, 2, replace=False))

    def classified(rows):
        model = Returns(lambda texts: [rows.get(text, [0.5, 0.5]) for text in texts])
        return CluCertClassifier(model, BalancedMask(7), numerical_margin=0).classify(
            " ".join(words)
        )

    failed = classified({**given, **{word: [3.0, -1.0] for word in odd}})
    assert failed.failed == 2
    for first in ([1.0, 0.0], [0.0, 1.0], [0.0, 0.0]):
        for second in ([1.0, 0.0], [0.0, 1.0], [0.0, 0.0]):
            found = classified({**given, **dict(zip(sorted(odd), (first, second), strict=True))})
            if failed.radius > 0:
                assert found.label == failed.label
                assert found.radius >= failed.radius


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda texts: ["pos"], "1 labels for 3 texts"),
        (lambda texts: "pos", "got str"),
        (lambda texts: None, "got NoneType"),
        (lambda texts: [1] * len(texts), "text or None"),
    ],
)
def test_wrong_labels_are_errors(value, message):
    with pytest.raises(ValueError, match=message):
        CluCertClassifier(Returns(value), BalancedMask(3), votes="hard").classify("a b c")


def test_a_model_that_always_abstains_gives_no_label():
    for mechanism in (BalancedMask(5), RandomMask(0.9, 60)):
        found = CluCertClassifier(TableClassifier(lambda text: None), mechanism).classify("a " * 40)
        assert found.label is None and found.radius == -1 and found.abstained == 1
        assert found.reason == "No masked copy voted for a label."
        assert found.certificate.problems() == []


# ---------------------------------------------------------------------------- random models


class Draws:
    """A model that draws at random, behind a cache or not."""

    def __init__(self, *, cached, seed=0):
        self.cached = cached
        self.known = {}
        self.generator = np.random.default_rng(seed)

    def classify(self, texts):
        return [self._one(text) for text in texts]

    def _one(self, text):
        label = "pos" if self.generator.random() < 0.8 else "neg"
        return self.known.setdefault(text, label) if self.cached else label


@pytest.mark.parametrize("words", [1, 2, 40])
def test_a_cached_model_gets_no_certificate(words):
    text = " ".join(f"w{i}" for i in range(words))
    found = CluCertClassifier(Draws(cached=True), RandomMask(0.9, 200), randomised=True).classify(
        text
    )
    assert found.radius <= 0 and not found.certified
    if found.label is not None:
        assert "not independent draws" in found.reason
    assert found.certificate.problems() == []


def test_a_model_that_draws_gets_one():
    text = " ".join(f"w{i}" for i in range(40))
    found = CluCertClassifier(
        Draws(cached=False), RandomMask(0.95, 600), randomised=True, alpha=0.05
    ).classify(text)
    assert found.label == "pos" and found.radius >= 1
    assert found.certificate.problems() == []
    assert any("draws anew" in one for one in found.certificate.assumptions)


def test_a_remembering_model_cannot_be_said_to_draw():
    remembering = Draws(cached=True)
    remembering.memo = True
    with pytest.raises(ValueError, match="memo"):
        CluCertClassifier(remembering, RandomMask(0.9), randomised=True)


# ---------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, float("nan"), "0.05", True, None])
def test_alpha_must_be_inside_its_range(alpha):
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\)"):
        CluCertClassifier(model(), RandomMask(0.9), alpha=alpha)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"statement": "maybe"}, ValueError, "statement must be one of"),
        ({"method": "magic"}, ValueError, "method must be one of"),
        ({"votes": "loud"}, ValueError, "votes must be one of"),
        ({"bound": "hope"}, ValueError, "bound must be one of"),
        ({"bound": "clopper_pearson"}, ValueError, "needs random masks"),
        ({"randomised": True}, ValueError, "needs random masks"),
        ({"substitute": "kernels"}, ValueError, "needs random masks"),
        ({"substitute": "magic"}, ValueError, "substitute must be one of"),
        ({"substitute": 3}, TypeError, "substitute must be"),
        ({"refine": len}, TypeError, "which edits are covered"),
        ({"cluster": Clustering}, TypeError, "must be a Clustering"),
        ({"threat": PassageInjection()}, TypeError, "withstands edits of words"),
        ({"threat": SynonymEdits()}, ValueError, "do not fit"),
        ({"threat": WordEdits(1, "any")}, ValueError, "use HashBuckets"),
        ({"numerical_margin": 0.7}, ValueError, "numerical_margin"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"selection_samples": 0}, ValueError, "selection_samples"),
        ({"mechanism": "balanced"}, ValueError, "mechanism must be"),
        (
            {"method": "clucert", "mechanism": RandomMask(0.4), "votes": "soft"},
            ValueError,
            "counts labels",
        ),
        (
            {"mechanism": RandomMask(0.9), "substitute": "kernels", "refine": RefineCopies(str)},
            ValueError,
            "does not go with refine",
        ),
    ],
)
def test_settings_outside_their_range(options, error, message):
    with pytest.raises(error, match=message):
        CluCertClassifier(soft_model(), **options)


def test_clusters_need_variants():
    pytest.importorskip("sklearn")
    with pytest.raises(ValueError, match="needs variants"):
        CluCertClassifier(model(), cluster=Clustering(Encoder()))
    with pytest.raises(TypeError, match="must have encode"):
        Clustering(object())
    for options in ({"distance": 0}, {"share": 1.5}, {"variants": 1}, {"neighbours": 0}):
        with pytest.raises(ValueError):
            Clustering(Encoder(), **options)


@pytest.mark.parametrize(
    "mechanism, options",
    [
        (BalancedMask(2), {}),
        (HashBuckets(4), {"threat": WordEdits(1, "substitute")}),
        (BalancedMask(4), {"refine": KeepImportant(10)}),
        (BalancedMask(10), {"threat": WordEdits(5)}),
        (RandomMask(0.4), {}),
        (RandomMask(0.9, samples=5), {}),
        (RandomMask(0.9, samples=5), {"bound": "clopper_pearson", "votes": "hard"}),
    ],
)
def test_what_can_never_certify_warns_here(mechanism, options):
    with pytest.warns(UserWarning, match="certify") as caught:
        CluCertClassifier(model(), mechanism, **options)
    assert caught[0].filename == __file__


def test_the_defaults_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CluCertClassifier()
        CluCertClassifier(model())
        CluCertClassifier(model(), RandomMask(0.9))
        CluCertClassifier(model(), HashBuckets(10))


def test_a_model_may_bring_its_mechanism():
    bringing = model()
    bringing.mechanism = BalancedMask(7)
    assert CluCertClassifier(bringing).mechanism == BalancedMask(7)
    assert CluCertClassifier(bringing, BalancedMask(5)).mechanism == BalancedMask(5)


# ------------------------------------------------------------------------------------ stages


@pytest.mark.parametrize(
    "broken", [lambda texts: 1 / 0, lambda texts: np.full((len(texts), 2), np.nan), lambda t: None]
)
def test_a_failing_encoder_is_an_error_not_a_label(broken):
    pytest.importorskip("sklearn")

    class Broken:
        def encode(self, texts):
            return broken(texts)

    classifier = CluCertClassifier(
        model(), BalancedMask(5), substitute="table", cluster=Clustering(Broken())
    )
    with pytest.raises(ModelFailedError, match="no usable response"):
        classifier.classify("a good film with a plot")


def test_an_encoder_that_fails_on_one_copy_costs_that_vote():
    pytest.importorskip("sklearn")

    class Sometimes(Encoder):
        def encode(self, texts):
            if any("crash" in text for text in texts):
                raise RuntimeError("out of memory")
            return super().encode(texts)

    found = CluCertClassifier(
        model(),
        BalancedMask(7),
        substitute=Substitution(SynonymTable({"x": ["y"]})),
        cluster=Clustering(Sometimes(), variants=3),
    ).classify("good good good crash good good good")
    assert (found.label, found.failed, found.radius) == ("pos", 1, 2)


def test_wordnet_absent_names_the_packages(monkeypatch, tmp_path):
    with pytest.raises(WordNetMissingError, match=r"wordnet-base.*nltk"):
        WordNetSynonyms(tmp_path)
    monkeypatch.setattr("robust_components.classification.wordnet.DEBIAN", tmp_path)
    monkeypatch.setattr("robust_components.classification.wordnet._nltk_folders", list)
    with pytest.warns(UserWarning, match=r"wordnet-base.*built-in synonym table is used") as caught:
        classifier = CluCertClassifier(model(), substitute="wordnet")
    assert caught[0].filename == __file__
    found = classifier.classify("a good film with a plot")
    assert found.certificate.parameters["substitute"]["source"] == "built-in synonyms"


def test_refinements_must_return_text():
    with pytest.raises(TypeError, match="must return text"):
        CluCertClassifier(model(), refine=RefineText(len)).classify("a b")
    with pytest.raises(ModelFailedError, match="must return text"):
        CluCertClassifier(model(), refine=RefineCopies(len)).classify("a b")
    with pytest.raises(ValueError, match="finite"):
        refine = KeepImportant(1, lambda word: float("nan"))
        CluCertClassifier(model(), refine=refine).classify("a b")
    with pytest.raises(TypeError, match="callable"):
        KeepImportant(3, {"a": 1.0})


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: Substitution(rate=0), ValueError),
        (lambda: Substitution(source={"a": ["b"]}), TypeError),
        (lambda: CosineFilter(object()), TypeError),
        (lambda: CosineFilter(Encoder(), 2), ValueError),
        (lambda: SynonymClasses([["a", "b"], ["b", "c"]]), ValueError),
        (lambda: SynonymKernels(Encoder()), TypeError),
        (lambda: SynonymTable({"two words": ["x"]}), ValueError),
        (lambda: SynonymTable({"x": ["o'"]}), ValueError),
    ],
)
def test_sources_outside_their_range(make, error):
    with pytest.raises(error):
        make()


# ----------------------------------------------------------------------------------- threads


def test_two_threads_get_the_same_as_one():
    pytest.importorskip("sklearn")
    texts = [f"a good film number {i} with a bad plot and great actors" for i in range(12)]
    classifier = CluCertClassifier(
        soft_model(),
        BalancedMask(7, 2),
        substitute=Substitution(rate=0.9),
        cluster=Clustering(Encoder(), variants=4),
    )
    alone = [one.certificate.evidence for one in classifier.classify_many(texts)]
    found = {}

    def work(name):
        found[name] = [classifier.classify(text).certificate.evidence for text in texts]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[name] == alone for name in range(4))


def test_equal_copies_are_asked_once_and_short_ones_together():
    asked = []

    class Counting(TableClassifier):
        def classify(self, texts):
            asked.append(list(texts))
            return super().classify(texts)

    classifier = CluCertClassifier(Counting(opinion), BalancedMask(5), batch_size=4)
    many = classifier.classify_many(["good " * 10, "a b c d e f g", "good " * 10])
    everything = [text for batch in asked for text in batch]
    assert len(everything) == len(set(everything)) == 6
    assert [len(text) for text in everything] == sorted(len(text) for text in everything)
    assert all(len(batch) <= 4 for batch in asked)
    assert many[0].votes == many[2].votes
    assert [one.to_dict()["certified_radius"] for one in many] == [2, 2, 2]


@pytest.mark.parametrize("mechanism", [None, RandomMask(0.5)])
def test_the_published_rule_warns_where_it_certifies_nothing(mechanism):
    with pytest.warns(UserWarning, match=r"certifies no edited word at mask_rate=0\.[45]") as seen:
        CluCertClassifier(model(), mechanism, method="clucert")
    assert seen[0].filename == __file__


def test_a_cached_model_is_found_out_though_calls_fail():
    """Failures are no draws: a cache between time-outs is still a cache."""

    class Cached:
        calls = 0

        def classify(self, texts):
            return [self.one() for _ in texts]

        def one(self):
            Cached.calls += 1
            return TimeoutError("slow") if Cached.calls % 25 == 0 else "a"

    text = " ".join(f"w{i}" for i in range(30))
    mask = RandomMask(0.95, samples=400, mask_token=None, seed=1)
    classifier = CluCertClassifier(Cached(), mask, labels=["a", "b"], randomised=True)
    found = classifier.classify(text)
    assert found.radius == 0 and "cached or deterministic" in found.certificate.reason
    assert found.certificate.evidence["repeats"][1] == 0


@pytest.mark.parametrize("form", ["bad", "[bad]", "<bad>", "(bad)", "*bad*", "__bad__", "bad%"])
def test_classes_take_words_in_whatever_signs(form):
    classes = SynonymClasses([["bad", "awful"]])
    replaced = classes.replace([form, form.replace("bad", "awful"), form.replace("bad", "AWFUL")])
    assert set(replaced) == {form}


def test_why_no_copy_got_a_label_is_said():
    stray = TableClassifier(lambda text: "z")
    with pytest.raises(ModelFailedError, match=r"gave the label 'z', which is not in labels"):
        CluCertClassifier(stray, labels=["a", "b"]).classify("one two three")
