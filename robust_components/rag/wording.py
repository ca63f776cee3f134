"""The sentences of a RAG certificate: one place, so that no claim outgrows its proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robust_components.answers import NORMALISER
from robust_components.rag.scenarios import PassageList
from robust_components.threats import PassageInjection, PassageModification

MEMO = (
    "A memo kept the first response to each prompt; this is conditional on a deterministic model."
)
DETERMINISTIC_MODEL = "The model gives the same response to the same prompt."
ONE_PARTY = "Passages with one source id come from one party, and each hostile party is one source."
POINTWISE = "The retriever scores each passage alone, so injected passages move no clean one."
UNLISTED = (
    "A hostile source held no more passages of the clean list than it holds here, "
    "or one if it is missing here; a missing one counts towards the budget."
)
INJECTED = "Injected passages belong to sources not in the clean list."
CLEAN = "The passages certified here are clean."
NEW_SOURCES = "A passage that takes a freed slot belongs to a source not otherwise in the list."


def claim(
    answer: str | None,
    radius: int,
    threat: PassageInjection | PassageModification,
    statement: str,
    passages: PassageList,
    *,
    withheld: bool = False,
) -> str:
    """The claim in one sentence, at the largest budget that holds.

    Args:
        withheld: whether an abstention is given in place of the answer the claim is about.
    """
    kind = "the withheld answer" if withheld else "the answer"
    said = f"{kind} {answer!r}" if answer is not None else "the abstention"
    if radius == 0:
        return f"Nothing is guaranteed about {said}."
    sources = "1 source" if radius == 1 else f"{radius} sources"
    failed = len(passages.failed_sources)
    counting = f" (counting the {failed} that failed)" if failed else ""
    if statement == "observed":
        return (
            f"{said[0].upper()}{said[1:]} is what the clean passages would have given, "
            f"if at most {radius} of these {len(passages.slots)} sources{counting} "
            f"{'is' if radius == 1 else 'are'} hostile."
        )
    done = (
        f"whatever passages of up to {sources} are injected into this clean list"
        if isinstance(threat, PassageInjection)
        else f"whatever the passages of up to {sources} of this clean list are rewritten to"
    )
    return f"{done[0].upper()}{done[1:]}{counting}, {said} stays."


def assumptions(
    passages: PassageList,
    threat: PassageInjection | PassageModification,
    statement: str,
    method: str,
    parameters: Mapping[str, Any],
) -> tuple[str, ...]:
    """Everything the claim rests on besides the evidence.

    The verifier asks for the same sentences, which it words on its own.
    """
    sentences = [DETERMINISTIC_MODEL, ONE_PARTY, f"Answers are compared after: {NORMALISER}."]
    if parameters.get("memo"):
        sentences.append(MEMO)
    if method == "decoding":
        margin = parameters["numerical_margin"]
        sentences.append(f"Rounding changes a lead between two tokens by at most {margin}.")
    if isinstance(threat, PassageInjection):
        most = threat.passages_per_source
        sentences += [
            POINTWISE,
            INJECTED,
            f"A hostile source places at most {most} passage{'s' if most > 1 else ''} in the list, "
            f"which the retriever cuts at {passages.top_k}.",
        ]
    else:
        if method != "voting" and not passages.chunked:
            sentences.append(NEW_SOURCES)
        sentences.append(f"The retriever cuts its list at {passages.top_k} passages.")
    if passages.failed_sources:
        count = len(passages.failed_sources)
        sentences.append(
            f"{count} source{'s' if count > 1 else ''} gave no usable response and "
            f"count{'s' if count == 1 else ''} as hostile within the budget."
        )
    sentences.append(UNLISTED if statement == "observed" else CLEAN)
    return tuple(sentences)
