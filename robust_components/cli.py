"""The command line: ``robust-components verify FILE``, ``demo``, ``train`` and ``repair``.

Exit status: 0 all is well, 1 a certificate does not verify, none was found, or a repair was rolled
back, 2 the command could not be carried out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from robust_components.repair import options as repair_options
from robust_components.training import classifier_options, ranker_options
from robust_components.verification import problems
from robust_components.verification.reading import shown

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CLAIM_WIDTH = 300


class CommandError(Exception):
    """The command cannot be carried out; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        status = command(options)
        sys.stdout.flush()
    except CommandError as error:
        print(f"robust-components: {printable(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robust-components",
        description="Certificates of robustness for retrieval-augmented applications.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_verify(commands)
    _add_demo(commands)
    _add_train(commands)
    repair = commands.add_parser(
        "repair",
        help="move a ranker's most attacked neurons back",
        description=repair_options.DESCRIPTION,
    )
    repair_options.add_options(repair)
    repair.set_defaults(command=repair_ranker)
    return parser


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser(
        "verify",
        help="check stored certificates, without the model",
        description="Check a stored certificate, or every certificate in a JSON document: its "
        "digest, its signature (with --key-env), and that its claim follows from its evidence. "
        "Exit status: 0 all verify; 1 one fails, or none was found; 2 the file cannot be read.",
    )
    verify.add_argument(
        "files", metavar="FILE", nargs="+", help="JSON file; - reads standard input"
    )
    verify.add_argument(
        "--key-env",
        metavar="NAME",
        help="environment variable with the key the certificates must be signed with",
    )
    verify.set_defaults(command=verify_file)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="run examples/quickstart.py of the repository",
        description="Run the quickstart example: a poisoned passage takes over a plain pipeline, "
        "and not a robust one.",
    )
    demo.add_argument("--json", metavar="FILE", help="write all answers and certificates here")
    demo.add_argument("--quiet", action="store_true", help="print the summary only")
    demo.set_defaults(command=run_demo)


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="fine-tune a model for certified use")
    models = train.add_subparsers(required=True, metavar="MODEL")
    ranker = models.add_parser(
        "ranker", help="on masked copies of documents", description=ranker_options.DESCRIPTION
    )
    ranker_options.add_options(ranker)
    ranker.set_defaults(command=train_ranker)
    classifier = models.add_parser(
        "classifier", help="on masked copies of texts", description=classifier_options.DESCRIPTION
    )
    classifier_options.add_options(classifier)
    classifier.set_defaults(command=train_classifier)


def verify_file(options: argparse.Namespace) -> int:
    """Verify every certificate in a file and list them."""
    key = _key(options.key_env)
    number = failed = without = 0
    for name in options.files:
        found = list(certificates_in(_read_json(name)))
        if not found:
            print(f"{printable(name)}: no certificate found; one lies under a key 'certificate'.")
            without += 1
        prefix = f"{name}: " if len(options.files) > 1 else ""
        for where, certificate in found:
            objections = problems(certificate, key)
            number += 1
            failed += bool(objections)
            mark = "FAILS" if objections else "ok   "
            print(printable(f"{mark} {prefix}{where}: {_headline(certificate)}"))
            for objection in objections:
                print(printable(f"      - {objection}"))
    if number:
        signatures = "signatures not checked" if key is None else "signatures checked"
        print(f"{number - failed} of {number} certificates verify ({signatures}).")
    return 1 if failed or without else 0


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise CommandError(
            f"the environment variable {variable} is {'empty' if key == '' else 'not set'}; "
            "put the key there, or leave out --key-env to skip the signatures"
        )
    return key


def _read_json(name: str) -> Any:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
        return json.loads(text)
    except OSError as error:
        raise CommandError(
            f"cannot read {name}: {error.strerror or error}; name a JSON file"
        ) from None
    except RecursionError:
        raise CommandError(f"{name} is nested too deeply to be read") from None
    except ValueError as error:  # not UTF-8, not JSON, a number of too many digits
        raise CommandError(f"{name} is not valid JSON: {error}") from None


