"""Warnings, at the line that made the classifier, when its settings certify nothing."""

from __future__ import annotations

from dataclasses import replace

from robust_components.bounds import betting_lower, clopper_pearson_lower
from robust_components.classification.refine import KeepImportant, Refine
from robust_components.classification.sampled import Drawing
from robust_components.classification.votes import UNIT, margin_units
from robust_components.notices import warn_caller
from robust_components.smoothing import FixedMechanism, RandomMask
from robust_components.threats import SynonymEdits, WordEdits

TYPICAL_WORDS = 50


def warn_if_hopeless(
    mechanism: FixedMechanism | RandomMask,
    threat: WordEdits | SynonymEdits,
    drawing: Drawing,
    refine: Refine | None,
    *,
    closed: bool,
    numerical_margin: float,
) -> None:
    """Warn, at the caller's line, when not even unanimous votes could certify the threat.

    Args:
        mechanism: makes the copies.
        threat: what is to be certified.
        drawing: how samples are used, with random masks.
        refine: the first stage.
        closed: whether the set of labels is; then a tie goes to the label listed first.
        numerical_margin: of the votes, 0 for labels.
    """
    if isinstance(mechanism, RandomMask):
        problem = _sampled_problem(mechanism, threat, drawing)
    else:
        assert isinstance(threat, WordEdits)
        problem = fixed_problem(
            mechanism, threat, refine, closed=closed, numerical_margin=numerical_margin
        )
    if problem:
        warn_caller(problem)


def fixed_problem(
    mechanism: FixedMechanism,
    threat: WordEdits,
    refine: Refine | None,
    *,
    closed: bool,
    numerical_margin: float,
) -> str | None:
    """Which texts cannot be certified whatever the votes, or ``None``; see :mod:`.fixed_rule`."""
    blocks = mechanism.blocks
    if blocks == 1:  # the mechanism itself has warned
        return None
    margin = 2 * blocks * margin_units(numerical_margin)
    each = mechanism.touched(replace(threat, budget=1))
    keep = refine.keep if isinstance(refine, KeepImportant) else None
    reached = min(blocks, (each if keep is None else max(each, 2)) * threat.budget)
    lead = _lead(blocks, reached, margin)
    if lead > 0:
        return None
    ties = closed and not margin
    which = ""
    if keep is not None and mechanism.operations != "any":  # short texts are taken whole
        used = min(blocks, -(-keep // (getattr(mechanism, "span", 1) or 1)))
        short = _lead(used, min(used, each * threat.budget), margin)
        if short > 0 or (short == 0 and ties):
            which = f" in texts of more than {keep} words"
    # Words that share copies can only be told from the text.
    shared = mechanism.partitions > 1 and threat.budget > 1 and mechanism.operations != "any"
    can = "can hardly certify" if shared else "can never certify"
    alone = ""
    if lead == 0 and ties and not shared:
        can, alone = "can certify", " for the label listed first alone, which wins ties"
    plural = "s" if threat.budget > 1 else ""
    return (
        f"{type(mechanism).__name__} with {blocks} copies a partition {can} {threat.budget} edited "
        f"word{plural}{which}{alone}: edits reach {reached} of them; use more blocks or a smaller "
        "budget"
    )


def _lead(copies: int, reached: int, margin: int) -> int:
    """What unanimous votes of a partition's copies leave of their lead, in units."""
    return UNIT * (copies - 2 * reached) - margin


def warn_if_published_hopeless(mechanism: RandomMask) -> None:
    """Warn, at the caller's line, when the published rule certifies no word of any text."""
    if mechanism.mask_rate <= 0.5:
        warn_caller(
            f"the published rule certifies no edited word at mask_rate={mechanism.mask_rate}, even "
            "by unanimous votes: a copy must show less than half of the words; pass "
            "RandomMask(0.9) for rates at which it says something"
        )


def _sampled_problem(
    mechanism: RandomMask, threat: WordEdits | SynonymEdits, drawing: Drawing
) -> str | None:
    shown, samples = mechanism.shown(TYPICAL_WORDS), mechanism.samples
    if drawing.kernels is not None:
        changed = float(drawing.kernels.delta(TYPICAL_WORDS, shown, threat.budget))
    else:
        changed = float(mechanism.delta(TYPICAL_WORDS, WordEdits(threat.budget)))
    if drawing.bound == "betting":
        lead = 2 * betting_lower([1.0] * samples, drawing.alpha) - 1
    else:
        lead = 2 * clopper_pearson_lower(samples, samples, drawing.alpha / 2) - 1
    if lead > 2 * changed:
        return None
    plural = "s" if threat.budget > 1 else ""
    return (
        f"RandomMask(mask_rate={mechanism.mask_rate}, samples={samples}) can hardly certify "
        f"{threat.budget} edited word{plural}: {changed:.2f} of the masks of a text of "
        f"{TYPICAL_WORDS} words can change, while {samples} equal votes prove a lead of "
        f"{max(0.0, lead):.2f}, which must be more than twice as large; raise mask_rate (0.8 to "
        "0.9) or samples"
    )
