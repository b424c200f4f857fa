"""Tell the schedulers with which a search can work: equal noise gives equal images."""

from collections.abc import Mapping
from typing import Any

from tailforge.schemas.errors import RecipeError

# Diffusers schedulers with steps that add no noise: the first noise alone decides the image.
DETERMINISTIC = (
    "DDIMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


def check_deterministic(name: str, config: Mapping[str, Any]) -> None:
    """Check a scheduler by its class name and its configuration. Errors: RecipeError."""
    noisy = str(config.get("algorithm_type", "")).startswith("sde") or config.get("stochastic_sampling")
    if name not in DETERMINISTIC or noisy:
        raise RecipeError(
            f"engine.scheduler: the generator's own scheduler is {name}, which adds noise while it samples; a search "
            "needs one that does not, set engine.scheduler to ddim or dpmsolver++"
        )
