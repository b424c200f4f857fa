"""`tailforge example --defects`: write pictures of good steel parts, and of a few with each defect, with masks.

The workshop's machine parts are rendered, so the pictures stand for photographs and are none.
"""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.user_paths import usable_path
from tailforge.flows.photographs.new_folder import RECIPE, require_new, write_recipe_file, write_whole_folder
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.workshop import DEFECTS, HEAD_PARTS, Scene, render, sample_scene

GOOD = "good"
COUNTS = {"train": (64, 5), "validation": (16, 3), "test": (64, 12)}  # pictures of good parts, and per defect
SEEDS = {"train": 21, "validation": 22, "test": 23}
WEIGHTS = dict.fromkeys(HEAD_PARTS, 1.0)
REQUESTED = 40  # images per defect
TEMPLATE = """\
# Copies of five real defects in photographs of good parts. docs/how-to/defects.md says what each line means.
name: part-defects
description: Copies of real defects in photographs of good steel parts.
license: CC0-1.0
seed: 1

engine:
  kind: copy_paste
  sources: {{folder: good, license: CC0-1.0}}   # its masks keep regions on the part
  regions: {{kind: defects}}                    # a copy keeps its shape
  min_change: 0                               # and is labelled as a whole
  defects:
{defects}
  defects_license: CC0-1.0

concepts:
{concepts}

prompts: {{templates: ["a photo of a {{concept}} on a steel part"]}}
"""


def write_defect_example(out: Path) -> dict[str, Any]:
    """Write three folders of PNG pictures of 64 x 64 pixels with masks, and return their numbers.

    `photographs` holds SPLIT/CLASS; a mask's values count the defects from 1, in the order of DEFECTS. `good` holds the
    good parts of split train with the masks of the parts. `references/DEFECT` holds a defect's pictures of split train
    with its masks. `recipe.yaml` draws the defects into the good parts. Errors: UserError for a folder that holds
    something; StoreError.
    """
    folder = usable_path(out, "--out").absolute()
    require_new(folder)

    # The whole folder or nothing.
    planned = list(list_pictures())
    with write_whole_folder(folder) as temporary:
        for done, (split, name, scene) in enumerate(planned):
            tell("picture", done, len(planned))
            _write_picture(temporary, split, name, scene)
        write_recipe_file(temporary, write_recipe())
    return {
        "folder": str(folder),
        "next": f"tailforge build {shlex.quote(str(out / RECIPE))}",
        "classes": [
            {"name": kind, **{split: counts[kind != GOOD] for split, counts in COUNTS.items()}, "rare": kind != GOOD}
            for kind in (GOOD, *DEFECTS)
        ],
    }


def write_recipe() -> str:
    """Return the recipe that copies the defects of `references` into the pictures of `good`, as YAML."""
    return TEMPLATE.format(
        defects="\n".join(f"    {each}: {{folder: references/{each}}}" for each in DEFECTS),
        concepts="\n".join(f"  - {{name: {each}, requested: {REQUESTED}}}" for each in DEFECTS),
    )


def list_pictures() -> Iterator[tuple[str, str, Scene]]:
    """Yield split, file name and scene of every picture."""
    for split, (good, each) in COUNTS.items():
        kinds = [None] * good + [defect for defect in DEFECTS for _ in range(each)]
        for number, defect in enumerate(kinds):
            drawn = sample_scene(number, SEEDS[split], WEIGHTS)
            yield split, f"{number:03}.png", Scene(drawn.part, "steel", drawn.surface, drawn.seed, defect)


def _write_picture(folder: Path, split: str, name: str, scene: Scene) -> None:
    """Write a picture to `photographs`, and a training picture to `good` or `references` as well."""
    shown = render(scene)
    if scene.defect is None:
        kind, own, value, mask = GOOD, folder / GOOD, 0, shown.mask
    else:
        kind, own, mask = scene.defect, folder / "references" / scene.defect, shown.defect
        value = list(DEFECTS).index(kind) + 1

    _write_pair(folder / "photographs" / split, f"{kind}/{name}", shown.image, shown.defect * value)
    if split == "train":
        _write_pair(own, name, shown.image, mask)


def _write_pair(folder: Path, name: str, image: NDArray[np.uint8], mask: NDArray[Any]) -> None:
    """Write a picture and its mask below a folder, and add both to the folder's metadata."""
    for place, pixels in ((name, image), (f"masks/{name}", mask.astype(np.uint8))):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / place)
    with (folder / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"file_name": name, "mask_file_name": f"masks/{name}"}) + "\n")
