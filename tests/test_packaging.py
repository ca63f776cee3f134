"""The package's shape: which files it has, what the core may import, what the wheel carries."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "robust_components"
INTEGRATIONS = ROOT / "integrations"
HAYSTACK = INTEGRATIONS / "haystack_integrations"
LANGCHAIN = INTEGRATIONS / "langchain_robust"
SHIPPED = {CORE: ROOT, HAYSTACK: INTEGRATIONS, LANGCHAIN: INTEGRATIONS}
SOURCES = (CORE, INTEGRATIONS, ROOT / "tests", ROOT / "examples", ROOT / "benchmarks")
MAX_LINES = 400


def files_below(folder: Path, pattern: str = "*") -> list[Path]:
    """Files under `folder`, caches left out; none where the folder does not exist."""
    return sorted(
        path for path in folder.rglob(pattern) if path.is_file() and "__pycache__" not in path.parts
    )


def is_framework(module: str) -> bool:
    package = module.partition(".")[0]
    return package.startswith(("haystack", "langchain", "langgraph"))


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every absolute import, inside functions and by literal name too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and node.args:
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            first = node.args[0]
            if name in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                yield node.lineno, str(first.value)


def haystack_leaves() -> list[Path]:
    return sorted(HAYSTACK.glob("components/*/robust_components"))


def test_imports_are_found_wherever_they_stand() -> None:
    source = (
        "import haystack.dataclasses as a\n"
        "def f():\n"
        "    from langchain_core.documents import Document\n"
        "    importlib.import_module('haystack')\n"
        "from . import langchain\n"
        "import numpy\n"
    )
    found = [line for line, module in imported_modules(source) if is_framework(module)]
    assert sorted(found) == [1, 3, 4]


@pytest.mark.parametrize("path", files_below(CORE, "*.py"), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_imports_no_framework(path: Path) -> None:
    found = [
        f"line {line}: {module}"
        for line, module in imported_modules(path.read_text(encoding="utf-8"))
        if is_framework(module)
    ]
    assert not found, f"adapters belong in integrations/: {found}"


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "spacy", "haystack", "langchain_core", "matplotlib"]
    code = f"import sys, robust_components; print(*[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_core_dependencies_stay_light() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {line.partition(">")[0] for line in project["dependencies"]}
    assert names == {"numpy", "scipy", "snowballstemmer"}


def test_haystack_namespace_has_no_init_above_the_leaves() -> None:
    """One such file would hide every other installed haystack_integrations package."""
    leaves = haystack_leaves()
    stray = [
        path
        for path in [*files_below(INTEGRATIONS, "__init__.py")]
        if LANGCHAIN not in path.parents and not any(leaf in path.parents for leaf in leaves)
    ]
    assert stray == []


def test_every_leaf_package_is_typed() -> None:
    leaves = [CORE, LANGCHAIN, *haystack_leaves()]
    assert len(leaves) > 2
    wanted = [leaf / name for leaf in leaves for name in ("__init__.py", "py.typed")]
    assert [path for path in wanted if not path.is_file()] == []


def test_no_source_file_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in SOURCES
        for path in files_below(folder, "*.py")
        if folder != ROOT / "tests"  # enumerations keep their brute force beside them
    }
    assert {name: n for name, n in lengths.items() if n > MAX_LINES} == {}


@pytest.mark.slow
def test_wheel_carries_every_file_of_the_packages(tmp_path: Path) -> None:
    """Code, py.typed and weights, under the names they are imported by, and nothing else."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(base).as_posix()
        for package, base in SHIPPED.items()
        for path in files_below(package)
    }
    assert names == wanted
