import random

import pytest

from robust_components import Certificate, RobustRAGGenerator
from robust_components.models.testing import TableTokenModel
from robust_components.rag.passages import Passage
from robust_components.threats import PassageInjection, PassageModification

TOKENS = ("a", "b", "c", "</s>")


def random_case(seed):
    """A random token table over a random list, with repeated sources and short lists."""
    rng = random.Random(seed)
    passages = [Passage(f"p{i}", source=f"s{rng.randrange(9)}") for i in range(rng.randrange(1, 9))]
    table = {}
    for passage in passages:
        favourite = rng.choice("aaaab")
        for prefix in [(), ("a",), ("b",), ("c",), ("a", "b"), ("b", "a")]:
            weights = {t: rng.random() ** 3 for t in TOKENS}
            weights[favourite if not prefix else "</s>"] += rng.choice([0, 5, 90, 90])
            total = sum(weights.values())
            table[passage.text, prefix] = {t: w / total * 0.999 for t, w in weights.items()}
    model = TableTokenModel(
        table,
        abstain={p.text: rng.choice([0, 0, 0, 1]) for p in passages},
        no_retrieval={(): rng.choice(TOKENS)},
    )
    top_k = len(passages) + rng.choice([0, 0, 1, 3])
    eta = rng.choice(["0", "0", "0.2"])
    generator = RobustRAGGenerator(model, "decoding", top_k=top_k, eta=eta, max_tokens=3)
    threat = rng.choice([PassageInjection(1, rng.randrange(1, 3)), PassageModification(2)])
    return generator, passages, threat


def forged(certificate, **changes):
    """A consistent forgery: changed, and sealed again."""
    data = {**certificate.to_dict(), **changes}
    del data["digest"]
    return Certificate(**{**data, "assumptions": tuple(data["assumptions"])})


@pytest.mark.parametrize("seed", range(150))
def test_honest_certificates_verify(seed):
    generator, passages, threat = random_case(seed)
    for certificate in (
        generator.run("q", passages).certificate,
        generator.certify("q", passages, threat, gold=["a"]),
    ):
        assert certificate.problems() == []


def test_some_of_these_certificates_certify_something():
    cases = [random_case(seed) for seed in range(150)]
    radii = [generator.run("q", passages).certificate.radius for generator, passages, _ in cases]
    assert sum(radius > 0 for radius in radii) > 10


@pytest.mark.parametrize("seed", range(40))
def test_a_larger_radius_does_not_verify(seed):
    generator, passages, _ = random_case(seed)
    certificate = generator.run("q", passages).certificate
    radius = certificate.radius + 1
    assert not forged(certificate, radius=radius, certified=True, reason=None).verify()


def test_an_empty_list_verifies():
    result = RobustRAGGenerator(TableTokenModel({}), "decoding").run("q", [])
    assert result.abstained
    assert not result.certificate.certified
    assert result.certificate.problems() == []


@pytest.mark.parametrize("change", [{"eta": "nan"}, {"voters": []}, {"scale": 0}, {"steps": [1]}])
def test_malformed_evidence_is_a_problem_not_a_traceback(change):
    model = TableTokenModel({("p", ()): {"a": 1.0}, ("p", ("a",)): {"</s>": 1.0}})
    certificate = RobustRAGGenerator(model, "decoding").run("q", ["p", "p", "p", "p"]).certificate
    assert certificate.verify()
    assert certificate.radius == 1
    assert not forged(certificate, evidence={**certificate.evidence, **change}).verify()
