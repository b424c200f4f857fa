"""Draw reference photographs as small pictures, numbered as in the images' provenance."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from tailforge.schemas.recipe import Recipe
from tailforge.tasks.report.provenance import read_origin

SHOWN_PX = 160


@dataclass(frozen=True)
class Reference:
    """A photograph: its file name (None if it could not be read again) and its small picture if shown."""

    file: str | None
    picture: bytes | None = None


@dataclass(frozen=True)
class ReferenceRow:
    """A concept's photographs. `shown`: (number from 1, file name, path below the report's folder)."""

    concept: str
    count: int
    lost: int
    shown: tuple[tuple[int, str, str], ...]


def shrink_photograph(image: Image.Image, side: int = SHOWN_PX) -> bytes:
    """Return a WebP of at most `side` pixels of an upright RGB image, without metadata."""
    small = Image.frombytes("RGB", image.size, image.tobytes())
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=82, method=4)
    return out.getvalue()


def draw_references(
    recipe: Recipe, references: Mapping[str, Sequence[Reference]], files: dict[str, bytes]
) -> list[ReferenceRow]:
    """Return one row per concept with photographs, in the recipe's order, and put the pictures into `files`."""
    rows = []
    for name in (concept.name for concept in recipe.concepts if references.get(concept.name)):
        own, shown = references[name], []
        for number, each in enumerate(own, 1):
            if each.file is not None and each.picture is not None:
                place = f"references/{recipe.class_id(name)}-{number}.webp"
                files[place] = each.picture
                shown.append((number, each.file, place))
        rows.append(ReferenceRow(name, len(own), sum(each.file is None for each in own), tuple(shown)))
    return rows


def name_nearest(provenance: str | None, references: Sequence[Reference]) -> str | None:
    """Return the photograph most similar to an image, by file if known; None without a search."""
    origin = read_origin(provenance)
    if "nearest_reference" not in origin:
        return None
    place, cosine = origin["nearest_reference"], f"cosine {origin['reference_cosine']}"
    file = references[place].file if place < len(references) else None
    return f"#{place + 1}, {cosine}" if file is None else f"#{place + 1} {file}, {cosine}"
