"""Describe the reasons for leaving images out."""

from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.histograms import SCORES, describe_gate
from tailforge.tasks.report.outcomes import SURPLUS

REASONS = {
    "failed": ("Failed", "A stage could not make or read the image"),
    "blank": ("Blank", "The image shows nothing"),
    "concept_lost": ("Concept lost", "Augmentation left next to nothing of the concept in the image"),
    "nothing_drawn": ("Nothing drawn", "The photograph did not visibly change in the chosen regions"),
    "repaired": ("Repaired", "A repaired version of the sample replaces it"),
    "review_rejected": ("Rejected by a person", "A person rejected it in a review"),
    "near_duplicate": ("Near duplicate", "Nearly the same as an earlier image of this build"),
    "near_reference": ("Near reference", "Nearly the same as a reference photograph"),
    "doubted": ("Doubted", "The verifier of the steered build sees another class"),
    "near_validation": ("Near validation", "Nearly the same as a real validation image"),
    SURPLUS: ("Surplus", "Passed every gate, but enough images were accepted"),
}


def describe_reason(reason: str, recipe: Recipe) -> tuple[str, str]:
    """Return heading and explanation for a reason of tasks/methods/quality/gates.py; others stay unchanged."""
    if reason == SURPLUS and recipe.allocation.steers:
        return REASONS[SURPLUS][0], "Passed every gate, but the classifier is less sure of other images, which are kept"
    score, _, side = reason.rpartition("_")
    if score in SCORES and side in ("low", "high"):
        return f"{SCORES[score].title} too {side}", f"Gate: {describe_gate(recipe.quality.gates.get(score))}"
    return REASONS.get(reason, (reason.replace("_", " "), ""))
