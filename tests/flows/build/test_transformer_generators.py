"""The chain with Stable Diffusion 3 and Flux: a version with masks, one image made again, and what cannot be asked."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailforge import open_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build, rows_of
from tests.support.bad_recipes import Change, assert_refused, put, references, search, together
from tests.support.tiny_flows import build_flux, build_sd3, save
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

ENGINE = {"kind": "plain", "steps": 2, "guidance": 1.5, "batch_size": 4, "height": 32, "width": 32}
SMALL: dict[str, Any] = {
    "engine": ENGINE,
    "concepts": [{"name": "gear", "requested": 5}, {"name": "bench", "requested": 3}],
    "prompts": {"templates": ["a photo of a {concept} on a {place}"], "attributes": {"place": ["wooden floor", "mat"]}},
    "annotation": {"stuff": ["place"]},
    "quality": {"gates": {}, "near_duplicates": None, "max_rounds": 1},
}
BUILDERS = pytest.mark.parametrize("pipeline", [build_sd3, build_flux], ids=["sd3", "flux"])


@BUILDERS
def test_a_recipe_becomes_a_version_with_masks_and_an_image_is_made_again(
    pipeline: Callable[[], Any], command: Command, tmp_path: Path
) -> None:
    folder, store = tmp_path / "recipe", tmp_path / "store"
    save(pipeline(), folder / "generator")
    recipe = write_recipe(folder, **SMALL)
    made = build(command, recipe, store)
    assert verify(Store.open(str(store)), "tiny") == []
    rows = rows_of(made)
    assert Counter(row["concept"] for row in rows) == {"gear": 5, "bench": 3}
    assert {json.loads(row["provenance"])["scheduler"] for row in rows} == {"FlowMatchEulerDiscreteScheduler"}
    assert {row["mask_source"] for row in rows} == {"cross_attention"}
    assert all(row["concept"] in {each["category"] for each in row["instances"]} for row in rows)
    root = str(Path(made["uri"]).parent)
    for sample in (each for split in ("train", "test") for each in open_dataset(root, split=split)):
        assert sample["cls"] + 1 in np.asarray(sample["mask"])
    assert build(command, recipe, store)["work"] == {}
    words = ["--dataset", "tiny", "--store", store, "--folder", folder, "--json", "--out", tmp_path / "again.png"]
    code, out, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"] is True


def test_a_finished_image_is_read_by_stable_diffusion_3(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    save(build_sd3(), tiny_recipe.parent / "reader")
    asked = {"kind": "renoised_attention", "model": {"model": "reader"}}
    engine = {"kind": "plain", "steps": 2, "guidance": 1.5, "batch_size": 4}
    recipe = write_recipe(tiny_recipe.parent, **{**SMALL, "engine": engine, "annotation": asked})
    rows = rows_of(build(command, recipe, tmp_path / "store"))
    assert {row["mask_source"] for row in rows} == {"renoised_attention"}
    assert all(row["instances"] for row in rows)


def draw_with(pipeline: Callable[[], Any], **engine: Any) -> Change:
    """Another generator in place of the tiny one, and settings of engine plain."""

    def change(recipe: dict[str, Any], folder: Path) -> None:
        shutil.rmtree(folder / "generator")
        save(pipeline(), folder / "generator")
        if recipe["engine"]["kind"] == "plain":
            recipe["engine"] = ENGINE | engine

    return change


SCHEDULER = "runs only with its own flow-matching scheduler; set it to model"
CASES: dict[str, tuple[Change, str]] = {
    "search with sd3": (
        search(references(3), draw_with(build_sd3)),
        "engine.kind is seed_select, which searches for noise of Stable Diffusion 1, 2 and XL, but the generator is a "
        "StableDiffusion3Pipeline; set engine.kind to plain",
    ),
    "search with flux": (
        search(references(3), draw_with(build_flux), kind="best_of_n"),
        "engine.kind is best_of_n.*Flux",
    ),
    "scheduler of sd3": (
        draw_with(build_sd3, scheduler="ddim"),
        f"engine.scheduler is ddim, but a Stable.*{SCHEDULER}",
    ),
    "scheduler of flux": (
        draw_with(build_flux, scheduler="euler"),
        f"engine.scheduler is euler, but a Flux.*{SCHEDULER}",
    ),
    "affinity of sd3": (
        together(draw_with(build_sd3), put("annotation", value={"affinity": 2})),
        "annotation.affinity .*set it to 0: the generator is a StableDiffusion3Pipeline",
    ),
    "affinity of flux": (
        together(draw_with(build_flux), put("annotation", value={"affinity": 2})),
        "annotation.affinity .*set it to 0: the generator is a FluxPipeline",
    ),
    "negative prompt of flux": (draw_with(build_flux, negative_prompt="bench"), "engine.negative_prompt would have no"),
    "guidance of schnell": (
        draw_with(lambda: build_flux(guidance_embeds=False), guidance=2.0),
        "engine.guidance 2 would have no effect.*leave it out",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)
