"""Models named by a path that is not there, said before a hub is asked."""

from __future__ import annotations

import os
from pathlib import Path

SIGNS = ("/", "./", "../", "~", ".\\", "..\\")


def check_there(model: str | Path) -> None:
    """Refuse a path, or the name of a GGUF file, where nothing is.

    ``owner/name`` is a hub id and passes.

    Raises:
        FileNotFoundError: nothing is there.
    """
    name = os.fspath(model)
    is_path = isinstance(model, Path) or name.startswith(SIGNS) or Path(name).is_absolute()
    if (is_path or name.lower().endswith(".gguf")) and not Path(name).expanduser().exists():
        raise FileNotFoundError(
            f"the model {name} does not exist; pass an existing folder or file, or a hub id such "
            "as 'owner/name'"
        )
