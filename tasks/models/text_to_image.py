"""Load pipelines of diffusers as an `ImageGenerator`, each once per process.

Weights load from safetensors only, and no remote code runs. The safety checker is not loaded, because it would replace
images by black ones without notice. Precision: float32 on a CPU, the family's half precision on CUDA.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FluxFillPipeline,
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.tasks.models.cache import load_once
from tailforge.tasks.models.controlled_generator import load_control
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.fill_generators import FillUNetGenerator, FluxFillGenerator
from tailforge.tasks.models.flow_generators import FluxGenerator, StableDiffusion3Generator
from tailforge.tasks.models.generator_files import (
    absent_parts,
    check_class,
    check_generator,
    check_libraries,
    check_loaded,
    generator_folder,
    weights_variant,
)
from tailforge.tasks.models.generator_settings import refuse_scheduler, refuse_settings
from tailforge.tasks.models.guides import describe_loaded, require_fit
from tailforge.tasks.models.loras import merge_loras
from tailforge.tasks.models.pretrained import pick_device
from tailforge.tasks.models.unet_generator import UNetGenerator


@dataclass(frozen=True)
class Family:
    """A pipeline class of diffusers, its adapter, its precision on CUDA, and the options that leave out parts."""

    pipeline: type[Any]
    adapt: Callable[[Any], DiffusersGenerator]
    half: torch.dtype
    left_out: Mapping[str, Any] = field(default_factory=dict)


UNCHECKED = {"safety_checker": None, "requires_safety_checker": False}
UNMARKED = {"add_watermarker": False}
FAMILIES: dict[str, Family] = {
    "StableDiffusionPipeline": Family(StableDiffusionPipeline, UNetGenerator, torch.float16, UNCHECKED),
    "StableDiffusionXLPipeline": Family(StableDiffusionXLPipeline, UNetGenerator, torch.float16, UNMARKED),
    # T5's activations overflow float16.
    "StableDiffusion3Pipeline": Family(StableDiffusion3Pipeline, StableDiffusion3Generator, torch.bfloat16),
    "FluxPipeline": Family(FluxPipeline, FluxGenerator, torch.bfloat16),
    "StableDiffusionInpaintPipeline": Family(
        StableDiffusionInpaintPipeline, FillUNetGenerator, torch.float16, UNCHECKED
    ),
    "StableDiffusionXLInpaintPipeline": Family(
        StableDiffusionXLInpaintPipeline, FillUNetGenerator, torch.float16, UNMARKED
    ),
    "FluxFillPipeline": Family(FluxFillPipeline, FluxFillGenerator, torch.bfloat16),
}


def load_generator(model: ResolvedModel) -> DiffusersGenerator:
    """Load a generator, once per process. Errors: ModelError that names the missing or damaged file."""
    device = pick_device()
    return load_once(("generator", model.digest, str(device)), lambda: open_generator(model, device))


def hide_progress() -> None:
    """Switch the libraries' progress bars off."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def load_build_generator(build: BuildContext) -> DiffusersGenerator:
    """Load the generator of a build. Errors: ModelError; RecipeError for settings that the generator cannot use."""
    model = load_generator(build.require_generator())
    pipeline = model.pipeline
    refuse_settings(build.recipe, type(pipeline).__name__, model.denoiser.config)
    refuse_scheduler(
        build.recipe, type(pipeline).__name__, type(pipeline.scheduler).__name__, pipeline.scheduler.config
    )
    return model


def load_build_guide(build: BuildContext) -> DiffusersGenerator | None:
    """Load the guide of a build's generator, or return None if there is none.

    Errors: ModelError; RecipeError if the guide does not fit the generator.
    """
    if build.guide is None:
        return None
    model, guide = load_generator(build.require_generator()), load_generator(build.guide)
    require_fit(*(describe_loaded(each.pipeline, each.denoiser) for each in (model, guide)))
    return guide


def open_generator(model: ResolvedModel, device: torch.device, whole: bool = False) -> DiffusersGenerator:
    """Load a generator that nothing else uses. It is in float32 with `whole` or on a CPU, else in half precision.

    Errors: ModelError that names the missing or damaged file.
    """
    # Files are checked before diffusers reads them.
    check_generator(model)
    hide_progress()
    folder = generator_folder(model)
    where = model.path if folder is None else str(folder)

    # The class of the pipeline decides adapter and precision.
    try:
        config = DiffusionPipeline.load_config(where, revision=model.revision)
        family = FAMILIES[check_class(config.get("_class_name"), where)]
        check_libraries(config, where)
        pipeline = family.pipeline.from_pretrained(
            where,
            revision=model.revision,
            variant=weights_variant(folder) if folder else None,
            dtype=torch.float32 if whole or device.type != "cuda" else family.half,
            use_safetensors=True,
            **family.left_out,
            **dict.fromkeys(absent_parts(config)),
        )
    except ModelError:
        raise
    except Exception as error:  # diffusers, transformers, safetensors and the hub each raise classes of their own
        raise ModelError(
            f"generator {where} cannot be loaded: {type(error).__name__}: {error}; copy or download the model again"
        ) from error

    check_loaded(pipeline, where)
    merge_loras(pipeline, model.loras)
    pipeline.to(device)
    generator = family.adapt(pipeline) if model.control is None else load_control(pipeline, model.control)

    # With channels last a step of a UNet needs 8 % less time on one CPU core.
    for part in (generator.denoiser, pipeline.vae):
        part.to(memory_format=torch.channels_last)
    return generator
