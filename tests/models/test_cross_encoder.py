"""sentence-transformers cross-encoders as point-wise scorers, on a tiny random model."""

from __future__ import annotations

import pytest

pytest.importorskip("sentence_transformers")

import torch
from sentence_transformers import CrossEncoder

from robust_components.models.cross_encoder import CrossEncoderScorer
from robust_components.models.pair_scorer import TransformersPairScorer
from robust_components.ranking import SmoothedRanker
from robust_components.ranking.scoring import check_pointwise

QUERY = "who is the man"
TEXTS = ["the man", "", "river city a b c", "a", "the man is a river"]


@pytest.fixture(params=[1, 2])
def folder(request, make_bert, bert_tokenizer, tmp_path):
    make_bert(request.param).save_pretrained(tmp_path)
    bert_tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("output", ["probability", "logit"])
def test_same_scores_as_the_plain_hugging_face_model(folder, output):
    model = CrossEncoder(str(folder), device="cpu")
    scores = CrossEncoderScorer(model, output=output, batch_size=2).score(QUERY, TEXTS)
    plain = TransformersPairScorer.from_pretrained(folder, output=output)
    assert scores == pytest.approx(plain.score(QUERY, TEXTS), abs=1e-5)


def test_the_models_own_activation_plays_no_part(folder):
    def over_the_list(logits):
        return (logits - logits.min()) / (logits.max() - logits.min())

    model = CrossEncoder(str(folder), device="cpu", activation_fn=over_the_list)
    scorer = CrossEncoderScorer(model)
    check_pointwise(scorer, QUERY, 1e-5)
    plain = CrossEncoderScorer(CrossEncoder(str(folder), device="cpu"))
    assert scorer.score(QUERY, TEXTS) == pytest.approx(plain.score(QUERY, TEXTS), abs=1e-6)


def test_cuts_names_and_fingerprints(folder):
    scorer = CrossEncoderScorer(CrossEncoder(str(folder), device="cpu", max_length=16))
    fits = "a " * (16 - 4 - 3)
    texts = [fits, fits + "a", ""]
    scores, cuts = scorer.score_and_cuts(QUERY, texts)
    assert cuts == [False, True, False]
    assert scores == scorer.score(QUERY, texts)
    assert scorer.score_and_cuts(QUERY, []) == ([], [])
    assert scorer.name == str(folder)
    again = CrossEncoderScorer(CrossEncoder(str(folder), device="cpu"))
    assert len(scorer.fingerprint) == 64
    assert scorer.fingerprint == again.fingerprint


def test_in_a_smoothed_ranker(folder):
    ranker = SmoothedRanker(CrossEncoderScorer(CrossEncoder(str(folder), device="cpu")), top_k=2)
    ranking = ranker.rank(QUERY, TEXTS)
    assert sorted(item.index for item in ranking.items) == [0, 1, 2, 3, 4]
    assert len(ranking.certificate.model["fingerprint"]) == 64


def test_what_is_no_ranker_is_refused(folder, make_bert, bert_tokenizer, tmp_path):
    with pytest.raises(TypeError, match=r"must be a sentence_transformers.CrossEncoder, got str"):
        CrossEncoderScorer("cross-encoder")
    model = CrossEncoder(str(folder), device="cpu")
    with pytest.raises(ValueError, match="output must be"):
        CrossEncoderScorer(model, output="min-max")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        CrossEncoderScorer(model, batch_size=0)
    with pytest.raises(ValueError, match=r"weights are torch.float16"):
        CrossEncoderScorer(CrossEncoder(str(folder), device="cpu").to(torch.float16))
    make_bert(3).save_pretrained(tmp_path / "three")
    bert_tokenizer.save_pretrained(tmp_path / "three")
    with pytest.raises(ValueError, match="1 or 2 labels, got 3"):
        CrossEncoderScorer(CrossEncoder(str(tmp_path / "three"), device="cpu"))
