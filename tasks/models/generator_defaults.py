"""Settle the defaults of a recipe that belong to the kind of its generator.

A scale of guidance that fits one network spoils the images of another. Its kind follows from the generator's files, so
a plan knows it without loading the network.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.sampling import SamplingSettings
from tailforge.tasks.models.generator_files import (
    FLUX_CLASSES,
    INDEX,
    WEIGHTS,
    check_class,
    generator_folder,
    read_json,
)

# Kinds beside the classes of pipelines.
SMALL, NEW, FEW_STEPS, UNTOLD = "small", "new network", "few steps", "Flux without guidance"
TEXT_WIDTH = 768  # features of the narrowest text that a released Stable Diffusion reads
CONSISTENCY = ("LCMScheduler", "TCDScheduler")  # saved with networks that were distilled to a few steps

# Scale of guidance by kind. Those of classes are the defaults of diffusers' pipelines; a test compares them.
GUIDANCE: Mapping[str, float] = {
    SMALL: SamplingSettings.model_fields["guidance"].default,  # ours, from the embedded generator
    NEW: SamplingSettings.model_fields["guidance"].default,
    FEW_STEPS: 1.0,  # off: the network has learnt guided images
    UNTOLD: 1.0,  # the network reads no scale
    "StableDiffusionPipeline": 7.5,
    "StableDiffusionXLPipeline": 5.0,
    "StableDiffusion3Pipeline": 7.0,
    "FluxPipeline": 3.5,
    "StableDiffusionInpaintPipeline": 7.5,
    "StableDiffusionXLInpaintPipeline": 7.5,
    "FluxFillPipeline": 30.0,
}
LEAST_DRAWN = {SMALL: 0.5}  # lowest chance to be drawn of a word that gets a mask; fitted on the embedded generator
read_hub_json = when_called("tasks.models.hub_files", "read_hub_json")


def settle_defaults(recipe: Recipe, generator: ResolvedModel | None) -> Recipe:
    """Return the recipe with the defaults of the generator's kind for what it does not set itself.

    Errors: ModelError for files that do not show the kind; RecipeError for a setting that the default makes idle.
    """
    engine = recipe.engine.sampling
    if generator is None or engine is None or "guidance" in engine.model_fields_set:
        return recipe
    settled = engine.model_copy(update={"guidance": GUIDANCE[find_kind(generator)]})
    if idle := list(settled.find_idle()):
        raise RecipeError(idle[0])
    return recipe.model_copy(update={"engine": settled})


def find_least_drawn(model: ResolvedModel) -> float:
    """Return the lowest chance to be drawn of a word that gets a mask from a model's attention; 0: every word gets one.

    It is 0 for every kind that nothing was fitted on, for hub models, and for models that are no pipeline.
    """
    if not (Path(model.path) / (model.subfolder or "") / INDEX).is_file():
        return 0.0
    return LEAST_DRAWN.get(find_kind(model), 0.0)


def find_kind(generator: ResolvedModel) -> str:
    """Return a generator's kind, a key of GUIDANCE. Errors: ModelError for files that do not show it."""
    folder = generator_folder(generator)
    if folder is not None:
        return _tell_kind(lambda name: read_json(folder / name), str(folder))
    try:
        return _tell_kind(lambda name: dict(read_hub_json(generator, name)), generator.path)
    except ModelError as error:
        raise ModelError(
            f"engine.guidance: its default belongs to the kind of the generator, and {error}; or give engine.guidance"
        ) from error


def _tell_kind(read: Callable[[str], dict[str, Any]], origin: str) -> str:
    """Return the kind from a generator's files, which `read` reads by name. `origin`: its place, for the error."""
    kind = check_class(read(INDEX).get("_class_name"), f"{origin}, {INDEX}")
    denoiser = next(iter(WEIGHTS[kind]))
    config = read(f"{denoiser}/config.json")
    if denoiser == "transformer":
        return UNTOLD if kind in FLUX_CLASSES and not config.get("guidance_embeds") else kind

    # The embedded network and those that Tailforge trains anew read narrow text; the latter add it to the timestep.
    width = config.get("cross_attention_dim")
    if isinstance(width, int) and width < TEXT_WIDTH:
        return NEW if config.get("addition_embed_type") == "text" else SMALL
    scheduler = read("scheduler/scheduler_config.json").get("_class_name")
    return FEW_STEPS if scheduler in CONSISTENCY else kind
