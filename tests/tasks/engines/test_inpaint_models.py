"""Builds with networks made for inpainting, and the places where they are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.samples.regenerate import regenerate_sample
from tailforge.schemas.errors import RecipeError, UserError
from tailforge.tasks.engines.work.drawing import choose_sample_regions, choose_source
from tests.support.inpaint_recipes import write_inpaint, write_parts
from tests.support.local_builds import build_here
from tests.support.tiny_clip import save_clip
from tests.support.tiny_fills import FILLS
from tests.support.tiny_recipes import write_recipe

# Attention to words is recorded, and two candidates are compared with known defects.
ENGINE: dict[str, Any] = {
    "steps": 4, "height": 32, "width": 32, "guidance": 2.0, "batch_size": 2,
    "regions": {"kind": "references", "folder": "good"}, "search": {"candidates": 2, "encoder": {"model": "clip"}},
}  # fmt: skip
CHANGES: dict[str, Any] = {
    "generator": {"model": "generator"}, "concepts": [{"name": "gear", "requested": 2}], "splits": {"train": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("name", FILLS)
def test_outside_the_region_every_published_pixel_is_the_photographs(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    write_parts(folder / "good", 3)
    save_clip(folder / "clip")
    FILLS[name]().save_pretrained(folder / "generator")
    context = prepare_build(str(write_inpaint(folder, ENGINE, **CHANGES)), str(tmp_path / "store"))
    version = build_here(context)
    rows = {row["sample_id"]: row for row in pq.read_table(version / "manifest.parquet").to_pylist()}
    samples = list(open_dataset(version.as_posix(), split="train"))
    assert len(rows) == len(samples) == 2
    for sample in samples:
        sample_id = sample["json"]["sample_id"]
        source = choose_source(context, sample_id)
        photograph = np.asarray(Image.open(folder / "good" / source.id).convert("RGB"))
        inside = np.any(choose_sample_regions(context, "gear", sample_id, source), axis=0)
        image = np.asarray(sample["image"])
        assert np.array_equal(image[~inside], photograph[~inside])
        assert (image[inside] != photograph[inside]).any()
        assert 0 <= rows[sample_id]["mask_agreement"] <= 1
        assert json.loads(rows[sample_id]["provenance"])["candidate"] in (0, 1)
    where = "tiny", str(tmp_path / "store"), tmp_path / "again.png", folder
    assert regenerate_sample(next(iter(rows)), *where)["equal"] is True


@pytest.mark.parametrize(("name", "plain"), [("sd", "StableDiffusionPipeline"), ("flux", "FluxPipeline")])
def test_text_alone_is_refused_when_the_build_is_planned(name: str, plain: str, tmp_path: Path) -> None:
    FILLS[name]().save_pretrained(tmp_path / "generator")
    with pytest.raises(RecipeError, match=f"draws into photographs alone, and engine plain .* or name a {plain}"):
        prepare_build(str(write_recipe(tmp_path)), str(tmp_path / "store"))


def test_other_uses_of_a_network_for_inpainting_are_refused(tmp_path: Path) -> None:
    FILLS["sd"]().save_pretrained(tmp_path / "generator")
    write_parts(tmp_path / "good", 2)
    recipe = write_inpaint(tmp_path, {"height": 32, "width": 32, "resample": 2}, **CHANGES)
    with pytest.raises(RecipeError, match=r"engine\.resample is for generators whose latents are blended"):
        prepare_build(str(recipe), str(tmp_path / "store"))

    # As a guide, and as the reader of attention.
    source = {"model": "generator"}
    engine = {"kind": "plain", "steps": 2, "guidance": 2.0, "batch_size": 4, "guide": source}
    annotation = {"kind": "renoised_attention", "model": source}
    for use in ({"engine": engine}, {"annotation": annotation}):
        recipe = write_recipe(tmp_path, generator={"model": "catalog:workshop"}, **use)
        with pytest.raises(
            UserError, match=r"(engine\.guide|annotation\.model): a StableDiffusionInpaintPipeline draws"
        ):
            prepare_build(str(recipe), str(tmp_path / "store"))
