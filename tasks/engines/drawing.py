"""Share what all engines know that draw into regions of photographs: where photographs and regions come from."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, TypeVar

from tailforge.schemas.jobs import BuildContext, LocatedImages
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.drawing import DrawingEngine
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.images.sources import Region, list_places, list_regions, locate_images, open_located

SOURCES = "engine.sources"

D = TypeVar("D", bound=DrawingEngine)


class Drawing(Engine[D]):
    """Drawing into photographs. A sample's id decides its photograph and its regions."""

    version: ClassVar[str] = "1"  # of the choice of photographs and regions, and of drawing

    @property
    def method(self) -> Mapping[str, str]:
        """Return the version of the engine's choices."""
        return {"method": self.version}

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


def drawing_engine(build: BuildContext) -> DrawingEngine:
    """Return the settings of the recipe's engine, which draws into photographs."""
    engine = build.recipe.engine
    assert isinstance(engine, DrawingEngine)
    return engine


@lru_cache(maxsize=16)
def read_masks(located: LocatedImages) -> tuple[Region, ...]:
    """Return the region [h, w] of every mask, read once per process. Errors: ImagesError."""
    return tuple(region for _, region in list_regions(open_located(located)))


def list_splits(recipe: Recipe) -> tuple[str, ...]:
    """Return the splits of a recipe that get samples."""
    return tuple(split for split, share in recipe.splits.items() if share > 0)
