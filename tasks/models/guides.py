"""Check that one generator can be the guide of another (Domain Guidance, arXiv 2504.01521).

Both must denoise the same latents with the same noise and the same kind of prediction. Configurations answer this. They
do not show whether both autoencoders have the same weights. The author of the recipe ensures this; it holds for a
generator that was adapted from its guide.
"""

from collections.abc import Mapping
from typing import Any

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.generator_files import FLOWS, FLUX_CLASSES, INDEX, WEIGHTS, generator_folder, read_json

GUIDE = "engine.guide"
# Keys of a scheduler's configuration that decide the noise at a timestep, with the defaults of diffusers. A flow's
# noise is its timestep, independent of the shift.
NOISE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
FLOW_NOISE = ("num_train_timesteps",)
SCALE = {"scaling_factor": 0.18215, "shift_factor": None, "latents_mean": None, "latents_std": None}
CHANNELS = {"unet": 4, "transformer": 16}

Config = Mapping[str, Any]
Traits = Mapping[str, object]


def check_guide(generator: ResolvedModel, guide: ResolvedModel) -> None:
    """Check that a guide fits a generator, from their files. Hub models are compared when they load.

    Errors: RecipeError for a guide that does not fit; ModelError for a damaged file.
    """
    if guide.digest == generator.digest:
        raise RecipeError(f"{GUIDE} is the generator itself, which guides without being named; leave it out")

    # Compare the configurations of denoiser, scheduler and autoencoder.
    folders = generator_folder(generator), generator_folder(guide)
    found = []
    for folder in folders:
        if folder is None:
            return
        kind = str(read_json(folder / INDEX)["_class_name"])
        parts = (next(iter(WEIGHTS[kind])), "config"), ("scheduler", "scheduler_config"), ("vae", "config")
        found.append(describe(kind, *(read_json(folder / part / f"{file}.json") for part, file in parts)))
    require_fit(*found)


def describe_loaded(pipeline: Any, denoiser: Any) -> Traits:
    """Return the traits of a loaded pipeline."""
    return describe(type(pipeline).__name__, denoiser.config, pipeline.scheduler.config, pipeline.vae.config)


def describe(kind: str, denoiser: Config, scheduler: Config, vae: Config) -> Traits:
    """Return the traits that a generator and its guide must share, by name."""
    # The class counts for Flux only, which can be neither generator nor guide here.
    flow = kind in FLOWS
    return {
        "pipeline": kind if kind in FLUX_CLASSES else "",
        "kind of prediction": "flow" if flow else scheduler.get("prediction_type", "epsilon"),
        "noise schedule": _choose(scheduler, {key: NOISE[key] for key in FLOW_NOISE} if flow else NOISE),
        "channels of the latents": denoiser.get("in_channels", CHANNELS["transformer" if flow else "unet"]),
        "pixels per latent": 2 ** (len(vae.get("block_out_channels", ())) - 1),
        "scale of the latents": _choose(vae, SCALE),
    }


def require_fit(generator: Traits, guide: Traits) -> None:
    """Check that two generators have the same traits. Errors: RecipeError that names the difference."""
    if flux := generator["pipeline"] or guide["pipeline"]:
        raise RecipeError(
            f"{GUIDE}: a {flux} has no unconditional pass, so it can neither have nor be a guide; leave it out"
        )
    for name, own in generator.items():
        if own != guide[name]:
            raise RecipeError(
                f"{GUIDE} does not fit the generator: its {name} is {_show(guide[name])}, the generator's {_show(own)};"
                " name the generator that this one was adapted from, or leave it out"
            )


def _choose(config: Config, defaults: Mapping[str, object]) -> dict[str, object]:
    return {key: config.get(key, default) for key, default in defaults.items()}


def _show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items() if each is not None)
    return str(value)
