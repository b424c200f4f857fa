"""Recipes of engines that draw into photographs: good parts, rendered by the workshop, and defects drawn into them.

The same checks hold for the versions of all these engines.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.flows.build.prepare import prepare_build
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.tasks.engines.work.drawing import choose_for_sample
from tailforge.tasks.methods.workshop import DEFECTS, Scene
from tailforge.tasks.methods.workshop.render import render
from tailforge.tasks.methods.workshop.scenes import LONG_TAIL, sample_scene
from tests.support.tiny_recipes import write_recipe

ENGINE: dict[str, Any] = {
    "kind": "inpaint",
    "steps": 4,
    "batch_size": 4,
    "sources": {"folder": "good", "license": "CC0-1.0"},
    "regions": {"kind": "shapes", "shapes": ["blob"], "area": [0.15, 0.3]},
}
RECIPE: dict[str, Any] = {
    "concepts": [{"name": "gear", "requested": 5}, {"name": "hook", "requested": 3}],
    "prompts": {"templates": ["a photo of a {concept}"]},
    "quality": {"gates": {"contrast": {"min": 0.001}}, "oversample": 1.3, "max_rounds": 2},
}


def write_parts(folder: Path, count: int = 6, size_px: int = 64, *, split: bool = False, grouped: bool = False) -> Path:
    """Write renders with masks of their parts; with `split` a third is for test, with `grouped` two are one object."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        made = render(sample_scene(number, 5, LONG_TAIL), size_px)
        Image.fromarray(made.image).save(folder / f"{number:03}.png")
        Image.fromarray(made.mask.astype(np.uint8)).save(folder / f"{number:03}_part.png")
        line: dict[str, Any] = {"file_name": f"{number:03}.png", "mask": f"{number:03}_part.png"}
        line |= {"split": "test" if number // 2 % 3 == 2 else "train"} if split else {}
        lines.append(line | ({"group": f"object {number // 2}"} if grouped else {}))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def write_inpaint(folder: Path, engine: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a recipe that draws into the photographs in `good` by the embedded generator; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"generator": {"model": "catalog:workshop"}, "engine": ENGINE | (engine or {})}
    return write_recipe(folder, **(RECIPE | drawn | changes))


def write_defects(folder: Path, count: int = 4, seed: int = 3) -> Path:
    """Write renders of gears with a defect each and its exact mask; every second one is for test."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        made = render(Scene("gear", "steel", "wooden bench", seed + number, list(DEFECTS)[number % len(DEFECTS)]))
        Image.fromarray(made.image).save(folder / f"{number}.png")
        Image.fromarray(made.defect.astype(np.uint8)).save(folder / f"{number}_mask.png")
        split = "test" if number % 2 else "train"
        lines.append({"file_name": f"{number}.png", "mask": f"{number}_mask.png", "split": split})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def write_pasting(folder: Path, engine: dict[str, Any], **changes: Any) -> Path:
    """Write a recipe that draws into the photographs in `good` without a generator; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {name: ENGINE[name] for name in ("sources", "regions")}
    if engine["kind"] == "copy_paste":
        shared |= {"defects": {name: {"folder": f"broken {name}"} for name in ("gear", "hook")}}
    drawn = {"generator": None, "engine": shared | engine}
    return write_recipe(folder, **(RECIPE | drawn | changes))


def rows_of(version: Path, table: str = "manifest") -> list[dict[str, Any]]:
    """Return the rows of a version's table, with the provenance read."""
    rows = pq.read_table(version / f"{table}.parquet").to_pylist()
    return [row | {"provenance": json.loads(row["provenance"])} for row in rows]


def require_photograph_outside(home: Path, version: Path) -> list[dict[str, Any]]:
    """Check that every image of a version is its photograph but for what its mask marks inside the regions.

    `home` holds `recipe` and `store`. Return the rows.
    """
    context = prepare_build(str(home / "recipe" / "tiny.yaml"), str(home / "store"))
    rows = rows_of(version)
    found = [open_dataset(version.as_posix(), split=split) for split in sorted({row["split"] for row in rows})]
    samples = {sample["json"]["sample_id"]: sample for split in found for sample in split}
    assert len(samples) == len(rows)
    for row in rows:
        chosen = choose_for_sample(context, row["concept"], row["sample_id"])
        photograph = np.asarray(Image.open(home / "recipe" / "good" / chosen.source.id).convert("RGB"))
        inside = np.any(chosen.regions, axis=0)
        image, mask = (np.asarray(samples[row["sample_id"]][name]) for name in ("image", "mask"))
        assert np.array_equal(image[~inside], photograph[~inside])
        assert (image[inside] != photograph[inside]).any()

        # The label: what changed inside the regions, on the part, one instance per component.
        assert not (inside & ~chosen.source.part).any()
        assert not ((mask > 0) & ~inside).any()
        assert set(np.unique(mask)) == {0, row["class_id"] + 1}
        shapes = [decode_rle(each["rle"], *mask.shape) for each in row["instances"]]
        assert np.array_equal(np.sum(shapes, axis=0), mask > 0)
        assert {each["category"] for each in row["instances"]} == {row["concept"]}
        assert row["mask_source"] == "changed_region"
        assert 0 < row["mask_confidence"] <= 1
    return rows
