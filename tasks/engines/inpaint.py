"""Define the engine "inpaint": concepts drawn into regions of photographs.

tasks/methods/inpainting holds the method.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, LocatedImages, ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.search_models import check_scheduler, resolve_encoder
from tailforge.tasks.images.sources import (
    Region,
    list_places,
    list_regions,
    locate_images,
    open_located,
)

VERSION = "2"  # of the choice of photographs and regions, and of blending
SOURCES = "engine.sources"


class Inpainting(Engine[InpaintEngine]):
    """Drawing into photographs. A sample's id decides its photograph and its regions, and its seed the noise."""

    render = when_called("tasks.engines.work.inpaint", "render")

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