def certificates_in(document: Any) -> Iterator[tuple[str, Any]]:
    """Every certificate in a JSON document with its place, in order.

    A certificate is the document itself if it has a digest or a claim with a method, or what
    stands under a key ``certificate`` and is not null. Certificates are not searched for more.
    """
    if isinstance(document, dict) and (
        "digest" in document or ("claim" in document and "method" in document)
    ):
        yield "certificate", document
        return
    waiting: list[tuple[str, bool, Any]] = [("", False, document)]
    while waiting:
        where, expected, value = waiting.pop()
        if expected and value is not None:
            yield where, value
        elif isinstance(value, list):
            children = [(f"{where}[{i}]", False, child) for i, child in enumerate(value)]
            waiting.extend(reversed(children))
        elif isinstance(value, dict):
            children = [
                (f"{where}.{name}".lstrip("."), name == "certificate", child)
                for name, child in value.items()
            ]
            waiting.extend(reversed(children))


def _headline(certificate: Any) -> str:
    """Whether it certifies what was asked for, method, radius and claim, whatever they are."""
    if not isinstance(certificate, dict):
        return f"not a certificate but {type(certificate).__name__}"
    claim = certificate.get("claim")
    words = claim if isinstance(claim, str) else shown(claim)
    if len(words) > CLAIM_WIDTH:
        words = words[:CLAIM_WIDTH].rsplit(" ", 1)[0] + " ..."
    method, radius = certificate.get("method"), certificate.get("radius")
    method = method if isinstance(method, str) else shown(method)
    verdict = "certified" if certificate.get("certified") is True else "not certified"
    return f"{method}, {verdict}, radius {shown(radius)}: {words}"


def printable(text: str) -> str:
    """One line that any terminal can show: stored text must not move the cursor."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    return visible.encode(encoding, "backslashreplace").decode(encoding)


def run_demo(options: argparse.Namespace) -> int:
    """Run the quickstart of the repository this package lies in."""
    script = EXAMPLES / "quickstart.py"
    if not (script.is_file() and (EXAMPLES.parent / "pyproject.toml").is_file()):
        raise CommandError(
            f"the demo lies in the repository, not in the installed package, and {script} does not "
            "exist; clone the repository and run 'make demo' there"
        )
    arguments = [str(script)]
    arguments += [] if options.json is None else ["--json", options.json]
    arguments += ["--quiet"] if options.quiet else []
    before, sys.argv = sys.argv, arguments
    try:
        return int(runpy.run_path(str(script))["main"]() or 0)
    except ImportError as error:
        raise CommandError(
            f"the demo needs more packages ({error}); install 'robust-components[demo]'"
        ) from None
    finally:
        sys.argv = before


def train_ranker(options: argparse.Namespace) -> int:
    """Fine-tune a ranker; see robust_components.training.ranker."""
    return _train("ranker", options, "stopped; repeat the command with --resume to go on")


def train_classifier(options: argparse.Namespace) -> int:
    """Fine-tune a classifier; see robust_components.training.classifier."""
    return _train("classifier", options, "stopped; nothing was written")


def _train(model: str, options: argparse.Namespace, stopped: str) -> int:
    try:
        train = importlib.import_module(f"robust_components.training.{model}").train
    except ImportError as error:
        raise CommandError(
            f"training needs more packages ({error}); install 'robust-components[transformers]'"
        ) from None
    try:
        train(options)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        raise CommandError(stopped) from None
    return 0


def repair_ranker(options: argparse.Namespace) -> int:
    """Repair a ranker and write the patch; see robust_components.repair.command."""
    try:
        from robust_components.repair import command
        from robust_components.repair.repairing import RepairRolledBackError
    except ImportError as error:
        raise CommandError(
            f"repairs need more packages ({error}); install 'robust-components[transformers]'"
        ) from None
    try:
        print(command.report(command.run(options)))
    except RepairRolledBackError as error:
        print(printable(str(error)))
        return 1
    except (ValueError, TypeError, OSError) as error:
        raise CommandError(str(error)) from None
    except KeyboardInterrupt:
        raise CommandError("stopped; nothing was written") from None
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
