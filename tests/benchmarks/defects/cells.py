"""The sets `cells-N`: photographs of solar cells, of which N training photographs have defects.

All good training cells stay, and so do all photographs of validation and test. Classes are crack, dark area and star;
busbars count as background, since every cell has them.
"""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from PIL import Image

from tailforge.tasks.methods.evaluation.arms import AGAINST
from tests.benchmarks.pages import row, write_json
from tests.benchmarks.worth.commands import Road, follow
from tests.benchmarks.worth.page import arms_of, over_seeds
from tests.benchmarks.worth.sets import DATA

COUNTS = {"cells-10": 10, "cells-30": 30, "cells-100": 100}
CLASSES = ("dark", "star", "crack")  # values 1 to 3 of the masks; 4 is a busbar
CUT_SEED = 20
REQUESTED = 150  # images per class
WAYS = ("copy_paste", "poisson", "noise_texture")  # the first is the version, the others its rivals
LICENSE = "BSD-3-Clause"
OPTIONS = (
    "--task", "segmentation", "--steps", 300, "--shares", "0.25,0.5", "--augmentations", 3,
    "--size", "128x128", "--fit", "stretch",
)  # fmt: skip


def measure_cells(work: Path, names: Sequence[str], seeds: int) -> None:
    """Build and evaluate the sets in a folder, and write their rows. A second run goes on where one was stopped."""
    for name in names:
        folder = work.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        follow(lay_cells(name, folder), folder, seeds, workers=1)
        write_json("defects", list(range(seeds)), measure_rows(folder))


def measure_rows(folder: Path) -> list[dict[str, Any]]:
    """Return IoU per class and arm over the seeds, and gains over the best real-only arm."""
    record = json.loads((folder / "evaluation.json").read_text())
    places = {each["name"]: place for place, each in enumerate(record["classes"])}
    runs = [each for each in pq.read_table(record["files"]["runs"]).to_pylist() if each["chosen"]]
    found = []
    for arm, label in arms_of(runs):
        name = name_arm(folder.name, arm)
        scores = np.array([each["scores"] for each in runs if (each["arm"], each["setting"]) == (arm, label)])
        for each in CLASSES:
            found.append(over_seeds(name, f"iou_{each}", scores[:, places[each]].tolist()))
        found.append(over_seeds(name, "miou", scores[:, [places[each] for each in CLASSES]].mean(axis=1).tolist()))
    for gain in record["gains"]:
        told = gain["gain_tail"]
        name = name_arm(folder.name, gain["arm"])
        found.append(row(name, "gain_miou", told["value"], "share", told["low"], told["high"]))
    return found


def name_arm(set_name: str, arm: str) -> str:
    """Return the page's name of an arm: a version's by the way in which its images are drawn."""
    own = {"mixed": WAYS[0], "alone": f"{WAYS[0]}_alone"}
    rival = arm.removeprefix(AGAINST).partition("@")[0].removeprefix(f"{set_name}-")
    return f"{set_name}/{own.get(arm, rival)}"


def find_file() -> Path | None:
    """Return the photographs' file of TAILFORGE_DATA or of the folder beside the project; None if it is not there."""
    path = Path(os.environ.get("TAILFORGE_DATA") or DATA) / "solar_cells.parquet"
    return path if path.is_file() else None


def lay_cells(name: str, folder: Path) -> Road:
    """Write photographs, defects and one recipe per way to draw to a folder, and return what is built and compared."""
    if not (folder / "real.parquet").exists():
        write_tables(COUNTS[name], folder)
    for way in WAYS:
        (folder / f"{way}.yaml").write_text(yaml.safe_dump(recipe(f"{name}-{way}", way), sort_keys=False))
    return Road(
        {f"{name}-{way}": (folder / f"{way}.yaml",) for way in WAYS},
        ("--real", folder / "real.parquet", "--few", COUNTS[name], "--many", max(COUNTS[name], 100), *OPTIONS),
    )


def write_tables(count: int, folder: Path) -> None:
    """Write real.parquet, good.parquet and one table per class. The cut follows from CUT_SEED alone.

    `count` training photographs with defects stay. A class's table has those that show it, with its mask alone.
    """
    file = find_file()
    assert file is not None, "solar_cells.parquet is not there; TAILFORGE_DATA names its folder"
    rows = pq.read_table(file).to_pylist()
    masks = [_read_mask(each["mask"]) for each in rows]
    train = np.array([each["split"] == "train" for each in rows])
    faulty = np.array([bool(mask.any()) for mask in masks])

    # The first `count` of one order of all faulty cells: 10 are among the 30, and 30 among the 100.
    order = np.random.default_rng(CUT_SEED).permutation(np.flatnonzero(train & faulty))
    chosen = set(order[:count].tolist())
    kept = [place for place in range(len(rows)) if not (train & faulty)[place] or place in chosen]

    for value, name in enumerate(CLASSES, 1):
        shown = [place for place in sorted(chosen) if (masks[place] == value).any()]
        _write(folder / f"{name}.parquet", rows, {place: masks[place] == value for place in shown}, (name,))
    good = {place: masks[place] for place in kept if train[place] and not faulty[place]}
    _write(folder / "good.parquet", rows, good, CLASSES)
    _write(folder / "real.parquet", rows, {place: masks[place] for place in kept}, CLASSES)


def recipe(title: str, way: str) -> dict[str, Any]:
    """Return the recipe that draws defects into good cells in one way."""
    folders: dict[str, Any] = {name: {"folder": f"{name}.parquet"} for name in CLASSES}
    drawing: dict[str, Any] = {"sources": {"folder": "good.parquet", "license": LICENSE, "masks": "ignore"}}
    if way == "noise_texture":
        shapes = {name: {"kind": "references", **each} for name, each in folders.items()}
        drawing |= {"kind": way, "concept_regions": shapes}
    else:
        # Without a blend a copied defect is labelled as a whole, as people labelled it.
        seam: dict[str, Any] = {"blend": "poisson"} if way == "poisson" else {"blend": "none", "min_change": 0}
        own = {"kind": "defects", "count": [1, 2]}
        drawing |= {"kind": "copy_paste", "defects": folders, "defects_license": LICENSE, "regions": own, **seam}
    return {
        "name": title,
        "description": "Defects drawn into photographs of good solar cells, for the benchmark of defects.",
        "license": LICENSE,
        "seed": 1,
        "engine": drawing,
        "concepts": [{"name": name, "requested": REQUESTED} for name in CLASSES],
        "prompts": {"templates": ["a photo of a {concept} on a solar cell"]},
        "splits": {"train": 1.0},
    }


def _read_mask(content: bytes) -> NDArray[np.uint8]:
    values = np.array(Image.open(io.BytesIO(content)))
    return np.where(values > len(CLASSES), 0, values).astype(np.uint8)


def _write(file: Path, rows: Sequence[dict[str, Any]], masks: dict[int, NDArray[Any]], names: tuple[str, ...]) -> None:
    """Write photographs with masks [H, W] as a table; a module is a group."""
    content = [
        {"split": each["split"], "group": each["module"], "image": each["image"], "mask": _png(masks[place])}
        for place, each in enumerate(rows)
        if place in masks
    ]
    table = pa.Table.from_pylist(content).replace_schema_metadata({"mask_classes": json.dumps(names)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def _png(mask: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
