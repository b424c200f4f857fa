"""Choose the defects that a sample copies, and their places in its photograph."""

from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.settings.pasting import CopyPasteEngine, DefectRegions
from tailforge.tasks.engines.pasting import Defect, list_defects
from tailforge.tasks.images.sources import SourceImage
from tailforge.tasks.methods.defects import Placed, place_defects
from tailforge.tasks.methods.planning.samples import derive_seed


def copying_engine(build: BuildContext) -> CopyPasteEngine:
    """Return the settings of the recipe's engine, which copies defects."""
    engine = build.recipe.engine
    assert isinstance(engine, CopyPasteEngine)
    return engine


def list_sample_defects(build: BuildContext, concept: str, source: SourceImage) -> list[Defect]:
    """Return the concept's defects of the photograph's split. Errors: ImagesError."""
    located = build.images[copying_engine(build).find_defects(concept)[1]]
    return list_defects(located, source.find_split(build.recipe), build.recipe)


def place_sample_defects(build: BuildContext, concept: str, sample_id: str, source: SourceImage) -> list[Placed]:
    """Return the defects of a sample with regions in their shape, by the sample's id. Errors: ImagesError."""
    settings, _ = copying_engine(build).find_regions(concept)
    assert isinstance(settings, DefectRegions)
    references = [each.reference for each in list_sample_defects(build, concept, source)]
    return place_defects(settings, source.part, references, derive_seed(sample_id, "region"))
