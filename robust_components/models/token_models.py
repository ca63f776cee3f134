"""Token models by name: which back end reads which model."""

from __future__ import annotations

import importlib
import importlib.util
import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robust_components.models.named_files import check_there

if TYPE_CHECKING:
    from robust_components.models.protocols import TokenModel, TokenSession


def load_token_model(path_or_id: str | Path, **options: Any) -> TokenModel:
    """A model for secure decoding: a GGUF file, or a Hugging Face folder or id.

    Args:
        path_or_id: a path ending in ``.gguf`` is read by llama.cpp, anything else by transformers.
        options: for ``LlamaCppTokenModel`` or ``TransformersTokenModel.from_pretrained``.

    Raises:
        ImportError: the extra ``llama-cpp`` or ``transformers`` is not installed.
        OSError, ValueError: the model cannot be read, or an option is out of range.
    """
    check_there(path_or_id)
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


class NamedTokenModel:
    """A token model by path or id, loaded when it is needed and then kept.

    Args:
        path_or_id: for :func:`load_token_model`, as text.
        options: likewise, plain values: text, numbers, lists, dictionaries.
        max_answer_tokens: used unless ``options`` hold it.

    Raises:
        TypeError: an argument is of the wrong type.
    """

    def __init__(
        self, path_or_id: str, options: Mapping[str, Any] | None, *, max_answer_tokens: int
    ) -> None:
        if not isinstance(path_or_id, str) or not path_or_id:
            raise TypeError(
                "token_model must be a Hugging Face id or folder, or a path that ends in .gguf, "
                f"got {path_or_id!r}; pass it as text"
            )
        try:
            plain = json.loads(json.dumps(options or {}))
        except TypeError as error:
            raise TypeError(
                f"token_model_kwargs must hold plain values, got {options!r}: {error}; pass text, "
                "numbers, lists and dictionaries"
            ) from error
        if not isinstance(plain, dict):
            raise TypeError(
                f"token_model_kwargs must be a dict, got {options!r}; pass the keyword arguments "
                "of robust_components.models.load_token_model"
            )
        self._path_or_id = path_or_id
        self._options = {"max_answer_tokens": max_answer_tokens, **plain}
        self._loading = threading.Lock()
        self._model: TokenModel | None = None

    def load(self) -> TokenModel:
        """The model.

        Raises:
            ImportError, OSError, ValueError, TypeError: see :func:`load_token_model`.
        """
        with self._loading:
            if self._model is None:
                self._model = load_token_model(self._path_or_id, **self._options)
            return self._model

    @property
    def name(self) -> str:
        return self.load().name

    @property
    def fingerprint(self) -> str:
        return self.load().fingerprint

    def open(self, query: str, passages: Sequence[str]) -> TokenSession:
        return self.load().open(query, passages)


def named_token_model(
    token_model: Any,
    token_model_kwargs: Any,
    *,
    chat_model: Any,
    chat_model_name: str,
    aggregation: str,
    max_tokens: int,
) -> NamedTokenModel | None:
    """What the settings ``token_model`` and ``token_model_kwargs`` of a generator stand for.

    Args:
        chat_model: the model given besides, under the name ``chat_model_name``.
        aggregation: that of the generator.
        max_tokens: longest answer of the generator.

    Raises:
        ValueError: the settings do not go together.
        TypeError: one is of the wrong type.
    """
    if token_model is None:
        if token_model_kwargs:
            raise ValueError(
                f"token_model_kwargs needs a token_model, got {token_model_kwargs!r} alone; "
                "pass both or neither"
            )
        return None
    if chat_model is not None:
        raise ValueError(
            f"token_model and {chat_model_name} exclude each other, got {token_model!r} and "
            f"{type(chat_model).__name__}; pass one of them"
        )
    if aggregation != "decoding":
        raise ValueError(
            f"token_model serves aggregation='decoding' alone, got {aggregation!r}; "
            "set it, or leave token_model out"
        )
    return NamedTokenModel(token_model, token_model_kwargs, max_answer_tokens=max_tokens)
