"""The default of guidance belongs to the kind of generator: diffusers' own for its pipelines, else ours."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from diffusers import LCMScheduler

from tailforge.catalog.sources.models import MODELS
from tailforge.catalog.sources.recipes import load_recipe
from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.tasks.models.generator_defaults import (
    FEW_STEPS,
    GUIDANCE,
    NEW,
    SMALL,
    UNTOLD,
    find_kind,
    find_least_drawn,
    settle_defaults,
)
from tailforge.tasks.models.pixel_generator import PixelNorm, write_untrained
from tailforge.tasks.models.text_to_image import FAMILIES
from tests.support.tiny_fills import build_flux_fill, build_sd_fill, build_sdxl_fill
from tests.support.tiny_flows import build_flux, build_sd3
from tests.support.tiny_generators import build_sd, build_sdxl
from tests.support.tiny_recipes import TINY

BUILDERS: Mapping[str, Callable[[], Any]] = {
    "StableDiffusionPipeline": build_sd,
    "StableDiffusionXLPipeline": build_sdxl,
    "StableDiffusion3Pipeline": build_sd3,
    "FluxPipeline": build_flux,
    "StableDiffusionInpaintPipeline": build_sd_fill,
    "StableDiffusionXLInpaintPipeline": build_sdxl_fill,
    "FluxFillPipeline": build_flux_fill,
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def save(pipeline: Any, folder: Path, width: int | None = None) -> ResolvedModel:
    """The pipeline as a directory; `width`: that of the text its UNet is said to read."""
    pipeline.save_pretrained(folder)
    if width is not None and (file := folder / "unet" / "config.json").exists():
        file.write_text(json.dumps(json.loads(file.read_text()) | {"cross_attention_dim": width}))
    return ResolvedModel(path=str(folder), digest="0" * 64)


def recipe_with(**engine: Any) -> Recipe:
    kept = {key: value for key, value in TINY["engine"].items() if key != "guidance"}
    return parse_recipe(TINY | {"engine": kept | engine}, "tiny")


def guidance_of(recipe: Recipe) -> float:
    assert recipe.engine.sampling is not None
    return recipe.engine.sampling.guidance


@pytest.mark.parametrize("kind", FAMILIES)
def test_defaults_of_pipelines_are_those_of_diffusers(kind: str) -> None:
    call = inspect.signature(FAMILIES[kind].pipeline.__call__)
    assert GUIDANCE[kind] == call.parameters["guidance_scale"].default


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_recipe_gets_the_default_of_its_pipeline(kind: str, tmp_path: Path) -> None:
    generator = save(BUILDERS[kind](), tmp_path, width=768)
    assert find_kind(generator) == kind
    assert guidance_of(settle_defaults(recipe_with(), generator)) == GUIDANCE[kind]


@pytest.mark.parametrize(
    ("pipeline", "width", "kind", "guidance"),
    [
        (build_sd, 767, SMALL, 3.0),
        (build_sdxl, None, SMALL, 3.0),
        (build_sd_fill, None, SMALL, 3.0),
        (lambda: build_flux(guidance_embeds=False), None, UNTOLD, 1.0),
    ],
)
def test_other_kinds_have_ours(
    pipeline: Callable[[], Any], width: int | None, kind: str, guidance: float, tmp_path: Path
) -> None:
    generator = save(pipeline(), tmp_path, width)
    assert find_kind(generator) == kind
    assert guidance_of(settle_defaults(recipe_with(), generator)) == guidance


def test_new_networks_have_guidance_as_the_embedded_one_and_a_mask_for_every_word(tmp_path: Path) -> None:
    write_untrained(tmp_path / "new", (16, 16), PixelNorm((0.5,) * 3, (0.5,) * 3), ["gear"], [16, 32], 0)
    generator = ResolvedModel(path=str(tmp_path / "new"), digest="0" * 64)
    assert find_kind(generator) == NEW
    assert guidance_of(settle_defaults(recipe_with(), generator)) == 3.0
    assert find_least_drawn(generator) == 0


def test_guidance_is_off_for_networks_of_few_steps(tmp_path: Path) -> None:
    pipeline = build_sd()
    pipeline.scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    generator = save(pipeline, tmp_path, width=1024)
    assert find_kind(generator) == FEW_STEPS
    assert guidance_of(settle_defaults(recipe_with(), generator)) == 1.0
    with pytest.raises(RecipeError, match=r"negative_prompt has no effect with engine.guidance 1"):
        settle_defaults(recipe_with(negative_prompt="blurred"), generator)
    assert guidance_of(settle_defaults(recipe_with(negative_prompt="blurred", guidance=2), generator)) == 2


def test_the_embedded_recipes_keep_their_guidance() -> None:
    generator = ResolvedModel(path=str(MODELS / "workshop"), digest="0" * 64)
    named = load_recipe("workshop").recipe
    left_out = load_recipe("workshop", ["engine={kind: plain, steps: 16, batch_size: 8}"]).recipe
    assert settle_defaults(named, generator) == named == settle_defaults(left_out, generator)


def test_words_may_be_absent_for_small_networks_alone(tmp_path: Path) -> None:
    assert find_least_drawn(ResolvedModel(path=str(MODELS / "workshop"), digest="0" * 64)) == 0.5
    assert find_least_drawn(save(build_sd(), tmp_path, width=768)) == 0
    assert find_least_drawn(ResolvedModel(path=str(MODELS / "workshop-teacher"), digest="0" * 64)) == 0
    assert find_least_drawn(ResolvedModel(path="owner/name", revision=COMMIT, digest="0" * 64)) == 0


@pytest.mark.parametrize("guidance", [3.0, 1.0, 7.5])
def test_what_a_recipe_sets_stays(guidance: float, tmp_path: Path) -> None:
    recipe = recipe_with(guidance=guidance)
    assert settle_defaults(recipe, save(build_sd(), tmp_path, width=768)) is recipe
    published = recipe_with(kind="plain", guidance=guidance).model_dump(mode="json")
    assert guidance_of(settle_defaults(Recipe.model_validate(published), save(build_sd(), tmp_path, 768))) == guidance


def test_the_files_of_a_hub_model_show_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The hub's own cache holds a pinned model in this folder.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    save(build_sd(), tmp_path / "models--owner--name" / "snapshots" / COMMIT, width=1024)
    generator = ResolvedModel(path="owner/name", revision=COMMIT, digest="0" * 64)
    assert guidance_of(settle_defaults(recipe_with(), generator)) == 7.5

    absent = generator.model_copy(update={"path": "owner/absent"})
    with pytest.raises(ModelError, match=r"engine.guidance: its default .*owner/absent@.*or give engine.guidance"):
        settle_defaults(recipe_with(), absent)
    assert guidance_of(settle_defaults(recipe_with(guidance=4), absent)) == 4
