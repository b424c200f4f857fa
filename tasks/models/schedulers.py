"""Make the schedulers of generators with a UNet, and find out before a build whether one can take its steps."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from torch import Tensor

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.settings.sampling import SamplingSettings
from tailforge.tasks.methods.sampling.generator import Scheduler
from tailforge.tasks.methods.sampling.plain import walk_steps
from tailforge.tasks.models.generator_files import SCHEDULERS

CLIPPING: Mapping[str, Mapping[str, bool]] = {"ddim": {"clip_sample": False}}


def build_scheduler(name: str, saved: str, config: Mapping[str, Any]) -> Scheduler:
    """Return a fresh scheduler. `saved`: class name of the one saved with the model, which "model" names."""
    kind: Any = getattr(diffusers, SCHEDULERS.get(name, saved))

    # Latents exceed 1, so they must not be clipped. DDIM clips by default, and the configuration of a scheduler
    # without clipping lacks the key. The pipeline corrects a True when it loads.
    options = {} if name == "model" or "clip_sample" in config else CLIPPING.get(name, {})
    scheduler: Scheduler = kind.from_config(config, **options)
    return scheduler


def require_steps(sampling: SamplingSettings, saved: str, config: Mapping[str, Any]) -> None:
    """Let the scheduler of a recipe take all its steps on a few numbers in place of an image.

    `saved`, `config`: class name and configuration of the scheduler saved with the model. Errors: RecipeError if it
    cannot, because of its number of steps or its kind of prediction.
    """
    try:
        scheduler = build_scheduler(sampling.scheduler, saved, config)
        scheduler.set_timesteps(sampling.steps, device=torch.device("cpu"))
        random = torch.Generator("cpu").manual_seed(0)
        noise = torch.randn(1, 4, 2, 2, generator=random)

        # A network whose output is zero, so that no number grows without a reason.
        def predict(latents: Tensor, step: Any) -> Tensor:
            return torch.zeros_like(scheduler.scale_model_input(latents, step))

        *_, latents = walk_steps(scheduler, noise, predict, [random])
        problem = "" if latents.isfinite().all() else "the numbers that it computes are not finite"
    except Exception as error:  # schedulers raise many classes for what they cannot do
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise RecipeError(
            f"engine.scheduler is {sampling.scheduler}, and {SCHEDULERS.get(sampling.scheduler, saved)} cannot take "
            f"{count_of(sampling.steps, 'step')} for a model that predicts {config.get('prediction_type', 'epsilon')}: "
            f"{problem}; set engine.scheduler to ddim or dpmsolver++, or change engine.steps"
        )
