"""Choose the photograph and the regions of a sample, for all engines that draw into photographs.

tasks/methods/inpainting holds the methods of regions and labels.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.jobs import BuildContext
from tailforge.tasks.engines.drawing import SOURCES, drawing_engine, list_splits, read_masks
from tailforge.tasks.engines.work.copies import place_sample_defects
from tailforge.tasks.images.sources import SourceImage, list_places, open_located, read_source
from tailforge.tasks.methods.inpainting.change import Change, measure_change
from tailforge.tasks.methods.inpainting.regions import choose_regions
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.methods.planning.samples import derive_seed


@dataclass(frozen=True)
class Chosen:
    """The photograph of a sample, and the regions [H, W] to draw into; none if no region is on the part."""

    source: SourceImage
    regions: list[Region]

    def measure(self, image: NDArray[np.uint8]) -> Change:
        """Return the visible change [H, W] of the photograph in a finished image [H, W, 3]."""
        return measure_change(self.source.pixels, image, self.regions)

    def describe(self) -> dict[str, Any]:
        """Return the photograph and the regions for the sample's provenance, by digests."""
        shapes = hashlib.sha256("\n".join(encode_rle(region) for region in self.regions).encode()).hexdigest()
        return {"source": self.source.describe(), "regions_sha256": shapes}


def choose_for_sample(build: BuildContext, concept: str, sample_id: str) -> Chosen:
    """Return the photograph and the regions of a sample, by its id. Errors: ImagesError."""
    source = choose_source(build, sample_id)
    return Chosen(source, choose_sample_regions(build, concept, sample_id, source))


def choose_source(build: BuildContext, sample_id: str) -> SourceImage:
    """Return the photograph of a sample: one of the recipe's splits, by the sample's id. Errors: ImagesError."""
    images = open_located(build.images[SOURCES])
    places = list_places(images, list_splits(build.recipe))
    place = places[derive_seed(sample_id, "source") % len(places)]
    return read_source(images, place, with_part=drawing_engine(build).sources.masks == "part")


def choose_sample_regions(build: BuildContext, concept: str, sample_id: str, source: SourceImage) -> list[Region]:
    """Return the regions of a sample in its photograph, [H, W] each, by the sample's id. Errors: ImagesError."""
    settings, place = drawing_engine(build).find_regions(concept)
    if settings.copies_defects:
        return [each.region for each in place_sample_defects(build, concept, sample_id, source)]
    masks = () if settings.images is None else read_masks(build.images[place])
    return choose_regions(settings, source.part, masks, derive_seed(sample_id, "region"))
