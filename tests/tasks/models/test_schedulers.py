"""Every scheduler that a pipeline with a UNet takes draws the pipeline's own images, or is refused before a build."""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import BuildContext, ResolvedModel, SampleSpec
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.models.generator_files import SCHEDULERS, UNET_SCHEDULERS
from tailforge.tasks.models.generator_settings import SURE, SURE_STEPS, check_settings
from tailforge.tasks.models.schedulers import require_steps
from tailforge.tasks.models.text_to_image import load_build_generator
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_generators import build_sd, build_sdxl, make_samples

PROMPTS = ("a photo of a gear on a wooden bench", "a gear")
SAMPLES = make_samples(2, PROMPTS)
BUILDS: Mapping[str, Callable[[], Any]] = {"sd": lambda: build_sd("epsilon"), "sdxl": build_sdxl}
of_numpy = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # of diffusers with numpy 2


@lru_cache
def build_once(build: str) -> tuple[Any, dict[str, Any]]:
    """A tiny pipeline, and what its scheduler's configuration says that is no default."""
    pipeline = BUILDS[build]()
    pipeline.set_progress_bar_config(disable=True)
    config = dict(pipeline.scheduler.config)
    defaults = config.pop("_use_default_values", [])
    return pipeline, {key: value for key, value in config.items() if key not in defaults}


def prepare(build: str, name: str, **changes: Any) -> Any:
    """A tiny pipeline with a scheduler of another class, whose configuration is changed."""
    pipeline, config = build_once(build)
    pipeline.scheduler = getattr(diffusers, name).from_config({**config, **changes})
    return pipeline


def own_images(pipeline: Any, samples: list[SampleSpec], **settings: Any) -> np.ndarray[Any, Any]:
    rendered = list(render_plain(UNetGenerator(pipeline), samples, PlainEngine(**settings), None, Clock()))
    assert all(row.error is None for row in rendered), [row.error for row in rendered]
    return np.stack([row.pixels for row in rendered if row.pixels is not None]).astype(int)


def pipeline_images(pipeline: Any, samples: list[SampleSpec], steps: int, **options: Any) -> np.ndarray[Any, Any]:
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples]
    made = pipeline(
        [sample.prompt for sample in samples],
        num_inference_steps=steps,
        guidance_scale=3.0,
        generator=generators,
        output_type="np",
        **options,
    )
    return np.asarray(made.images)


def require(pipeline: Any, steps: int, name: str = "model") -> None:
    """What a build asks before it starts."""
    scheduler = pipeline.scheduler
    require_steps(PlainEngine(steps=steps, scheduler=name), type(scheduler).__name__, scheduler.config)


def compare(pipeline: Any, steps: int = 4) -> None:
    """Equal images, or images of neither: then the recipe is refused."""
    try:
        require(pipeline, steps)
    except RecipeError:
        with pytest.raises(Exception):  # noqa: B017, PT011  each scheduler has its own error
            assert np.isfinite(pipeline_images(pipeline, SAMPLES, steps)).all()
        return
    theirs = (pipeline_images(pipeline, SAMPLES, steps) * 255).round()
    assert np.abs(own_images(pipeline, SAMPLES, steps=steps, batch_size=2) - theirs).max() <= 1


@of_numpy
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", UNET_SCHEDULERS)
def test_equals_the_pipeline_with_any_scheduler_and_prediction(name: str, prediction: str) -> None:
    """Also with those that add noise on the way, from the samples' own generators."""
    compare(prepare("sd", name, prediction_type=prediction))


@of_numpy
@pytest.mark.parametrize("name", UNET_SCHEDULERS)
def test_equals_the_pipeline_of_xl_with_any_scheduler(name: str) -> None:
    compare(prepare("sdxl", name))


NO_SAMPLE = {
    *("DDIMInverseScheduler", "EDMDPMSolverMultistepScheduler", "EDMEulerScheduler", "EulerAncestralDiscreteScheduler"),
    *("KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler"),
}  # fmt: skip


@of_numpy
@pytest.mark.parametrize("steps", [4, 20])
def test_few_pairs_of_scheduler_and_prediction_are_refused(steps: int) -> None:
    for name in UNET_SCHEDULERS:
        for prediction in ("epsilon", "v_prediction", "sample"):
            pipeline = prepare("sd", name, prediction_type=prediction)
            if prediction == "sample" and name in NO_SAMPLE:
                with pytest.raises(RecipeError, match=rf"{name} cannot take {steps} steps .* predicts sample"):
                    require(pipeline, steps)
            else:
                require(pipeline, steps)


