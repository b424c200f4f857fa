"""Which generator may guide which: told from the folders before a build, and from the loaded models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.recipe import parse_recipe
from tailforge.tasks.models.guides import check_guide
from tailforge.tasks.models.text_to_image import load_build_guide
from tests.support.tiny_flows import build_flux, build_sd3
from tests.support.tiny_generators import build_sd, build_sdxl

PIPELINES: dict[str, Callable[[], Any]] = {
    "sd": build_sd,
    "wide": lambda: build_sd(width=24, seed=1),
    "noise": lambda: build_sd("epsilon"),
    "linear": lambda: build_sd(beta_schedule="linear"),
    "sdxl": build_sdxl,
    "sd3": build_sd3,
    "sd3 shifted": lambda: build_sd3(shift=1.0),
    "flux": build_flux,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ResolvedModel]:
    folder = tmp_path_factory.mktemp("models")
    for name, make in PIPELINES.items():
        make().save_pretrained(folder / name)
    return {name: ResolvedModel(path=str(folder / name), digest=f"{name:0<64}") for name in PIPELINES}


def context(generator: ResolvedModel, guide: ResolvedModel | None) -> BuildContext:
    recipe = {
        "name": "tiny",
        "description": "A test.",
        "seed": 1,
        "concepts": [{"name": "gear", "requested": 1}],
        "generator": {"model": generator.path},
    }
    return BuildContext(store="", recipe=parse_recipe(recipe, "test"), generator=generator, guide=guide)


@pytest.mark.parametrize(("generator", "guide"), [("sd", "wide"), ("wide", "sd"), ("sd3", "sd3 shifted")])
def test_generators_of_equal_noise_and_latents_fit(
    models: dict[str, ResolvedModel], generator: str, guide: str
) -> None:
    check_guide(models[generator], models[guide])
    loaded = load_build_guide(context(models[generator], models[guide]))
    assert loaded is not None
    assert loaded.pipeline.config._name_or_path == models[guide].path


@pytest.mark.parametrize(
    ("generator", "guide", "message"),
    [
        ("sd", "noise", "its kind of prediction is epsilon, the generator's v_prediction; name the generator that"),
        (
            "sd",
            "linear",
            "its noise schedule is .*beta_schedule linear.*, the generator's .*beta_schedule scaled_linear",
        ),
        ("sd", "sd3", "its kind of prediction is flow, the generator's v_prediction"),
        ("sd", "flux", "a FluxPipeline has no unconditional pass, so it can neither have nor be a guide"),
        ("flux", "sd3", "a FluxPipeline has no unconditional pass"),
        ("sd", "sd", "engine.guide is the generator itself, which guides without being named; leave it out"),
    ],
)
def test_what_does_not_fit_is_refused(
    models: dict[str, ResolvedModel], generator: str, guide: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check_guide(models[generator], models[guide])
    if generator != guide:
        with pytest.raises(RecipeError, match=message):
            load_build_guide(context(models[generator], models[guide]))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("unet/config.json", {"in_channels": 8}, "its channels of the latents is 8, the generator's 4"),
        ("vae/config.json", {"block_out_channels": [8, 8, 16]}, "its pixels per latent is 4, the generator's 2"),
        (
            "vae/config.json",
            {"scaling_factor": 0.13025},
            "its scale of the latents is scaling_factor 0.13025, .*0.18215",
        ),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 500}, "noise schedule is num_train_timesteps 500"),
    ],
)
def test_other_latents_are_refused(
    models: dict[str, ResolvedModel], tmp_path: Path, part: str, change: dict[str, Any], message: str
) -> None:
    shutil.copytree(models["sd"].path, tmp_path / "guide")
    file = tmp_path / "guide" / part
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RecipeError, match=message):
        check_guide(models["sd"], ResolvedModel(path=str(tmp_path / "guide"), digest="1" * 64))


def test_keys_that_are_left_out_mean_their_defaults(models: dict[str, ResolvedModel], tmp_path: Path) -> None:
    shutil.copytree(models["linear"].path, tmp_path / "guide")
    file = tmp_path / "guide" / "scheduler/scheduler_config.json"
    kept = ("_class_name", "prediction_type", "clip_sample")
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key in kept}))
    check_guide(models["linear"], ResolvedModel(path=str(tmp_path / "guide"), digest="1" * 64))


def test_a_hub_model_is_compared_when_it_loads(models: dict[str, ResolvedModel]) -> None:
    hub = ResolvedModel(path="owner/name", revision="0" * 40, digest="1" * 64)
    check_guide(models["sd"], hub)
    check_guide(hub, models["sd"])


def test_a_build_without_a_guide_loads_none(models: dict[str, ResolvedModel]) -> None:
    assert load_build_guide(context(models["sd"], None)) is None
