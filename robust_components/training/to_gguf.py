"""Write a Llama-architecture model with a byte-level BPE tokenizer as a GGUF file.

For the tiny model of :mod:`robust_components.training.tiny_llama`; real models are converted with
llama.cpp's own ``convert_hf_to_gguf.py``. Needs the package ``gguf``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(folder: str | Path, path: str | Path) -> None:
    """Convert the Hugging Face folder to a GGUF file with float32 weights.

    Raises:
        ValueError: the model is not a Llama or its tokenizer no byte-level BPE.
    """
    from gguf import GGUFWriter

    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != "llama":
        raise ValueError(
            f"model_type must be 'llama', got {config['model_type']!r}; "
            "convert other models with llama.cpp's convert_hf_to_gguf.py"
        )
    writer = GGUFWriter(str(path), "llama")
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_name(folder.name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(rope_base(config))
    add_tokenizer(writer, folder, config["vocab_size"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        weights = tensor.astype(np.float32)
        if ".q_proj." in name:
            weights = interleaved(weights, heads)
        elif ".k_proj." in name:
            weights = interleaved(weights, groups)
        writer.add_tensor(tensor_name(name), np.ascontiguousarray(weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rope_base(config: dict[str, Any]) -> float:
    """The base of the rotary embedding, wherever the version of transformers wrote it."""
    parameters = config.get("rope_parameters") or {}
    return float(parameters.get("rope_theta", config.get("rope_theta", 10000.0)))


def tensor_name(name: str) -> str:
    """The GGUF name of a Hugging Face tensor."""
    if name in TOP:
        return TOP[name]
    number, _, rest = name.removeprefix("model.layers.").partition(".")
    module, _, kind = rest.rpartition(".")
    return f"blk.{number}.{NAMES[module]}.{kind}"


def interleaved(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in the order of llama.cpp's rotary embedding: pairs beside each other."""
    halves = weights.reshape(heads, 2, len(weights) // heads // 2, -1)
    return halves.swapaxes(1, 2).reshape(weights.shape)


def add_tokenizer(writer: Any, folder: Path, size: int) -> None:
    """The vocabulary, merges, special tokens and chat template."""
    from gguf import TokenType

    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if saved["model"]["type"] != "BPE" or saved["pre_tokenizer"]["type"] != "ByteLevel":
        raise ValueError(
            f"the tokenizer in {folder} must be a byte-level BPE, got {saved['model']['type']}; "
            "convert other models with llama.cpp's convert_hf_to_gguf.py"
        )
    ids = dict(saved["model"]["vocab"])
    special = {token["content"] for token in saved["added_tokens"] if token["special"]}
    ids.update({token["content"]: token["id"] for token in saved["added_tokens"]})
    tokens = [f"[UNUSED{number}]" for number in range(size)]
    kinds = [TokenType.UNUSED] * size
    for token, number in ids.items():
        tokens[number] = token
        kinds[number] = TokenType.CONTROL if token in special else TokenType.NORMAL
    merges = [m if isinstance(m, str) else " ".join(m) for m in saved["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(ids[settings["bos_token"]])
    writer.add_eos_token_id(ids[settings["eos_token"]])
    writer.add_add_bos_token(False)
    template = folder / "chat_template.jinja"
    if template.is_file():
        writer.add_chat_template(template.read_text(encoding="utf-8"))
