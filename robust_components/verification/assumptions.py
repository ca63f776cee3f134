"""The sentences a claim about an answer from passages cannot do without.

They belong to version 1 of the format, like the claims. Further assumptions may be stated: they
make a claim weaker, never stronger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robust_components.verification.passages import RankedList
from robust_components.verification.reading import entry, shown

ALWAYS = (
    "The model gives the same response to the same prompt.",
    "Passages with one source id come from one party, and each hostile party is one source.",
    "Answers are compared after: case folded, NFKC, one kind of dash, no leading articles, no "
    "thousands commas, no punctuation but signs, percent, primes, # and marks inside numbers.",
)
OF_STATEMENTS = {
    "observed": "A hostile source held no more passages of the clean list than it holds here, or "
    "one if it is missing here; a missing one counts towards the budget.",
    "pre_attack": "The passages certified here are clean.",
}
OF_INJECTION = (
    "The retriever scores each passage alone, so injected passages move no clean one.",
    "Injected passages belong to sources not in the clean list.",
)
REMEMBERED = (
    "A memo kept the first response to each prompt; this is conditional on a deterministic model."
)
STRANGERS = "A passage that takes a freed slot belongs to a source not otherwise in the list."


def missing_assumptions(certificate: Mapping[str, Any], listed: RankedList) -> list[str]:
    """Needed sentences that the certificate does not state."""
    stated = set(certificate["assumptions"])
    return [one for one in needed_assumptions(certificate, listed) if one not in stated]


def needed_assumptions(certificate: Mapping[str, Any], listed: RankedList) -> Iterator[str]:
    """The sentences, for a threat and a statement that are known."""
    threat, parameters = certificate["threat"], certificate["parameters"]
    longest = len(listed.owners) + listed.room
    yield from ALWAYS
    yield OF_STATEMENTS[certificate["statement"]]
    if parameters.get("memo"):
        yield REMEMBERED
    if certificate["method"] == "decoding":
        margin = entry(parameters, "numerical_margin", "parameters")
        text = margin if isinstance(margin, str) else shown(margin)
        yield f"Rounding changes a lead between two tokens by at most {text}."
    if threat["kind"] == "passage_injection":
        yield from OF_INJECTION
        each = threat["passages_per_source"]
        yield (
            f"A hostile source places at most {each} {'passage' if each == 1 else 'passages'} in "
            f"the list, which the retriever cuts at {longest}."
        )
    else:
        yield f"The retriever cuts its list at {longest} passages."
        if certificate["method"] != "voting" and not listed.chunked:
            yield STRANGERS
    if listed.failed:
        count, one = len(listed.failed), len(listed.failed) == 1
        yield (
            f"{count} {'source' if one else 'sources'} gave no usable response and "
            f"{'counts' if one else 'count'} as hostile within the budget."
        )
