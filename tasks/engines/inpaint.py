"""Define the engine "inpaint": concepts drawn into regions of photographs.

tasks/methods/inpainting holds the method.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.resizing import place_inside, resize_image
from tailforge.schemas.jobs import BuildContext, LocatedImages, PartitionJob, ResolvedModel, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.region_search import load_guide
from tailforge.tasks.engines.search_inputs import check_scheduler, resolve_encoder
from tailforge.tasks.images.sources import (
    SourceImage,
    list_places,
    list_regions,
    locate_images,
    open_located,
    read_source,
)
from tailforge.tasks.methods.inpainting.change import Change, agree_with, measure_change, spread_attention
from tailforge.tasks.methods.inpainting.regions import choose_regions
from tailforge.tasks.methods.inpainting.render import Layout, render_inpainted
from tailforge.tasks.methods.inpainting.search import Guide
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.inpainting.windows import choose_window
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import Rendered
from tailforge.tasks.models.text_to_image import load_build_generator

VERSION = "1"  # of the choice of photographs and regions, and of blending
SOURCES = "engine.sources"


class Inpainting(Engine[InpaintEngine]):
    """Drawing into photographs. A sample's id decides its photograph and its regions, and its seed the noise."""

    def render(
        self, job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
    ) -> Iterator[Rendered]:
        """Draw samples in order, in batches from the first sample on. Errors: ModelError, RecipeError, ImagesError."""
        with clock.phase("load"):
            model, guide = load_build_generator(job.build), self._load_guide(job.build, job.concept)

        def lay_out(sample: SampleSpec, size: tuple[int, int]) -> Layout | None:
            """Return the layout of a sample for the generator's height and width."""
            return lay_out_sample(job.build, job.concept, sample.sample_id, size)

        recording = job.build.recipe.annotation.recorded
        return render_inpainted(model, samples, lay_out, self.settings, recording, clock, guide)

    def _load_guide(self, build: BuildContext, concept: str) -> Guide | None:
        """Return the guide of a concept's search, or None without a search. Errors: ImagesError, ModelError."""
        if self.settings.search is None:
            return None
        assert build.encoder is not None
        return load_guide(build.images[self.settings.find_regions(concept)[1]], build.encoder, self.settings.search)

    def find_encoder(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
        """Find and check the CLIP model of the search; None without a search. Errors: ModelError, RecipeError."""
        if self.settings.search is None:
            return None
        check_scheduler(recipe, generator)
        return resolve_encoder(recipe, folder, "engine.search.encoder")

    @property
    def method(self) -> Mapping[str, str]:
        """Return the version of the engine's choices."""
        return {"method": VERSION}

    def find_images(self, recipe: Recipe, folder: Path) -> dict[str, LocatedImages]:
        """Find and check the photographs, and images whose masks give regions. Errors: NotFoundError, ImagesError."""
        sources = self.settings.sources
        found = {SOURCES: locate_images(sources.folder, sources.root, folder, SOURCES)}
        list_places(open_located(found[SOURCES]), list_splits(recipe))
        for place, regions in self.settings.list_regions():
            if regions.images is not None:
                found[place] = locate_images(*regions.images, folder, place)
                read_masks(found[place])
        return found


def inpaint_engine(build: BuildContext) -> InpaintEngine:
    """Return the settings of the recipe's engine, which draws into photographs."""
    engine = build.recipe.engine
    assert isinstance(engine, InpaintEngine)
    return engine


@lru_cache(maxsize=16)
def read_masks(located: LocatedImages) -> tuple[Region, ...]:
    """Return the region [h, w] of every mask, read once per process. Errors: ImagesError."""
    return tuple(list_regions(open_located(located)))


def list_splits(recipe: Recipe) -> tuple[str, ...]:
    """Return the splits of a recipe that get samples."""
    return tuple(split for split, share in recipe.splits.items() if share > 0)


def choose_source(build: BuildContext, sample_id: str) -> SourceImage:
    """Return the photograph of a sample: one of the recipe's splits, by the sample's id. Errors: ImagesError."""
    images = open_located(build.images[SOURCES])
    places = list_places(images, list_splits(build.recipe))
    place = places[derive_seed(sample_id, "source") % len(places)]
    return read_source(images, place, with_part=inpaint_engine(build).sources.masks == "part")


def lay_out_sample(build: BuildContext, concept: str, sample_id: str, size: tuple[int, int]) -> Layout | None:
    """Return the photograph, regions and window of a sample; `size`: h and w of the generator.

    None if no region of the chosen mask is on the part. Errors: ImagesError.
    """
    source = choose_source(build, sample_id)
    regions = choose_sample_regions(build, concept, sample_id, source)
    if not regions:
        return None

    # The window, brought to the generator's size: scaled to fit in, with black around.
    window = choose_window(regions, size)
    seen = Image.fromarray(source.pixels[window.inside])
    frame = np.asarray(resize_image(seen, size, "pad"), np.uint8)
    place = place_inside((window.height, window.width), size)
    facts = describe_layout(source, regions) | {"window": list(astuple(window)), "frame": list(size)}
    return Layout(source.pixels, regions, window, frame, place, facts)


def choose_sample_regions(build: BuildContext, concept: str, sample_id: str, source: SourceImage) -> list[Region]:
    """Return the regions of a sample in its photograph, [H, W] each, by the sample's id. Errors: ImagesError."""
    settings, place = inpaint_engine(build).find_regions(concept)
    masks = () if settings.images is None else read_masks(build.images[place])
    return choose_regions(settings, source.part, masks, derive_seed(sample_id, "region"))


@dataclass(frozen=True)
class Drawing:
    """A finished sample beside its photograph: regions [H, W] each, visible change [H, W], window, generator's size."""

    regions: list[Region]
    change: Change
    layout: Layout

    def agree(self, attention: NDArray[np.float16], slots: Sequence[Mapping[str, Any]], mask: Region) -> float | None:
        """Return how well the attention [slot, h, w] to the concept agrees with a mask [H, W]; None without a map."""
        row = next((row for row, slot in enumerate(slots) if slot["name"] == "concept"), None)
        if row is None:
            return None
        window, frame = self.layout.window, self.layout.frame
        soft = spread_attention(attention[row].astype(np.float32), self.layout.place, frame.shape[:2], window)
        return agree_with(soft, mask[window.inside])


def open_drawing(
    build: BuildContext, concept: str, sample_id: str, image: NDArray[np.uint8], size: Sequence[int]
) -> Drawing:
    """Return the drawing of a sample, from its finished image [H, W, 3] and the generator's h and w.

    Errors: ImagesError.
    """
    layout = lay_out_sample(build, concept, sample_id, (size[0], size[1]))
    assert layout is not None
    return Drawing(layout.regions, measure_change(layout.photograph, image, layout.regions), layout)


def describe_layout(source: SourceImage, regions: Sequence[Region]) -> dict[str, Any]:
    """Return the photograph and the regions of a sample for its provenance, by digests."""
    shapes = hashlib.sha256("\n".join(encode_rle(region) for region in regions).encode()).hexdigest()
    return {
        "source": {"id": source.id, "sha256": source.sha256, "split": source.split, "group": source.group},
        "regions_sha256": shapes,
    }
