"""Every Python block of the README runs."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
NEEDS = ("haystack", "langchain_core")


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_block_runs(number, capsys):
    for module in NEEDS:
        if module in BLOCKS[number]:
            pytest.importorskip(module)
    exec(compile(BLOCKS[number], f"README.md block {number}", "exec"), {})
    assert capsys.readouterr().out


def test_readme_says_how_much_term_coverage_counts():
    folder = ROOT / "robust_components" / "models" / "weights" / "ranker"
    notes = json.loads((folder / "ranker.json").read_text("utf-8"))
    assert notes["coverage"]["share"] == "4/5"
    assert "four fifths" in (ROOT / "README.md").read_text("utf-8")


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert "make demo" in readme
    assert "make test" in readme
