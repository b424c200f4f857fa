"""The reasons for which images are left out, in words."""

from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.histograms import SCORES, describe_gate
from tailforge.tasks.report.outcomes import SURPLUS

REASONS = {
    "failed": ("Failed", "A stage could not make or read it"),
    "blank": ("Blank", "The image shows nothing"),
    "concept_lost": ("Concept lost", "Augmentation left next to nothing of the concept in the image"),
    "repaired": ("Repaired", "A mended attempt at the same sample stands in its place"),
    "review_rejected": ("Rejected by a person", "Somebody looked at it and turned it down"),
    "near_duplicate": ("Near duplicate", "Nearly the same as an earlier image of this build"),
    "near_reference": ("Near reference", "Nearly the same as a reference photograph"),
    SURPLUS: ("Surplus", "Passed every gate, but enough had been accepted"),
}


def describe_reason(reason: str, recipe: Recipe) -> tuple[str, str]:
    """A reason of tasks/methods/quality/gates.py as a heading and an explanation; others stand as they are."""
    score, _, side = reason.rpartition("_")
    if score in SCORES and side in ("low", "high"):
        return f"{SCORES[score][0]} too {side}", f"Gate: {describe_gate(recipe.quality.gates.get(score))}"
    return REASONS.get(reason, (reason.replace("_", " "), ""))
