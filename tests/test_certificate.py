"""The certificate as a piece of data: stored, changed, signed, shown."""

import json
from dataclasses import replace

import pytest

from robust_components import Certificate, RobustRAGGenerator
from robust_components.certificate import VERSION
from robust_components.models.testing import KeywordReader

KEY = "a secret of at least 16 bytes"


def respond(query, text):
    if text == "FAILS":
        raise ConnectionError("<b>no</b>\nresponse")
    return text


@pytest.fixture
def certificate():
    return RobustRAGGenerator(KeywordReader(respond)).run("q", ["<i>Paris</i>"] * 5).certificate


@pytest.fixture
def refused():
    """Not certified, for a reason that quotes an exception of two lines and a tag."""

    class Failing(KeywordReader):
        def combine(self, query, keywords):
            return super().combine(query, ["FAILS"])

    class Words:
        def extract(self, text):
            return frozenset(text.split())

    generator = RobustRAGGenerator(Failing(respond), "keyword", keyword_extractor=Words())
    return generator.run("q", ["Paris"] * 5).certificate


def test_json_round_trip_changes_nothing(certificate, refused):
    for one in (certificate, refused, certificate.sign(KEY)):
        again = Certificate.from_json(one.to_json())
        assert again == one
        assert again.to_dict() == one.to_dict() == json.loads(one.to_json(indent=2))
        assert again.to_json() == one.to_json()
        assert again.verify() == one.verify()


def test_an_honest_certificate_verifies(certificate):
    assert certificate.verify() and certificate.problems() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("claim", "Nothing can change the answer."),
        ("radius", 1),
        ("certified", False),
        ("threat", {"kind": "passage_modification", "budget": 2, "scope": "sources"}),
        ("assumptions", ["None."]),
        ("model", {"name": "another", "fingerprint": "one"}),
        ("cost", {}),
        ("digest", "0" * 64),
    ],
)
def test_the_digest_covers_every_field(certificate, name, value):
    data = {**certificate.to_dict(), name: value}
    stored = Certificate.from_dict(data)
    assert not stored.verify()
    assert any("digest" in one for one in stored.problems())


def test_replace_keeps_the_old_digest(certificate):
    assert not replace(certificate, radius=certificate.radius + 1).verify()


def test_signature(certificate):
    signed = certificate.sign(KEY)
    assert signed.verify() and signed.verify(KEY) and signed.verify(KEY.encode())
    assert signed.digest == certificate.digest
    assert not signed.verify("another secret")
    assert certificate.problems(KEY) == ["The certificate is not signed, but a key was given."]
    for wrong in ("", "\ud800", "é", signed.signature[:-1], signed.signature.upper()):
        assert not replace(signed, signature=wrong).verify(KEY)
        assert replace(signed, signature=wrong).verify()


def test_a_signature_does_not_carry_over_to_a_changed_certificate(certificate):
    data = certificate.sign(KEY).to_dict()
    changed = Certificate.from_dict({**data, "cost": {}, "digest": ""} | {"digest": "x"})
    resealed = replace(changed, digest="")
    assert resealed.verify() and not resealed.verify(KEY)


@pytest.mark.parametrize("key", ["", b""])
def test_an_empty_key_is_an_error(certificate, key):
    with pytest.raises(ValueError, match="must not be empty"):
        certificate.sign(key)
    with pytest.raises(ValueError, match="must not be empty"):
        certificate.verify(key)


def test_from_dict_says_what_is_wrong(certificate):
    data = certificate.to_dict()
    with pytest.raises(ValueError, match=r"missing fields \['claim', 'radius'\]"):
        Certificate.from_dict({k: v for k, v in data.items() if k not in ("claim", "radius")})
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        Certificate.from_dict({**data, "colour": "green"})
    with pytest.raises(ValueError, match="JSON object, got list"):
        Certificate.from_dict([data])
    with pytest.raises(ValueError, match="digest must not be empty"):
        Certificate.from_dict({**data, "digest": ""})
    for name in ("guarantee", "statement"):
        with pytest.raises(ValueError, match="nonsense"):
            Certificate.from_dict({**data, name: "nonsense"})


def test_another_version_is_read_but_not_verified(certificate):
    other = Certificate.from_dict({**certificate.to_dict(), "version": VERSION + "0"})
    assert any("version" in one for one in other.problems())


def test_an_unknown_method_has_no_arithmetic(certificate):
    other = replace(certificate, method="astrology", digest="")
    assert other.problems() == ["no arithmetic is known for method 'astrology'."]


def test_text_has_three_lines(certificate, refused):
    first, second, third = str(certificate).split("\n")
    assert first == f"CERTIFIED (deterministic, observed): {certificate.claim}"
    assert f"radius {certificate.radius}" in second and "<= 1 sources" in second
    assert third.lstrip().startswith("assumes: ")
    first, second, third = str(refused).split("\n")
    assert first.startswith("NOT CERTIFIED (deterministic, observed): ")
    assert "Reason: the final call failed" in second


def test_html_shows_the_same_and_escapes_it(certificate, refused):
    assert "&lt;i&gt;Paris&lt;/i&gt;" in certificate._repr_html_()
    assert "<i>" not in certificate._repr_html_()
    assert "NOT CERTIFIED" in refused._repr_html_()
    assert "&lt;b&gt;no&lt;/b&gt;" in refused._repr_html_()
    marked = replace(certificate, assumptions=("<script>",), digest="")
    assert "<script>" not in marked._repr_html_()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("assumptions", 5),
        ("assumptions", "text"),
        ("assumptions", [5]),
        ("certified", 1),
        ("claim", None),
        ("radius", True),
        ("radius", 1.0),
        ("confidence", "high"),
        ("digest", 7),
        ("digest", ""),
        ("evidence", []),
        ("reason", 0),
        ("threat", None),
        ("cost", float("nan")),
        ("model", b"bytes"),
        ("guarantee", ["deterministic"]),
    ],
)
def test_from_dict_refuses_other_types(certificate, name, value):
    with pytest.raises(ValueError, match=name if name not in ("cost", "model") else "plain JSON"):
        Certificate.from_dict({**certificate.to_dict(), name: value})


def test_deep_nesting_is_refused_not_a_traceback(certificate):
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="plain JSON"):
        Certificate.from_dict({**certificate.to_dict(), "evidence": {"deep": nested}})
    with pytest.raises(ValueError, match="nested too deeply"):
        Certificate.from_json("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match="Expecting"):
        Certificate.from_json("{")
