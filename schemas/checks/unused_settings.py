"""Settings that a recipe's author gave and that would have no effect: refused, since something else was meant."""

from collections.abc import Iterator

from tailforge.schemas.checks.unused_inversion import find_idle_inversion
from tailforge.schemas.checks.unused_words import find_idle_files, find_idle_gates, find_idle_words
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.engines import PUBLISHED, PlainEngine, SamplingSettings, SearchEngine, SeedSelectEngine
from tailforge.schemas.settings.inversion import NaturalInversionEngine
from tailforge.schemas.settings.quality import Annotation

BOOTSTRAPPED = ("found_seeds", "mixes", "fresh_share")
RECORDED = ("window", "affinity")  # of annotation
GRADIENT = ("optimizer", "step_size", "later_step_size", "semantic_weight", "appearance_weight", "contrast_weight",
            "repulsion_weight", "last_steps", "patience", "grad_steps", "checkpointing",
            "unconditional_gradient")  # fmt: skip
ASKED_AFTERWARDS = ("model", "noise", "draws")  # of annotation


def find_idle_settings(recipe: Recipe) -> list[str]:
    """A line each, of a recipe as its author wrote it.

    Not for a recipe that was dumped and read again: there every default counts as given.
    """
    lines = [*_idle_references(recipe), *_idle_annotation(recipe.annotation)]
    lines += [*find_idle_gates(recipe), *find_idle_words(recipe), *find_idle_files(recipe)]
    if isinstance(recipe.engine, SamplingSettings):
        lines += _idle_guidance(recipe.engine)
    if isinstance(recipe.engine, PlainEngine):
        lines += _idle_guide(recipe.engine)
    if isinstance(recipe.engine, SearchEngine):
        lines += _beyond_steps(recipe.engine)
    if isinstance(recipe.engine, SeedSelectEngine):
        lines += _idle_search(recipe.engine)
    if isinstance(recipe.engine, NaturalInversionEngine):
        lines += find_idle_inversion(recipe.engine)
    return lines


def _idle_annotation(annotation: Annotation) -> Iterator[str]:
    idle = {
        "cross_attention": ASKED_AFTERWARDS,
        "class_activation": (*RECORDED, *ASKED_AFTERWARDS),
        "renoised_attention": RECORDED,
    }
    for name in idle[annotation.kind]:
        if name in annotation.model_fields_set:
            yield f"annotation.{name} has no effect with annotation.kind {annotation.kind}; leave it out"


def _idle_guide(engine: PlainEngine) -> Iterator[str]:
    if engine.guide is not None and engine.guidance <= 1:
        yield (
            f"engine.guide has no effect with engine.guidance {engine.guidance:g}, which switches guidance off; raise "
            "it above 1 or leave the guide out"
        )


def _idle_guidance(engine: SamplingSettings) -> Iterator[str]:
    if engine.negative_prompt and engine.guidance <= 1:
        yield (
            f"engine.negative_prompt has no effect with engine.guidance {engine.guidance:g}, which switches guidance "
            "off; raise it above 1 or leave the prompt out"
        )


def _beyond_steps(engine: SearchEngine) -> Iterator[str]:
    for name in ("screening_steps", "grad_steps"):
        value = getattr(engine, name, None)
        if value is not None and value > engine.steps:
            yield f"engine.{name} {value} is above engine.steps {engine.steps}; give {engine.steps} at most"


def _idle_search(engine: SeedSelectEngine) -> Iterator[str]:
    preset = PUBLISHED if engine.preset == "published" else {}
    given = {name for name in engine.model_fields_set if name not in preset or getattr(engine, name) != preset[name]}
    if engine.iterations == 0:
        yield from (
            f"engine.{name} has no effect with engine.iterations 0, which takes no gradient steps; leave it out"
            for name in GRADIENT
            if name in given
        )
    elif engine.repulsion_weight and engine.batch_size == 1:
        yield "engine.repulsion_weight has no effect with engine.batch_size 1, of no other image; leave it out"
    if "finalists" in given and engine.finalists > engine.candidates:
        yield (
            f"engine.finalists {engine.finalists} is above engine.candidates {engine.candidates}, of which they are "
            f"chosen; give {engine.candidates} at most, or more candidates"
        )
    if engine.mode == "full":
        yield from (
            f"engine.{name} has no effect with engine.mode full; leave it out or set mode: bootstrapped"
            for name in BOOTSTRAPPED
            if name in given
        )


def _idle_references(recipe: Recipe) -> Iterator[str]:
    quality, near = recipe.quality, recipe.quality.near_duplicates
    named = [concept for concept in recipe.concepts if concept.references is not None]
    hashed = near is not None and near.against_references
    if named and not (isinstance(recipe.engine, SearchEngine) or hashed or quality.scorer):
        yield (
            f"concepts: {named[0].name!r} has references, but engine {recipe.engine.kind} reads none and "
            "quality.near_duplicates.against_references is off; leave them out, switch that on, or choose an engine "
            "that searches"
        )
    if not named and "reference_similarity" in quality.gates:
        yield (
            "quality.gates.reference_similarity compares with reference photographs, but no concept has any; give "
            "concepts `references`, a folder each, or leave the gate out"
        )
    if not named and near is not None and hashed and "against_references" in near.model_fields_set:
        yield (
            "quality.near_duplicates.against_references compares with reference photographs, but no concept has any; "
            "give concepts `references`, a folder each, or leave it out"
        )
