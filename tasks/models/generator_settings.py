"""Refuse settings of a recipe that a kind of pipeline would ignore or cannot use."""

from collections.abc import Mapping
from typing import Any

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.annotation import NO_AFFINITY
from tailforge.tasks.models.denoiser_inputs import INPAINTING
from tailforge.tasks.models.generator_files import (
    FLOWS,
    FLUX_CLASSES,
    SCHEDULERS,
    WEIGHTS,
    generator_folder,
    read_class,
    read_json,
)

require_steps = when_called("tasks.models.schedulers", "require_steps")
# Scales that a Flux network without guidance may be told: off, or what recipes of older versions say by default.
UNREAD = (0, 1, 3)
# The schedulers that a recipe can name take up to so many steps, if the configuration has these values and respaces no
# noise. Then no trial is needed.
SURE_STEPS = 200
SURE = {"prediction_type": ("epsilon", "v_prediction", "sample"), "num_train_timesteps": (1000,),
        "timestep_spacing": ("leading", "trailing", "linspace")}  # fmt: skip
RESPACED = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas")


def check_settings(recipe: Recipe, generator: ResolvedModel) -> None:
    """Check the recipe's settings against a generator's files. A hub model is checked when it loads.

    Errors: RecipeError for a setting that the generator cannot use; ModelError for a damaged file.
    """
    folder, kind = generator_folder(generator), read_class(generator)
    if folder is None or kind is None:
        return
    refuse_settings(recipe, kind, read_json(folder / next(iter(WEIGHTS[kind])) / "config.json"))
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    refuse_scheduler(recipe, kind, str(scheduler.get("_class_name")), scheduler)


def check_text_to_image(model: ResolvedModel, field: str) -> None:
    """Check that a model draws from text alone. A hub model is checked when it is used. Errors: RecipeError."""
    if (kind := read_class(model)) in INPAINTING:
        raise RecipeError(f"{field}: a {kind} draws into photographs alone; name a {INPAINTING[kind]}")


def refuse_scheduler(recipe: Recipe, kind: str, saved: str, config: Mapping[str, Any]) -> None:
    """Check that the recipe's scheduler can take the recipe's steps. Flows have one scheduler, which takes any.

    `kind`: the pipeline's class name. `saved`, `config`: class name and configuration of its scheduler. Errors:
    RecipeError.
    """
    sampling = recipe.engine.sampling
    if kind in FLOWS or sampling is None:
        return

    # The trial needs torch, so it is left out where it cannot fail.
    named = SCHEDULERS.get(sampling.scheduler, saved) in SCHEDULERS.values()
    usual = all(config.get(key, values[0]) in values for key, values in SURE.items())
    # At pure noise, epsilon says nothing of the image.
    usual &= not config.get("rescale_betas_zero_snr") or config.get("prediction_type") == "v_prediction"
    if not named or not usual or sampling.steps > SURE_STEPS or any(config.get(key) for key in RESPACED):
        require_steps(sampling, saved, config)


def refuse_settings(recipe: Recipe, kind: str, denoiser: Mapping[str, Any]) -> None:
    """Check the recipe's settings against a pipeline's class name and the configuration of its denoiser.

    Errors: RecipeError for a setting that the generator cannot use.
    """
    _refuse_inpainting(recipe, kind)

    # Pipelines with a UNet can use every other setting.
    engine, recorded = recipe.engine.sampling, recipe.annotation.recorded
    if kind not in FLOWS or engine is None:
        return

    # A flow has neither a search, nor other schedulers, nor self-attention maps.
    if recipe.engine.reads_references:
        raise RecipeError(
            f"engine.kind is {recipe.engine.kind}, which searches for noise of Stable Diffusion 1, 2 and XL, but the "
            f"generator is a {kind}; set engine.kind to plain, or name a generator of those"
        )
    if engine.scheduler != "model":
        raise RecipeError(
            f"engine.scheduler is {engine.scheduler}, but a {kind} runs only with its own flow-matching scheduler; "
            "set it to model, or leave it out"
        )
    if recorded is not None and recorded.affinity:
        raise RecipeError(f"{NO_AFFINITY}: the generator is a {kind}")

    # Flux has no unconditional pass, and Flux-schnell reads no guidance scale.
    if kind in FLUX_CLASSES and engine.negative_prompt:
        raise RecipeError(
            f"engine.negative_prompt would have no effect: a {kind} has no unconditional pass; leave it out"
        )
    if kind in FLUX_CLASSES and not denoiser.get("guidance_embeds") and engine.guidance not in UNREAD:
        raise RecipeError(
            f"engine.guidance {engine.guidance:g} would have no effect: this Flux network reads no guidance scale "
            "(guidance_embeds is false in its configuration); leave it out"
        )


def _refuse_inpainting(recipe: Recipe, kind: str) -> None:
    """Refuse a network made for inpainting where it would draw without a photograph. Errors: RecipeError."""
    if kind not in INPAINTING:
        return
    if not recipe.engine.takes_inpainting:
        raise RecipeError(
            f"the generator is a {kind}, which draws into photographs alone, and engine {recipe.engine.kind} draws "
            f"from text; use engine inpaint, or name a {INPAINTING[kind]}"
        )
    if recipe.engine.resamples:
        raise RecipeError(
            f"engine.resample is for generators whose latents are blended with the photograph's, and a {kind} reads "
            "the photograph itself; leave it out"
        )
