"""Tiny random models and tokenizers, made here in a second and the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXTS = (
    "Answer the question from the context alone, in as few words as possible.",
    'If the context does not answer it, say "I don\'t know". Context: Question: Answer:',
    "The colour of the lamp is red. The owner of the boat is Anna Lopez. The bridge is green.",
)
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HEADS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2}
LLAMA: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
BART: dict[str, Any] = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
BART_HEADS: dict[str, Any] = {
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
}
SHAPES: dict[str, dict[str, Any]] = {
    "Llama": {**LLAMA, **HEADS, "max_position_embeddings": 2048},
    "Qwen2": {**LLAMA, **HEADS},
    "Mistral": {**LLAMA, **HEADS, "sliding_window": 16},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "Mixtral": {**LLAMA, **HEADS, "num_local_experts": 4},
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "T5": {**T5, "decoder_start_token_id": 0},
    "Bart": {**BART, **BART_HEADS, "max_position_embeddings": 1024, "decoder_start_token_id": 1},
}
CLASSES = {
    "GPT2": "GPT2LMHeadModel",
    "T5": "T5ForConditionalGeneration",
    "Bart": "BartForConditionalGeneration",
}


class TinyModels:
    """Tokenizers that are trained, and models that are not."""

    def tokenizer(self, *, chat: bool = False, metaspace: bool = False, end: bool = False) -> Any:
        """A byte-level tokenizer, or one with word marks and an unknown token.

        Args:
            chat: with a chat template.
            metaspace: with word marks; it cannot write letters that it has not seen.
            end: with an end-of-sequence token behind every text, as encoder-decoder models have.
        """
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

        special = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if metaspace:
            special, alphabet = [*special, "<unk>"], []
        inner = Tokenizer(models.BPE(unk_token="<unk>" if metaspace else None))
        split, join = (
            (pre_tokenizers.Metaspace(), decoders.Metaspace())
            if metaspace
            else (pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel())
        )
        inner.pre_tokenizer, inner.decoder = split, join
        trainer = trainers.BpeTrainer(
            vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        inner.train_from_iterator(TEXTS * 3, trainer)
        if end:
            inner.post_processor = processors.TemplateProcessing(
                single="$A </s>", special_tokens=[("</s>", 1)]
            )
        unknown = {"unk_token": "<unk>"} if metaspace else {}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", eos_token="</s>", **unknown
        )
        if chat:
            tokenizer.chat_template = CHAT
        return tokenizer

    def network(self, kind: str, tokenizer: Any, **changed: Any) -> Any:
        """A model of a given architecture; its weights are large, so that it has preferences."""
        import torch
        import transformers

        torch.manual_seed(7)
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=len(tokenizer),
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=0 if kind in ("T5", "Bart") else None,
            **{**SHAPES[kind], **changed},
        )
        network = getattr(transformers, CLASSES.get(kind, f"{kind}ForCausalLM"))(config).eval()
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if weight.ndim > 1 and "embed" not in name:
                    weight.normal_(0, 0.35)
        return network

    def saved(self, folder: Path, kind: str = "Llama", **options: Any) -> str:
        """The path of a model with its tokenizer, for loading by name."""
        tokenizer = self.tokenizer(**options)
        tokenizer.save_pretrained(folder)
        self.network(kind, tokenizer).save_pretrained(folder)
        return str(folder)
