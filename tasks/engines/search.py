"""Define the engines that search for noise from which an image like a concept's references is made.

tasks/methods/seed_select holds the methods.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.extras import when_called
from tailforge.schemas.jobs import BuildContext, PartitionJob, Prompt, ResolvedModel
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.engines import SearchEngine, SeedSelectEngine
from tailforge.tasks.engines.contract import Engine, Preparation, Prompts
from tailforge.tasks.engines.search_models import check_scheduler, resolve_encoder
from tailforge.tasks.methods.planning.samples import plan_side_samples
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.methods.seed_select import VERSION


class Search(Engine[SearchEngine]):
    """The engines seed_select, best_of_n and zero_order. The settings decide the method."""

    render = when_called("tasks.engines.work.search", "render")
    render_noise = when_called("tasks.engines.work.search", "render_noise")

    @property
    def method(self) -> Mapping[str, str]:
        """Return the version of the search."""
        return {"method": VERSION}

    @property
    def preparations(self) -> Sequence[Preparation]:
        """Return the aims and, if images start from found noise, the seeds."""
        aims = Aims(compares_concepts=self.settings.compares_concepts)
        return (aims, FoundSeeds()) if self.settings.seeks_seeds else (aims,)

    def prompts_for(self, concept: str, prompts: Prompts) -> Prompts:
        """Return the prompts of all concepts if the search compares concepts, otherwise the concept's own."""
        return prompts if self.settings.compares_concepts else super().prompts_for(concept, prompts)

    def find_encoder(self, recipe: Recipe, generator: ResolvedModel, folder: Path) -> ResolvedModel | None:
        """Find and check the CLIP model that compares images with references. Errors: ModelError, RecipeError."""
        found = resolve_encoder(recipe, folder, "engine.encoder")
        check_scheduler(recipe, generator)
        return found

    def check_references(self, references: Mapping[str, Sequence[str]]) -> None:
        """Check that every concept has enough references for an image. Errors: RecipeError."""
        wanted = self.settings.references_per_image
        for concept, found in references.items():
            if wanted is not None and wanted > len(found):
                raise RecipeError(
                    f"engine.references_per_image {wanted}: concept {concept!r} has "
                    f"{count_of(len(found), 'reference')}; give {len(found)} at most, or leave it out to compare "
                    "every image with all references"
                )


class Aims(Preparation):
    """The aim of each concept, from references and plain samples.

    `compares_concepts`: the search also reads the aims of the other concepts.
    """

    stage: ClassVar[str] = "aims"

    def __init__(self, *, compares_concepts: bool) -> None:
        self.compares_concepts = compares_concepts

    def list_jobs(self, build: BuildContext, prompts: Prompts) -> list[PartitionJob]:
        """Return one job per concept."""
        return [aim_job(build, concept, own) for concept, own in prompts.items()]

    def count_rows(self, job: PartitionJob) -> int:
        """Return the number of references and plain samples."""
        return len(job.build.references[job.concept]) + len(job.samples)

    def read(self, inputs: EngineInputs) -> tuple[EngineInputs, ...]:
        """Return no inputs: aims are the first preparation."""
        return ()

    def hand_on(self, inputs: Mapping[str, EngineInputs], made: Mapping[str, list[Receipt]]) -> dict[str, EngineInputs]:
        """Return the aim of each concept and, if the search compares concepts, the aims of the others as rivals."""
        aims = {name: own[0] for name, own in made.items()}
        known = aims if self.compares_concepts else {}
        rivals = {name: tuple(known[other] for other in known if other != name) for name in aims}
        return {name: EngineInputs(aim=aim, rivals=rivals[name]) for name, aim in aims.items()}


class FoundSeeds(Preparation):
    """Noise of each concept from complete searches. Images start from a mix of their own noise and such a seed."""

    stage: ClassVar[str] = "seeds"

    def list_jobs(self, build: BuildContext, prompts: Prompts) -> list[PartitionJob]:
        """Return one job per concept and batch of searches."""
        return [job for concept, own in prompts.items() for job in seed_jobs(build, concept, own)]

    def count_rows(self, job: PartitionJob) -> int:
        """Return the number of searches."""
        return len(job.samples)

    def read(self, inputs: EngineInputs) -> tuple[EngineInputs, ...]:
        """Return the aims: every search reads them."""
        return (inputs,)

    def hand_on(self, inputs: Mapping[str, EngineInputs], made: Mapping[str, list[Receipt]]) -> dict[str, EngineInputs]:
        """Return the aim and the seeds of each concept."""
        # Only the gradient of a complete search uses rivals. A mix follows no gradient.
        return {name: EngineInputs(aim=inputs[name].aim, seeds=tuple(own)) for name, own in made.items()}


def aim_job(build: BuildContext, concept: str, prompts: Sequence[Prompt]) -> PartitionJob:
    """Return the job of a concept's aim, with the plain samples to compare the references with."""
    samples = plan_side_samples(build.recipe, concept, prompts, "plain", search_engine(build).plain_samples)
    return PartitionJob(build=build, concept=concept, attempt=0, source="aim", part=0, samples=samples)


def seed_jobs(build: BuildContext, concept: str, prompts: Sequence[Prompt]) -> Iterator[PartitionJob]:
    """Yield the searches of a concept, one batch per job."""
    engine = seed_engine(build)
    samples = plan_side_samples(build.recipe, concept, prompts, "seeds", engine.found_seeds or len(prompts))
    for part, batch in enumerate(cut_batches(samples, engine.batch_size)):
        yield PartitionJob(build=build, concept=concept, attempt=0, source="seeds", part=part, samples=tuple(batch))


def search_engine(build: BuildContext) -> SearchEngine:
    """Return the settings of the recipe's engine, a search."""
    engine = build.recipe.engine
    assert isinstance(engine, SearchEngine)
    return engine


def seed_engine(build: BuildContext) -> SeedSelectEngine:
    """Return the settings of the recipe's engine, a search that finds seeds."""
    engine = build.recipe.engine
    assert isinstance(engine, SeedSelectEngine)
    return engine
