"""Try the recipes of the catalog: whether their models load and fit here, and how fast they draw."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tailforge.catalog.sources.recipes import recipe_names
from tailforge.flows.build.plan_partitions import plan_partitions
from tailforge.flows.build.prepare import prepare_build
from tailforge.flows.build.rounds import first_sizes
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import TailforgeError
from tailforge.schemas.jobs import BuildContext, PartitionJob, SampleSpec
from tailforge.schemas.receipts import EngineInputs
from tailforge.tasks.artifacts.memory import read_device
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.planning.expand_prompts import expand_prompts
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.models.generator_files import (
    INDEX,
    WEIGHTS,
    absent_parts,
    check_class,
    read_json,
    weight_files,
)


@dataclass(frozen=True)
class Tried:
    """A recipe on this machine. `weights`: bytes of its models' files; `memory`: bytes that are free for them.

    `seconds`: per image, None if it was not measured; `note`: why, or what is wrong with a recipe that does not `fit`.
    """

    recipe: str
    fits: bool
    weights: int
    memory: int
    seconds: float | None
    note: str


def try_recipes(seconds: float) -> Iterator[Tried]:
    """Yield each recipe of the catalog. Recipes whose engine draws at once share `seconds` of drawing.

    The models load before, in time of their own.
    """
    names = recipe_names()
    with TemporaryDirectory(prefix="tailforge-") as store:
        found = {name: _prepare(name, store) for name in names}
        drawn = [name for name, each in found.items() if isinstance(each, BuildContext) and _draws(each)]
        for name, each in found.items():
            if isinstance(each, str):
                yield Tried(name, False, 0, 0, None, each)
            else:
                yield _try(each, name, seconds / len(drawn) if name in drawn else 0.0)


def _prepare(name: str, store: str) -> BuildContext | str:
    """Return the context of a recipe, or why it cannot be built here."""
    try:
        return prepare_build(name, store)
    except TailforgeError as error:
        return str(error)


def _draws(build: BuildContext) -> bool:
    """Return whether an engine draws without preparations, so that its speed is seen at once."""
    return engine_of(build.recipe).draws_at_once and build.recipe.prompts.language_model is None


def _try(build: BuildContext, name: str, seconds: float) -> Tried:
    """Return what a recipe needs here, and its speed if it may draw for some `seconds`."""
    weights, memory = measure_weights(build), read_device().free
    if weights > memory:
        return Tried(name, False, weights, memory, None, "its models' weights are larger than the free memory")
    if not seconds:
        prepares = f"not measured: engine {build.recipe.engine.kind} prepares; see `tailforge plan`"
        return Tried(name, True, weights, memory, None, "" if _draws(build) else prepares)
    try:
        per_image, images = time_drawing(build, seconds)
    except TailforgeError as error:
        return Tried(name, False, weights, memory, None, str(error))
    return Tried(name, True, weights, memory, per_image, f"measured on {count_of(images, 'image')}")


def measure_weights(build: BuildContext) -> int:
    """Return the bytes of the weight files that a build loads; those of hub models are not counted."""
    folders = {Path(model.path) / (model.subfolder or "") for model in build.models.values()}
    return sum(file.stat().st_size for folder in folders for file in _list_weights(folder))


def _list_weights(folder: Path) -> list[Path]:
    """Return the weight files of a pipeline's parts, or those of another model."""
    if not (folder / INDEX).is_file():
        return sorted(folder.glob("*.safetensors"))
    index = read_json(folder / INDEX)
    parts = WEIGHTS[check_class(index.get("_class_name"), folder / INDEX)]
    there = [(part, stem) for part, stem in parts.items() if part not in absent_parts(index)]
    return [file for part, stem in there for file in weight_files(folder / part, stem)]


def time_drawing(build: BuildContext, seconds: float) -> tuple[float, int]:
    """Draw images of a recipe for about `seconds`; return the seconds per image and the number of images.

    One image comes first: it loads the models and says whether whole batches, as a build draws them, fit into the time.
    Without any it is the measurement itself. Errors: EngineError, ModelError.
    """
    engine, job = engine_of(build.recipe), _first_job(build)

    def draw(batch: Sequence[SampleSpec]) -> float:
        """Draw a batch and return its seconds, those of loading left out."""
        clock, started = Clock(), time.perf_counter()
        list(engine.render(job, batch, EngineInputs(), clock))
        return time.perf_counter() - started - clock.seconds.get("load", 0.0)

    first = draw(job.samples[:1])
    spent, images, left = 0.0, 0, seconds - first
    for batch in cut_batches(job.samples, build.recipe.engine.batch_size):
        expected = spent / images if images else first
        if spent + len(batch) * expected > left:
            break
        spent, images = spent + draw(batch), images + len(batch)
    return (spent / images, images) if images else (first, 1)


def _first_job(build: BuildContext) -> PartitionJob:
    """Return the first partition of a recipe, without prompts of a language model or WordNet."""
    concept = build.recipe.concepts[0]
    prompts = {concept.name: expand_prompts(build.recipe, concept)}
    sizes = {concept.name: first_sizes(build.recipe)[concept.name]}
    return next(iter(plan_partitions(build, prompts, 0, sizes))).job
