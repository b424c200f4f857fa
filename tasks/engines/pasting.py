"""Define the engines that draw into photographs without a generator: "copy_paste", "cut_paste" and "noise_texture".

tasks/methods/defects holds the methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from scipy import ndimage

from tailforge.schemas.errors import ImagesError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, LocatedImages
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.pasting import CopyPasteEngine, PastingEngine
from tailforge.tasks.engines.drawing import Drawing, list_splits
from tailforge.tasks.images.sources import SourceImage, list_regions, locate_images, open_located, read_source
from tailforge.tasks.methods.defects.moves import Reference
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.masks.components import split_components
from tailforge.tasks.models.text_readers import TextReader

MARGIN = 8  # pixels around a copied defect; its blending reads 3 around it, 6 at half of the size
P = TypeVar("P", bound=PastingEngine)


class Pasting(Drawing[P]):
    """Drawing without a generator. A sample's seed decides what is drawn."""

    libraries: ClassVar[Sequence[str]] = ("numpy", "scipy", "pillow")

    render = when_called("tasks.engines.work.pasting", "render")

    def load_readers(self, build: BuildContext) -> tuple[TextReader, ...]:
        """Return no text encoder, because nothing reads the prompts."""
        return ()


class CopyPaste(Pasting[CopyPasteEngine]):
    """Copies of real defects."""

    def find_images(self, recipe: Recipe, folder: Path) -> dict[str, LocatedImages]:
        """Find and check the photographs, also those of defects, of which every split needs one.

        Errors: NotFoundError, ImagesError.
        """
        found = super().find_images(recipe, folder)
        for concept in recipe.concepts:
            images, place = self.settings.find_defects(concept.name)
            found[place] = locate_images(images.folder, images.root, folder, place)
            for split in list_splits(recipe):
                list_defects(found[place], split, recipe)
        return found


@dataclass(frozen=True)
class Defect(SourceImage):
    """One component of a photograph's mask with the pixels around it. `pixels` and `part` are cut out.

    `corner`: row and column of the cutting in the photograph. `size`: the photograph's height and width.
    """

    corner: tuple[int, int]
    size: tuple[int, int]

    @property
    def reference(self) -> Reference:
        """Return what the methods copy from."""
        return Reference(self.pixels, self.part, self.corner, self.size)


def list_defects(located: LocatedImages, split: str, recipe: Recipe) -> list[Defect]:
    """Return the defects of a split. Those of images without splits are shared out as photographs are.

    Errors: ImagesError without a defect in the split.
    """
    defects = read_defects(located)
    found = [each for each in defects if each.find_split(recipe) == split]
    if not found:
        raise ImagesError(
            f"{located.path} has no defect of split {split}, and a defect is copied into images of its own split "
            "alone; name more images, give each its split, or leave one split in the recipe"
        )
    return found


@lru_cache(maxsize=16)
def read_defects(located: LocatedImages) -> tuple[Defect, ...]:
    """Return every component of every mask with the pixels around it, read once per process. Errors: ImagesError."""
    images = open_located(located)
    masked = ((read_source(images, place, with_part=False), mask) for place, mask in list_regions(images))
    return tuple(_cut_out(image, component) for image, mask in masked for component in split_components(mask))


def _cut_out(image: SourceImage, component: Region) -> Defect:
    """Return the part of a photograph around one component [H, W] of its mask."""
    (box,) = ndimage.find_objects(component.astype(np.uint8))
    rows, columns = (slice(max(side.start - MARGIN, 0), side.stop + MARGIN) for side in box)
    return Defect(
        image.id, image.sha256, image.split, image.group, image.pixels[rows, columns].copy(),
        component[rows, columns].copy(), (rows.start, columns.start), (component.shape[0], component.shape[1]),
    )  # fmt: skip