@of_numpy
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_schedulers_that_are_not_tried_take_their_steps(name: str) -> None:
    for prediction in SURE["prediction_type"]:
        for spacing in SURE["timestep_spacing"]:
            pipeline = prepare("sd", "DDIMScheduler", prediction_type=prediction, timestep_spacing=spacing)
            for steps in (1, 2, 3, 20, 50, SURE_STEPS):
                require(pipeline, steps, name)


def test_no_other_scheduler_of_diffusers_runs_in_a_pipeline() -> None:
    others = {name for name in dir(diffusers) if name.endswith("Scheduler")} - set(UNET_SCHEDULERS)
    assert len(others) > 10
    for name in others:
        with pytest.raises(Exception):  # noqa: B017, PT011  each scheduler has its own error
            pipeline_images(prepare("sd", name), SAMPLES, 4)


@of_numpy
@pytest.mark.parametrize("changes", [{"timestep_spacing": spacing} for spacing in ("leading", "trailing", "linspace")]
                         + [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True},
                            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}], ids=str)  # fmt: skip
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_equals_the_pipeline_with_another_spacing_of_noise(build: str, name: str, changes: dict[str, Any]) -> None:
    if name == "DDIMScheduler" and any(key.startswith("use") for key in changes):
        pytest.skip("DDIM has no such setting")
    compare(prepare(build, name, **changes), 6)


@of_numpy
@pytest.mark.parametrize("build", BUILDS)
def test_timesteps_that_repeat_are_walked_from_the_first(build: str) -> None:
    """Where the first timestep repeats, the pipeline of Stable Diffusion 1 and 2 fails, and that of XL does not."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012}  # of Stable Diffusion
    pipeline = prepare(build, "DPMSolverMultistepScheduler", use_beta_sigmas=True, **betas)
    pipeline.scheduler.set_timesteps(50)
    assert pipeline.scheduler.timesteps[0] == pipeline.scheduler.timesteps[1]
    own = own_images(pipeline, SAMPLES, steps=50, batch_size=2)
    if build == "sd":
        with pytest.raises(IndexError):
            pipeline_images(pipeline, SAMPLES, 50)
    else:
        assert np.abs(own - (pipeline_images(pipeline, SAMPLES, 50) * 255).round()).max() <= 1


def recipe_of(**engine: Any) -> Recipe:
    data = {
        "name": "tiny",
        "description": "A test.",
        "seed": 1,
        "concepts": [{"name": "gear", "requested": 3}],
        "generator": {"model": "owner/name", "revision": "0" * 40},
        "engine": {"kind": "plain", **engine},
    }
    return parse_recipe(data, "recipe.yaml")


@pytest.mark.parametrize(
    ("name", "changes", "engine", "message"),
    [
        ("LCMScheduler", {}, {"steps": 60}, "LCMScheduler cannot take 60 steps .*50"),
        ("PNDMScheduler", {"prediction_type": "sample"}, {}, "PNDMScheduler cannot take 20 steps .* predicts sample"),
        ("PNDMScheduler", {}, {"steps": 3}, "PNDMScheduler cannot take 3 steps"),
        (
            "EulerDiscreteScheduler",
            {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
            {"scheduler": "ddim"},
            "DDIMScheduler .* not finite",
        ),
    ],
)
def test_steps_that_a_scheduler_cannot_take_are_refused_before_a_build(
    name: str, changes: dict[str, Any], engine: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pipeline = prepare("sd", name, **changes)
    pipeline.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "scheduler" / "scheduler_config.json").read_text())["_class_name"] == name
    model = ResolvedModel(path=str(tmp_path / "model"), digest=str(tmp_path))
    recipe = recipe_of(**engine)
    with pytest.raises(RecipeError, match=rf"engine.scheduler is .*{message}.*set engine.scheduler"):
        check_settings(recipe, model)
    with pytest.raises(RecipeError, match=message):
        load_build_generator(BuildContext(store=str(tmp_path), recipe=recipe, generator=model))
    check_settings(recipe_of(steps=20, scheduler="dpmsolver++"), save_other(tmp_path))


def save_other(folder: Path) -> ResolvedModel:
    """A pipeline whose scheduler takes every number of steps."""
    build_sd().save_pretrained(folder / "other")
    return ResolvedModel(path=str(folder / "other"), digest="0" * 64)
