"""Draw samples into photographs without a generator."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from tailforge.schemas.jobs import PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.settings.pasting import PastingEngine
from tailforge.schemas.under_way import tell
from tailforge.tasks.engines.contract import Engine
from tailforge.tasks.engines.drawing import drawing_engine
from tailforge.tasks.engines.work.copies import copying_engine, list_sample_defects, place_sample_defects
from tailforge.tasks.engines.work.drawing import Chosen, choose_for_sample
from tailforge.tasks.images.sources import SourceImage
from tailforge.tasks.methods.defects import Drawn, copy_paste, cut_paste, noise_texture, paste
from tailforge.tasks.methods.inpainting.regions import NO_REGION
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered

Sourced = tuple[Drawn, SourceImage | None]  # what is drawn, and the defect that it copies, if any


def render(
    engine: Engine[PastingEngine], job: PartitionJob, samples: Sequence[SampleSpec], inputs: EngineInputs, clock: Clock
) -> Iterator[Rendered]:
    """Draw samples in order, each alone. Errors: ImagesError."""
    for number, sample in enumerate(samples):
        tell("image", number, len(samples))
        with clock.phase("read"):
            chosen = choose_for_sample(job.build, job.concept, sample.sample_id)
        with clock.phase("draw"):
            made = _draw_all(job, sample, chosen)
        yield made


def _draw_all(job: PartitionJob, sample: SampleSpec, chosen: Chosen) -> Rendered:
    """Return a sample with something drawn into each of its regions, which have no pixel in common."""
    if not chosen.regions:
        return Rendered(sample.sample_id, NO_REGION, None, None, {})

    image, copied = chosen.source.pixels.copy(), []
    for region, (drawn, defect) in zip(chosen.regions, _draw_regions(job, sample, chosen), strict=True):
        image[region] = drawn.image[region]
        copied += [] if defect is None else [defect.describe()]
    facts = chosen.describe() | ({"defects": copied} if copied else {})
    return Rendered(sample.sample_id, None, image, None, facts)


def _draw_regions(job: PartitionJob, sample: SampleSpec, chosen: Chosen) -> Iterator[Sourced]:
    """Yield what is drawn into each region."""
    build, source = job.build, chosen.source
    if drawing_engine(build).find_regions(job.concept)[0].copies_defects:
        defects = list_sample_defects(build, job.concept, source)
        for placed in place_sample_defects(build, job.concept, sample.sample_id, source):
            yield paste(source.pixels, placed, copying_engine(build).blend), defects[placed.number]
        return
    draw = DRAW[build.recipe.engine.kind]
    for number, region in enumerate(chosen.regions):
        yield draw(job, source, region, derive_seed(str(sample.seed), f"draw:{number}"))


def _copy_defect(job: PartitionJob, source: SourceImage, region: Region, seed: int) -> Sourced:
    """Return a copy of one of the concept's defects of the photograph's split in a region [H, W], by a seed."""
    defects = list_sample_defects(job.build, job.concept, source)
    references = [each.reference for each in defects]
    drawn = copy_paste(source.pixels, region, references, seed, copying_engine(job.build).blend)
    return drawn, None if drawn.copied is None else defects[drawn.copied]


# By kind of engine; the function draws into one region [H, W] of a photograph.
DRAW: Mapping[str, Callable[[PartitionJob, SourceImage, Region, int], Sourced]] = {
    "copy_paste": _copy_defect,
    "cut_paste": lambda job, source, region, seed: (cut_paste(source.pixels, region, seed), None),
    "noise_texture": lambda job, source, region, seed: (noise_texture(source.pixels, region, seed), None),
}
