"""Lay out samples of engine "inpaint" in their photographs, and draw them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.resizing import place_inside, resize_image
from tailforge.schemas.jobs import BuildContext, PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.inpaint import SOURCES, inpaint_engine, list_splits, read_masks
from tailforge.tasks.engines.work.region_search import load_guide
from tailforge.tasks.images.sources import (
    SourceImage,
    list_places,
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
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.text_to_image import load_build_generator


def render(
    engine: Engine[InpaintEngine], job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
) -> Iterator[Rendered]:
    """Draw samples in order, in batches from the first sample on. Errors: ModelError, RecipeError, ImagesError."""
    with clock.phase("load"):
        model, guide = load_build_generator(job.build), _load_guide(engine.settings, job.build, job.concept)

    def lay_out(sample: SampleSpec, size: tuple[int, int]) -> Layout | None:
        """Return the layout of a sample for the generator's height and width."""
        return lay_out_sample(job.build, job.concept, sample.sample_id, size)

    recording = job.build.recipe.annotation.recorded
    return render_inpainted(model, samples, lay_out, engine.settings, recording, clock, guide)


def _load_guide(settings: InpaintEngine, build: BuildContext, concept: str) -> Guide | None:
    """Return the guide of a concept's search, or None without a search. Errors: ImagesError, ModelError."""
    if settings.search is None:
        return None
    assert build.encoder is not None
    return load_guide(build.images[settings.find_regions(concept)[1]], build.encoder, settings.search)


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
