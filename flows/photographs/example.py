"""`tailforge example`: write class folders of pictures with a long tail, to try Tailforge on.

The workshop's machine parts are rendered, so the pictures stand for photographs and are none.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tailforge.catalog.user_paths import usable_path
from tailforge.flows.photographs.new_folder import require_new, write_whole_folder
from tailforge.schemas.under_way import tell
from tailforge.tasks.methods.workshop import PARTS, TAIL_PARTS, Scene, render, sample_scene

COMMON, RARE = 40, 6  # training pictures of a common and of a rare part
TESTED = {"validation": 24, "test": 100}  # pictures per part
HELD_BACK = COMMON - RARE  # further pictures of a rare part
SEEDS = {"train": 11, "validation": 12, "test": 13}


def write_example(out: Path, held_back: Path | None = None) -> dict[str, Any]:
    """Write the folders SPLIT/PART with one PNG of 64 x 64 pixels per picture, and return their numbers.

    `held_back`: folder for PART with further training pictures of each rare part, as many as common parts have more.
    Errors: UserError for a folder that holds something; StoreError.
    """
    folder = usable_path(out, "--out").absolute()
    more = None if held_back is None else usable_path(held_back, "--held-back").absolute()
    for each in filter(None, (folder, more)):
        require_new(each)

    # Each whole folder or nothing.
    write_pictures(
        folder, [(f"{split}/{scene.part}/{number:03}.png", scene) for split, scene, number in list_pictures()]
    )
    if more is not None:
        write_pictures(more, [(f"{scene.part}/{number:03}.png", scene) for scene, number in list_held_back()])
    return {
        "folder": str(folder),
        "next": f"tailforge init {folder.name} --out start",
        "held_back": None if more is None else str(more),
        "classes": [
            {"name": part, **{split: count_pictures(split, part) for split in SEEDS}, "rare": part in TAIL_PARTS}
            for part in PARTS
        ],
    }


def write_pictures(folder: Path, planned: Sequence[tuple[str, Scene]]) -> None:
    """Render each scene into its file of a new folder."""
    with write_whole_folder(folder) as temporary:
        for done, (name, scene) in enumerate(planned):
            tell("picture", done, len(planned))
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(render(scene).image).save(place)


def count_pictures(split: str, part: str) -> int:
    """Return the number of pictures of a part in a split."""
    return TESTED.get(split, RARE if part in TAIL_PARTS else COMMON)


def list_pictures() -> Iterator[tuple[str, Scene, int]]:
    """Yield split, scene and number of every picture."""
    for split in SEEDS:
        for part in PARTS:
            for number in range(count_pictures(split, part)):
                yield split, draw_scene(split, part, number), number


def list_held_back() -> Iterator[tuple[Scene, int]]:
    """Yield scene and number of every picture that is held back: the training pictures after the kept ones."""
    for part in TAIL_PARTS:
        for number in range(RARE, RARE + HELD_BACK):
            yield draw_scene("train", part, number), number


def draw_scene(split: str, part: str, number: int) -> Scene:
    """Return the scene of a picture."""
    return sample_scene(PARTS.index(part) * 1000 + number, SEEDS[split], {part: 1.0})
