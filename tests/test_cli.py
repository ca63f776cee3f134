"""The command line, run as a user does, in this process."""

import io
import json
import subprocess
import sys

import pytest

from robust_components import Certificate, RobustRAGGenerator, cli
from robust_components.models.testing import KeywordReader

KEY = "a secret of at least 16 bytes"


def certificate_of(texts) -> Certificate:
    return RobustRAGGenerator(KeywordReader(lambda q, text: text)).run("q", texts).certificate


@pytest.fixture
def good():
    return certificate_of(["Paris"] * 5)


@pytest.fixture
def bad(good):
    return {**good.to_dict(), "radius": 4}


@pytest.fixture
def stored(tmp_path):
    def store(document):
        path = tmp_path / "stored.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
        return str(path)

    return store


def test_one_good_certificate(good, stored, capsys):
    assert cli.main(["verify", stored(good.to_dict())]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ok    certificate: voting, certified, radius 2: The answer 'Paris' is")
    assert "1 of 1 certificates verify (signatures not checked)." in out


def test_several_files(good, bad, stored, tmp_path, capsys):
    first = tmp_path / "first.json"
    first.write_text(json.dumps({**good.to_dict()}), encoding="utf-8")
    empty = tmp_path / "empty.json"
    empty.write_text("{}", encoding="utf-8")
    assert cli.main(["verify", str(first), stored(bad), str(empty)]) == 1
    out = capsys.readouterr().out
    assert f"ok    {first}: certificate" in out
    assert f"{empty}: no certificate found" in out
    assert "1 of 2 certificates verify" in out
    assert cli.main(["verify", str(first), str(empty)]) == 1


def test_one_bad_certificate(bad, stored, capsys):
    assert cli.main(["verify", stored(bad)]) == 1
    out = capsys.readouterr().out
    assert "FAILS certificate: voting, certified, radius 4:" in out
    assert "      - The digest does not match" in out
    assert "0 of 1 certificates verify" in out


def test_nested_certificates_are_found_in_order(good, bad, stored, capsys):
    good = good.to_dict()
    document = {
        "questions": [{"certificate": good}, {"certificate": bad}, {"certificate": None}],
        "deep": [[{"result": {"certificate": good, "other": {"certificate": "mangled"}}}]],
        "summary": {"certificates": 3},
    }
    assert cli.main(["verify", stored(document)]) == 1
    lines = capsys.readouterr().out.splitlines()
    places = [line.split(":")[0] for line in lines if not line.startswith("  ")][:-1]
    assert places == [
        "ok    questions[0].certificate",
        "FAILS questions[1].certificate",
        "ok    deep[0][0].result.certificate",
        "FAILS deep[0][0].result.other.certificate",
    ]
    assert lines[-1].startswith("2 of 4 certificates verify")


def test_a_result_as_it_is_stored(stored):
    generator = RobustRAGGenerator(KeywordReader(lambda q, text: text))
    assert cli.main(["verify", stored(generator.run("q", ["a"] * 3).to_dict())]) == 0


def test_an_answer_named_certificate_is_no_certificate(stored, capsys):
    document = {"certificate": certificate_of(["certificate"] * 5).to_dict()}
    assert "certificate" in document["certificate"]["evidence"]["votes"]
    assert cli.main(["verify", stored(document)]) == 0
    assert "1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize("document", [{}, [], 3, None, {"certificate": None}, {"answer": "a"}])
def test_nothing_found_is_a_failure(document, stored, capsys):
    assert cli.main(["verify", stored(document)]) == 1
    assert "no certificate found" in capsys.readouterr().out


def test_a_mangled_certificate_is_not_overlooked(good, stored):
    data = good.to_dict()
    del data["digest"]
    assert cli.main(["verify", stored(data)]) == 1
    assert cli.main(["verify", stored({"certificate": {}})]) == 1
    assert cli.main(["verify", stored({"certificate": [data]})]) == 1


def test_the_key_comes_from_the_environment(good, stored, monkeypatch, capsys):
    path = stored(good.sign(KEY).to_dict())
    monkeypatch.setenv("CERTIFICATE_KEY", KEY)
    assert cli.main(["verify", path, "--key-env", "CERTIFICATE_KEY"]) == 0
    assert "(signatures checked)" in capsys.readouterr().out
    monkeypatch.setenv("CERTIFICATE_KEY", "another")
    assert cli.main(["verify", path, "--key-env", "CERTIFICATE_KEY"]) == 1
    assert cli.main(["verify", stored(good.to_dict()), "--key-env", "CERTIFICATE_KEY"]) == 1
    for value, says in (("", "is empty"), (None, "is not set")):
        if value is None:
            monkeypatch.delenv("CERTIFICATE_KEY")
        else:
            monkeypatch.setenv("CERTIFICATE_KEY", value)
        assert cli.main(["verify", path, "--key-env", "CERTIFICATE_KEY"]) == 2
        assert f"CERTIFICATE_KEY {says}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["", "{", "not json", '{"a": 1}}', "[" * 100_000, "9" * 5000, "\x00"],
    ids=["empty", "cut", "text", "surplus", "deep", "digits", "nul"],
)
def test_what_is_not_json_is_an_error(text, stored, capsys):
    assert cli.main(["verify", stored(text)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("robust-components: ")


def test_files_that_cannot_be_read_are_errors(tmp_path, capsys):
    (tmp_path / "latin1.json").write_bytes(b'{"a": "\xe9"}')
    for path in (tmp_path / "absent.json", tmp_path, tmp_path / "latin1.json"):
        assert cli.main(["verify", str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_not_a_number_is_no_traceback(good, stored):
    assert cli.main(["verify", stored({**good.to_dict(), "cost": {"seconds": float("nan")}})]) == 1


def test_standard_input(good, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(good.to_json()))
    assert cli.main(["verify", "-"]) == 0


def test_stored_text_cannot_drive_the_terminal(good, stored, capsys):
    data = {**good.to_dict(), "claim": "\x1b[2J\rok\nok    \ud800", "method": "\x1b]0;x\x07"}
    assert cli.main(["verify", stored({"\x1b[1m": {"certificate": data}})]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out and "\x07" not in out
    assert out.splitlines()[0].startswith("FAILS ")


@pytest.mark.parametrize("arguments", [[], ["verify"], ["nonsense"]])
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: robust-components" in capsys.readouterr().err


def test_the_demo_says_where_it_lives(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "EXAMPLES", tmp_path / "examples")
    assert cli.main(["demo"]) == 2
    said = capsys.readouterr().err
    assert "quickstart.py" in said and "make demo" in said


def test_the_demo_runs_the_quickstart(tmp_path, monkeypatch, capsys):
    examples = tmp_path / "examples"
    examples.mkdir()
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setattr(cli, "EXAMPLES", examples)
    script = examples / "quickstart.py"
    script.write_text("import sys\ndef main():\n    print(sys.argv[1:])\n", "utf-8")
    before = list(sys.argv)
    assert cli.main(["demo", "--json", "out.json", "--quiet"]) == 0
    assert capsys.readouterr().out == "['--json', 'out.json', '--quiet']\n"
    assert sys.argv == before
    script.write_text("import no_such_package_anywhere\n", "utf-8")
    assert cli.main(["demo"]) == 2
    assert "robust-components[demo]" in capsys.readouterr().err


def test_the_module_can_be_run(good, stored):
    done = subprocess.run(
        [sys.executable, "-m", "robust_components.cli", "verify", stored(good.to_dict())],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1" in done.stdout


def test_help_on_training_loads_no_torch():
    code = (
        "import sys\n"
        "from robust_components import cli\n"
        "try:\n    cli.main(['train', 'ranker', '--help'])\n"
        "except SystemExit as stop:\n    print(stop.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "masked copies" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 False"
