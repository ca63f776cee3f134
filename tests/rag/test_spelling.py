"""Answers are spelled piece by piece: nothing shown is taken back, no half character is shown."""

from __future__ import annotations

import numpy as np
import pytest

from robust_components import RobustRAGGenerator
from robust_components.models.testing import KeywordReader
from robust_components.rag.decoding import Spelling
from robust_components.rag.passages import Passage

TEXT = "Zürich \U0001f512 €5\ufffd!"


class ByteSession:
    """Every passage spells one text, one byte a token; token 256 ends it."""

    def __init__(self, texts, failing=None):
        self.texts = [text.encode() for text in texts]
        self.eos = 256
        self.abstention = np.zeros(len(texts))
        self.truncated = [False] * len(texts)
        self.failures = [None] * len(texts)
        self.failing = failing

    def next_probabilities(self, prefix, rows):
        result = np.zeros((len(rows), 257))
        for at, row in enumerate(rows):
            spelled = [*self.texts[row], self.eos]
            follows = list(prefix) == spelled[: len(prefix)] and len(prefix) < len(spelled)
            result[at, spelled[len(prefix)] if follows else self.eos] = 1.0
            if row == self.failing and len(prefix) == 3:
                result[at] = np.nan
        return result

    def no_retrieval_token(self, prefix):
        return self.eos

    def token_text(self, token):
        return f"<{token:02x}>"

    def text(self, tokens):
        return bytes(tokens).decode("utf-8", "replace")

    def close(self):
        pass


class ByteModel:
    name = fingerprint = "bytes"

    def __init__(self, failing=None):
        self.failing = failing

    def open(self, query, passages):
        return ByteSession(passages, self.failing)


@pytest.mark.parametrize("text", [TEXT, "a", "\U0001f512", "\ufffd", "e\u0301"])
def test_pieces_are_whole_characters_and_add_up(text):
    streamed = []
    result = RobustRAGGenerator(ByteModel(), "decoding").run(
        "q", [text] * 5, on_token=streamed.append
    )
    assert result.answer == text == "".join(token.text for token in result.tokens)
    shown = "".join(token.text for token in streamed)
    assert text.startswith(shown)
    assert text.removeprefix(shown).strip("\ufffd") == ""
    assert len(streamed) == len(text.encode())
    assert [token.certified_k for token in streamed] == [2] * len(streamed)
    assert result.certificate.verify()
    assert [step["text"] for step in result.certificate.evidence["steps"]] == [
        token.text for token in result.tokens
    ]


def test_half_a_character_at_the_end_comes_last():
    model = RobustRAGGenerator(ByteModel(), "decoding", max_tokens=2)
    streamed = []
    result = model.run("q", ["€"] * 3, on_token=streamed.append)
    assert [token.text for token in streamed] == ["", ""]
    assert [token.text for token in result.tokens] == ["", "\ufffd"]
    assert result.answer == "\ufffd" and result.certificate.verify()


def test_a_session_that_takes_back_what_it_spelled_is_refused():
    class Rewriting(ByteSession):
        def text(self, tokens):
            return super().text(tokens).replace(" n't", "n't")

    spelling = Spelling(Rewriting(["x"]))
    assert [spelling.add(byte) for byte in b"do n'"] == ["d", "o", " ", "n", "'"]
    with pytest.raises(ValueError, match="must begin with the text of fewer tokens"):
        spelling.add(ord("t"))


def test_a_row_that_fails_late_lowers_the_certificate_of_every_token():
    streamed = []
    passages = [Passage("Paris", source=str(i)) for i in range(7)]
    result = RobustRAGGenerator(ByteModel(failing=6), "decoding").run(
        "q", passages, on_token=streamed.append
    )
    assert result.answer == "Paris"
    assert [token.certified_k for token in streamed] == [3, 3, 3, 3, 3]
    assert result.passages[6].failure is not None
    assert result.certificate.radius == 3 and result.certificate.verify()
    four = RobustRAGGenerator(ByteModel(failing=3), "decoding")
    streamed.clear()
    result = four.run("q", passages[:4], on_token=streamed.append)
    assert [token.certified_k for token in streamed] == [1, 1, 1, 1, 1]
    assert [token.certified_k for token in result.tokens] == [1] * 6


def test_an_answer_that_says_it_does_not_know_is_an_abstention():
    result = RobustRAGGenerator(ByteModel(), "decoding").run("q", ["I don't know."] * 5)
    assert result.abstained and result.answer == "I don't know"
    assert all(passage.vote is None and passage.supports is None for passage in result.passages)
    assert result.certificate.radius == 2 and result.certificate.verify()
    assert result.certificate.claim.startswith("The abstention is what the clean passages")


def test_blank_answers_abstain():
    result = RobustRAGGenerator(ByteModel(), "decoding", abstention="No answer.").run("q", [" a"])
    assert not result.abstained
    result = RobustRAGGenerator(ByteModel(), "decoding", abstention="No answer.", max_tokens=1).run(
        "q", [" a"] * 3
    )
    assert result.abstained and result.answer == "No answer."
    assert result.certificate.verify()


def test_the_embedded_session_spells_prefixes_of_its_text():
    from robust_components.models.span_session import SpanSession, WordSpans

    rows = [
        WordSpans(("PARIS",), (False,), np.ones((1, 1)), 0.0, False),
        WordSpans(
            ("Paris", "saint", "-", "Germain"),
            (False, True, False, False),
            np.triu(np.ones((4, 4))) / 10,
            0.0,
            False,
        ),
    ]
    session = SpanSession(rows)
    names = {session.token_text(token): token for token in range(6)}
    tokens = [names[name] for name in ("paris", " saint")]
    assert session.text(tokens) == "PARIS saint"
    assert session.text(tokens[:1]) == "PARIS"


def test_voting_is_not_asked_for_tokens():
    with pytest.raises(TypeError, match="read\\(\\) and combine\\(\\)"):
        RobustRAGGenerator(ByteModel(), "voting")
    with pytest.raises(TypeError, match="next-token probabilities"):
        RobustRAGGenerator(KeywordReader(lambda query, text: text), "decoding")
