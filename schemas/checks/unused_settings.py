"""Find settings in a recipe that have no effect. Builds refuse them, since the author meant something else."""

from collections.abc import Iterator

from tailforge.schemas.checks.unused_words import find_idle_files, find_idle_gates, find_idle_words
from tailforge.schemas.recipe import Recipe

# Settings of annotation for attention recorded during sampling, and for attention measured afterwards.
RECORDED = ("window", "affinity")
RENOISED = ("model", "noise", "draws")
OUTLINED = ("refine", "threshold", "ignore_band", "min_instance")  # for outlines of soft maps


def find_idle_settings(recipe: Recipe) -> list[str]:
    """Return a line per setting without effect in an author's recipe.

    A recipe that was dumped and read again does not qualify: there every default counts as given.
    """
    lines = [*_idle_references(recipe), *_idle_annotation(recipe)]
    lines += [*find_idle_gates(recipe), *find_idle_words(recipe), *find_idle_files(recipe)]
    return [*lines, *recipe.engine.find_idle()]


def _idle_annotation(recipe: Recipe) -> Iterator[str]:
    """Yield a line per setting of annotation that its kind does not use."""
    annotation = recipe.annotation
    unrecorded = () if recipe.engine.needs_generator else RECORDED
    idle = {
        "cross_attention": RENOISED,
        "class_activation": (*RECORDED, *RENOISED),
        "renoised_attention": RECORDED,
        "changed_region": (*unrecorded, *RENOISED, *OUTLINED),
    }
    for name in idle[annotation.kind]:
        if name in annotation.model_fields_set:
            yield f"annotation.{name} has no effect with annotation.kind {annotation.kind}; leave it out"


def _idle_references(recipe: Recipe) -> Iterator[str]:
    """Yield a line per use of references that misses the photographs, and for photographs without use."""
    quality, near = recipe.quality, recipe.quality.near_duplicates
    named = [concept for concept in recipe.concepts if concept.references is not None]
    hashed = near is not None and near.against_references

    # Photographs that nothing reads.
    if named and not (recipe.engine.reads_references or hashed or quality.scorer):
        yield (
            f"concepts: {named[0].name!r} has references, but engine {recipe.engine.kind} reads none and "
            "quality.near_duplicates.against_references is off; leave them out, switch that on, or choose an engine "
            "that searches"
        )

    # Comparisons with photographs that the recipe lacks.
    if not named and "reference_similarity" in quality.gates:
        yield (
            "quality.gates.reference_similarity compares with reference photographs, but no concept has any; give "
            "each concept `references`, a folder, or leave the gate out"
        )
    if not named and near is not None and hashed and "against_references" in near.model_fields_set:
        yield (
            "quality.near_duplicates.against_references compares with reference photographs, but no concept has any; "
            "give each concept `references`, a folder, or leave it out"
        )
