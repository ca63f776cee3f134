"""A certificate names its question, its passages and its assumptions, and its parts agree."""

from __future__ import annotations

import copy

import pytest

from robust_components import RobustRAGGenerator
from robust_components.answers import LONGEST_ANSWER, is_abstention
from robust_components.models.testing import KeywordReader, TableTokenModel
from robust_components.rag.passages import Passage
from robust_components.threats import PassageInjection, PassageModification
from robust_components.verification import problems
from robust_components.verification.texts import abstains

QUERY = "Which city?"
TEXTS = ["It is Paris", "Surely Paris", "Paris", "Rome", "Paris \ud800"]


class Words:
    def extract(self, text):
        return frozenset(text.lower().split())


def last_word(query, text):
    if text == "FAILS":
        raise ConnectionError("no response")
    return text.replace("\ud800", "").split()[-1]


def generator(method, **options):
    if method == "decoding":
        table = {(text, ()): {"Paris": 0.9, "Rome": 0.1} for text in TEXTS}
        table |= {(text, ("Paris",)): {"</s>": 1.0} for text in TEXTS}
        return RobustRAGGenerator(TableTokenModel(table), "decoding", **options)
    if method == "keyword":
        options["keyword_extractor"] = Words()
    return RobustRAGGenerator(KeywordReader(last_word), method, **options)


METHODS = pytest.mark.parametrize("method", ["voting", "keyword", "decoding"])


@METHODS
def test_a_certificate_concerns_its_own_question_and_passages(method):
    certificate = generator(method).run(QUERY, TEXTS).certificate
    names = [f"passage {i + 1}" for i in range(5)]
    assert certificate.verify()
    assert certificate.concerns(QUERY, TEXTS)
    assert certificate.concerns(QUERY, TEXTS, names)
    assert not certificate.concerns("which city?", TEXTS)
    assert not certificate.concerns(QUERY, TEXTS[:-1])
    assert not certificate.concerns(QUERY, [*TEXTS, "Rome"])
    assert not certificate.concerns(QUERY, [TEXTS[1], TEXTS[0], *TEXTS[2:]])
    assert not certificate.concerns(QUERY, [*TEXTS[:-1], "Paris ?"])
    assert not certificate.concerns(QUERY, TEXTS, [*names[:-1], "passage 1"])


@METHODS
def test_passages_that_were_not_read_are_not_part_of_it(method):
    passages = [Passage(text, source=f"host {i % 2}") for i, text in enumerate(TEXTS)]
    certificate = generator(method, top_k=4).certify(QUERY, passages, PassageModification(1))
    assert certificate.concerns(QUERY, TEXTS[:4], ["host 0", "host 1", "host 0", "host 1"])
    assert not certificate.concerns(QUERY, TEXTS)


def test_concerns_takes_texts_only():
    certificate = generator("voting").run(QUERY, TEXTS).certificate
    for query, passages in ((None, TEXTS), (QUERY, "Paris"), (QUERY, [None]), (QUERY, [b"Paris"])):
        with pytest.raises(TypeError, match="must be text"):
            certificate.concerns(query, passages)


@METHODS
@pytest.mark.parametrize(
    "change",
    [
        lambda inputs: inputs.pop("query"),
        lambda inputs: inputs.update(query="Which city?"),
        lambda inputs: inputs["passages"].pop(),
        lambda inputs: inputs["sources"].reverse(),
        lambda inputs: inputs["sources"].__setitem__(0, "passage 2"),
        lambda inputs: inputs.update(sources=None),
        lambda inputs: inputs.update(passages=[1, 2, 3, 4, 5]),
    ],
)
def test_inputs_must_fit_the_evidence(method, change, forge):
    data = generator(method).run(QUERY, TEXTS).certificate.to_dict()
    assert problems(data) == []
    changed = copy.deepcopy(data)
    change(changed["evidence"]["inputs"])
    if method == "decoding" and changed["evidence"]["inputs"]["sources"] == [
        f"passage {i}" for i in (5, 4, 3, 2, 1)
    ]:
        return  # decoding numbers its sources: other names for them are no contradiction
    assert problems(forge.reseal(changed))
    del changed["evidence"]["inputs"]
    assert any("inputs" in one for one in problems(forge.reseal(changed)))


