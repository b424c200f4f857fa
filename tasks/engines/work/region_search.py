"""Load the guide of a search in regions: known defects, cut from their images by their masks."""

from collections.abc import Iterator
from functools import lru_cache

from torch import Tensor

from tailforge.schemas.jobs import LocatedImages, ResolvedModel
from tailforge.schemas.settings.inpaint import RegionSearch
from tailforge.tasks.images.sources import list_regions, open_located, read_source
from tailforge.tasks.methods.inpainting.search import Guide, cut_crop, embed_each
from tailforge.tasks.methods.inpainting.windows import Pixels
from tailforge.tasks.methods.masks.components import split_components
from tailforge.tasks.models.clip import load_clip


def load_guide(located: LocatedImages, encoder: ResolvedModel, settings: RegionSearch) -> Guide:
    """Return the guide for the defects that the masks of some images mark. Errors: ImagesError, ModelError."""
    return Guide(load_clip(encoder), embed_defects(located, encoder), settings)


@lru_cache(maxsize=16)
def embed_defects(located: LocatedImages, encoder: ResolvedModel) -> Tensor:
    """Return the unit features [R, D] of all defects, once per process. Errors: ImagesError, ModelError."""
    return embed_each(load_clip(encoder), list(cut_defects(located)))


def cut_defects(located: LocatedImages) -> Iterator[Pixels]:
    """Yield the crop around each component of each mask, [h, w, 3]. Errors: ImagesError."""
    images = open_located(located)
    for place, region in list_regions(images):
        pixels = read_source(images, place, with_part=False).pixels
        for component in split_components(region):
            yield cut_crop(pixels, component)
