"""Counterexamples to the published certificates and code, by the names of the theory page.

Each test shows the attack as well as what is certified about it. Voting and keyword aggregation
here; the ones about decoding are with the decoding tests.
"""

from __future__ import annotations

from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.threats import PassageInjection, PassageModification


class SplitOnSpaces:
    def extract(self, text):
        return frozenset(text.split()) - {"."}


def echo(query, text):
    """Passages say what they say, "-" abstains; keywords are answered by themselves."""
    return None if text == "-" else text


def voting(top_k=None):
    return RobustRAGGenerator(KeywordReader(echo), "voting", top_k=top_k)


def keyword(alpha=0.3, beta=3, top_k=None):
    return RobustRAGGenerator(
        KeywordReader(echo),
        "keyword",
        top_k=top_k,
        alpha=alpha,
        beta=beta,
        keyword_extractor=SplitOnSpaces(),
    )


def certified(generator, passages, threat):
    return generator.certify("q", passages, threat).radius


def test_ejection_off_by_one():
    """k' injected passages push out exactly the last k' of a full list.

    Ejecting one more, three attackers would win here (3 against 3, and they win ties); ejecting
    none, a list of three a and one b would be certified against one attacker.
    """
    clean = ["a", "a", "a", "a", "a", "b", "b"]
    generator = voting(top_k=7)
    assert certified(generator, clean, PassageInjection(1)) == 3
    assert generator.run("q", ["c"] * 3 + clean).answer == "a"  # 4 against 3
    assert generator.run("q", ["c"] * 4 + clean).answer == "c"  # 3 against 4
    assert certified(voting(top_k=4), ["a", "a", "b", "a"], PassageInjection(1)) == 0
    assert voting(top_k=4).run("q", ["b", "a", "a", "b", "a"]).answer == "b"  # 2 against 2


def test_all_abstain_branch():
    """When everything benign abstains, one hostile passage decides alone: never certified."""
    silent = ["-"] * 5
    for generator in (voting(), keyword(), keyword(alpha=1)):
        for threat in (PassageInjection(1), PassageModification(1)):
            assert certified(generator, silent, threat) == 0
        assert generator.run("q", silent).abstained
        assert generator.run("q", silent).certificate.radius == 0
        assert generator.run("q", ["evil", *silent[1:]]).answer == "evil"


def test_all_abstain_branch_in_a_subset():
    """Leaving out the only two sources that respond leaves an abstaining subset."""
    passages = ["w", "w", "-", "-"]
    assert certified(keyword(alpha=1), passages, PassageModification(2)) == 0
    assert keyword(alpha=1).run("q", ["evil", "-", "-", "-"]).answer == "evil"


def test_short_list_ejects_nothing():
    """Two passages of a list cut at ten stay in it; of a list cut at two, one has to go."""
    clean = ["a", "a"]
    assert certified(voting(top_k=10), clean, PassageInjection(1)) == 1
    assert voting(top_k=10).run("q", ["b", *clean]).answer == "a"
    assert certified(voting(top_k=2), clean, PassageInjection(1)) == 0
    assert voting(top_k=2).run("q", ["b", *clean]).answer == "b"
    agree = ["w", "w", "w"]
    assert certified(keyword(1, 3, top_k=10), agree, PassageInjection(1)) == 2
    assert certified(keyword(1, 3, top_k=3), agree, PassageInjection(1)) == 0


def test_float_threshold():
    """7 of 50 sources meet alpha = 0.14 exactly; in binary 0.14 * 50 is a little more than 7."""
    assert 0.14 * 50 > 7
    passages = ["w"] * 7 + ["."] * 43
    for alpha in (0.14, "0.14"):
        assert keyword(alpha, 50).run("q", passages).keywords == ("w",)
    assert keyword(0.14, 50).run("q", [*passages[1:], "."]).keywords == ()


def test_unseen_keyword_when_mu_le_e():
    """At n = 3 the threshold is one source: a single attacker adds a keyword nobody gave."""
    passages = ["w", "w", "w"]
    result = keyword().run("q", passages)
    assert result.answer == "w"
    assert result.certificate.radius == 0
    assert "any keyword" in result.certificate.reason
    assert keyword().run("q", ["w", "w", "evil"]).keywords == ("evil", "w")
    for threat in (PassageInjection(1), PassageModification(1)):
        assert certified(keyword(), passages, threat) == 0
    assert certified(keyword(top_k=9), passages, PassageInjection(2)) == 1  # n = 4: two are needed


def test_at_most_two_at_the_default_parameters():
    """At alpha = 0.3, beta = 3 and k = 10, three attackers always meet the threshold."""
    passages = ["w"] * 10
    for threat in (PassageInjection(3), PassageModification(3)):
        certificate = keyword().certify("q", passages, threat)
        assert (certificate.radius, certificate.certified) == (2, False)
    assert keyword().run("q", passages).certificate.radius == 2
    assert keyword().run("q", ["evil"] * 2 + passages[2:]).answer == "w"
    assert keyword().run("q", ["evil"] * 3 + passages[3:]).answer == "evil, w"
