"""Token models by name: which back end reads which model."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robust_components.models.protocols import TokenModel


def load_token_model(path_or_id: str | Path, **options: Any) -> TokenModel:
    """A model for secure decoding: a GGUF file, or a Hugging Face folder or id.

    Args:
        path_or_id: a path ending in ``.gguf`` is read by llama.cpp, anything else by transformers.
        options: for ``LlamaCppTokenModel`` or ``TransformersTokenModel.from_pretrained``.

    Raises:
        ImportError: the extra ``llama-cpp`` or ``transformers`` is not installed.
        OSError, ValueError: the model cannot be read, or an option is out of range.
    """
    name = str(path_or_id)
    is_gguf = name.lower().endswith(".gguf")
    needed, extra = ("llama_cpp", "llama-cpp") if is_gguf else ("transformers", "transformers")
    if importlib.util.find_spec(needed) is None:
        raise ImportError(
            f"{name!r} needs {needed}; install 'robust-components[{extra}]' or pass a model of "
            "your own"
        )
    model: TokenModel
    if is_gguf:
        llama_cpp: Any = importlib.import_module("robust_components.models.llama_cpp")
        model = llama_cpp.LlamaCppTokenModel(path_or_id, **options)
    else:
        from robust_components.models.transformers_tokens import TransformersTokenModel

        model = TransformersTokenModel.from_pretrained(name, **options)
    return model
