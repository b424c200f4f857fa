"""`tailforge example`: write class folders of pictures with a long tail, to try Tailforge on.

The workshop's machine parts are rendered, so the pictures stand for photographs and are none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tailforge.catalog.user_paths import usable_path
from tailforge.flows.photographs.new_folder import require_new, write_whole_folder
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.workshop import PARTS, TAIL_PARTS, Scene, render, sample_scene

COMMON, RARE = 40, 6  # training pictures of a common and of a rare part
TESTED = {"validation": 12, "test": 25}  # pictures per part
SEEDS = {"train": 11, "validation": 12, "test": 13}


def write_example(out: Path) -> dict[str, Any]:
    """Write the folders SPLIT/PART with one PNG of 64 x 64 pixels per picture, and return their numbers.

    Errors: UserError for a folder that holds something; StoreError.
    """
    folder = usable_path(out, "--out").absolute()
    require_new(folder)

    # The whole folder or nothing.
    planned = list(list_pictures())
    with write_whole_folder(folder) as temporary:
        for done, (split, scene, number) in enumerate(planned):
            tell("picture", done, len(planned))
            place = temporary / split / scene.part / f"{number:03}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(scene).image).save(place)
    return {
        "folder": str(folder),
        "next": f"tailforge init {folder.name} --out start",
        "classes": [
            {"name": part, **{split: count_pictures(split, part) for split in SEEDS}, "rare": part in TAIL_PARTS}
            for part in PARTS
        ],
    }


def count_pictures(split: str, part: str) -> int:
    """Return the number of pictures of a part in a split."""
    return TESTED.get(split, RARE if part in TAIL_PARTS else COMMON)


def list_pictures() -> Iterator[tuple[str, Scene, int]]:
    """Yield split, scene and number of every picture."""
    for split, seed in SEEDS.items():
        for place, part in enumerate(PARTS):
            for number in range(count_pictures(split, part)):
                yield split, sample_scene(place * 1000 + number, seed, {part: 1.0}), number