@METHODS
@pytest.mark.parametrize("threat", [None, PassageInjection(2, 2), PassageModification(1)], ids=str)
def test_every_assumption_is_needed_and_more_do_no_harm(method, threat, forge):
    passages = TEXTS if method == "decoding" else [*TEXTS, "FAILS"]
    if threat is None:
        certificate = generator(method, top_k=7).run(QUERY, passages).certificate
    else:
        certificate = generator(method, top_k=7).certify(QUERY, passages, threat)
    data = certificate.to_dict()
    assert problems(data) == []
    assert len(data["assumptions"]) >= 5
    for sentence in data["assumptions"]:
        fewer = [one for one in data["assumptions"] if one != sentence]
        found = problems(forge.reseal({**data, "assumptions": fewer}))
        assert len(found) == 1 and "assumption that is not stated" in found[0]
    more = [*data["assumptions"], "The operator keeps the model's temperature at 0."]
    assert problems(forge.reseal({**data, "assumptions": more})) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("parameters", "eta"), "0.1"),
        (("parameters", "eta"), 0),
        (("parameters", "eta"), "1e-2"),
        (("parameters", "numerical_margin"), "0.1"),
        (("parameters", "max_tokens"), 1),
        (("evidence", "eta"), "1e999999999"),
        (("evidence", "steps", 0, "text"), "Rome"),
        (("evidence", "steps", 1, "text"), " Rome"),
        (("evidence", "steps", 0, "text"), None),
        (("evidence", "steps", 0, "text"), "x" * 2_000_000),
        (("evidence", "answer"), "rome"),
        (("evidence", "answer"), None),
    ],
)
def test_decoding_evidence_must_agree_with_itself(path, value, forge):
    data = generator("decoding").run(QUERY, TEXTS).certificate.to_dict()
    assert problems(data) == []
    assert problems(forge.reseal(forge.changed(data, path, value)))


def test_steps_that_spell_no_answer_go_with_an_abstention(forge):
    model = TableTokenModel({(text, ()): {"</s>": 1.0} for text in TEXTS})
    result = RobustRAGGenerator(model, "decoding").run(QUERY, TEXTS)
    assert result.abstained and result.certificate.radius == 2
    assert result.certificate.claim.startswith("The abstention is what the clean passages would")
    data = result.certificate.to_dict()
    assert problems(data) == []
    other = forge.changed(data, ("evidence", "answer"), "paris")
    claim = data["claim"].replace("The abstention", "The answer 'Paris'")
    assert problems(forge.reseal({**other, "claim": claim}))


SAID = """I don't know|i do  not know.|"I don’t know"|I cannot tell you|Unknown.|unknown soldier|
No information here|insufficient context|not enough answers|nobody|I know|Paris|I can't answer|no|
I cannot answerable|KNOWN|…unknown…|ı donʼt know|not  enough context|i can not know| unknown !"""


@pytest.mark.parametrize("text", ["", " \n", *SAID.replace("\n", "").split("|")])
def test_both_sides_agree_on_what_says_nothing(text):
    assert abstains(text) == (not text.strip() or is_abstention(text))


def test_the_longest_answer_verifies():
    for answer in ("\U000e0001" * LONGEST_ANSWER, "a " * (LONGEST_ANSWER // 2)):
        model = KeywordReader(lambda query, text, answer=answer: answer)
        certificate = RobustRAGGenerator(model).run(QUERY, TEXTS).certificate
        assert certificate.radius == 2
        assert certificate.problems() == []


def test_a_longer_answer_is_a_failure():
    model = KeywordReader(lambda query, text: "a" * (LONGEST_ANSWER + (text == "Rome")))
    result = RobustRAGGenerator(model).run(QUERY, TEXTS)
    assert [passage.failure for passage in result.passages].count(None) == 4
    assert "100001 characters" in result.passages[3].failure
    assert result.certificate.verify()
    row = {(TEXTS[0], ()): {"a" * (LONGEST_ANSWER + 1): 1.0}}
    decoded = RobustRAGGenerator(TableTokenModel(row), "decoding").run(QUERY, TEXTS[:1])
    assert decoded.abstained and decoded.certificate.verify()
