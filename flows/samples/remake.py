"""Draw one published or rejected sample again from the records of its version."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tailforge.catalog.reading.arrays import read_array
from tailforge.catalog.reading.tables import LOOK
from tailforge.catalog.reading.version import SAMPLE_ID, Version, open_version
from tailforge.catalog.sources.recipes import RecipeFile, recipe_home
from tailforge.catalog.store import Store
from tailforge.flows.build.choose import split_reference
from tailforge.flows.build.drive import Drive, Step
from tailforge.flows.build.order import expand_all, prepare_all
from tailforge.flows.build.plan_partitions import plan_partitions
from tailforge.flows.build.prepare import resolve_build
from tailforge.flows.build.read_prompts import filter_readable
from tailforge.flows.build_dataset import require_finished
from tailforge.flows.samples.published_recipe import parse_published
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import ImagesError, ModelError, NotFoundError, UserError, VerificationError
from tailforge.schemas.explanation import ExplainSettings, Region
from tailforge.schemas.jobs import BuildContext, PartitionJob, Prompt, ResolvedModel
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.engines.registry import engine_of
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.publish.publish import UNREAD
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tailforge.tasks.stages.adaptations import open_adapted
from tailforge.tasks.stages.work.samples import remake, remake_from_noise, remake_inverted


class RepairOrigin(BaseModel):
    """The origin of a repair, from its provenance."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    parent: str = Field(pattern=SAMPLE_ID)
    version: str
    settings: ExplainSettings
    region: Region


@dataclass(frozen=True)
class Published:
    """A row of a version's manifest or, with `reason`, of its rejects."""

    version: Version
    row: dict[str, Any]

    @property
    def store(self) -> Store:
        """Return the store of the version."""
        return self.version.store

    @property
    def dataset(self) -> Dataset:
        """Return the dataset of the version."""
        return self.version.dataset

    @property
    def label(self) -> str:
        """Return the version's name for errors."""
        return self.version.label

    @cached_property
    def repair(self) -> RepairOrigin | None:
        """Return the origin of a repair; None if the sample is none. Errors: VerificationError."""
        try:
            found = parse_object(self.row["provenance"] or "{}").get("repair")
            return None if found is None else RepairOrigin.model_validate(found)
        except ValueError as error:
            raise VerificationError(
                f"{self.label}: the provenance of sample {self.row['sample_id']} cannot be used: "
                f"{describe_damage(error)}; {LOOK}"
            ) from error

    @property
    def original_id(self) -> str:
        """Return the sample that the generator drew: this one, or the original of an augmented or repaired copy."""
        repair = self.repair
        return str(repair.parent if repair else self.row["parent_id"] or self.row["sample_id"])

    def read_member(self, field: str) -> bytes | None:
        """Return the bytes of the sample's member; None without one. Errors: VerificationError, StoreError."""
        return self.version.read_member(self.row, field)

    def is_published(self, field: str, data: bytes) -> bool:
        """Return whether these bytes have the digest that the manifest lists for the sample's member."""
        digests = [member["sha256"] for member in self.row.get("members") or () if member["field"] == field]
        return digests == [hashlib.sha256(data).digest()]


def find_published(sample_id: str, reference: str, uri: str, *, rejects: bool = False) -> Published:
    """Return a sample of a version. `reference`: dataset or dataset@version. Errors: NotFoundError."""
    store = Store.open(uri)
    name, version = split_reference(reference)
    tables = ("manifest", "rejects") if rejects else ("manifest",)
    opened = open_version(store, name, version, tables)
    for table in tables:
        if row := opened.read_row(table, sample_id):
            return Published(opened, row)
    where = f"{opened.path('manifest')}" + (" and rejects.parquet" if rejects else "")
    raise NotFoundError(f"{opened.label} has no sample {sample_id!r}; its ids are in {where}")


def remake_sample(
    found: Published, folder: Path | None, teacher_module: str | None = None
) -> tuple[PartitionJob, Rendered]:
    """Return the job of a sample and its image, drawn again (of its original, see `Published`).

    `folder`: start of the recipe's relative paths, by default `recipe_home`; `teacher_module`: import path of a
    teacher's
    code that the user named. Errors: ModelError for another generator than the version's or for code that the user
    did not
    name; NotFoundError if the sample is no longer in the plan.
    """
    raw = found.read_member("noise.npy")
    noise: NDArray[np.float16] | None = None if raw is None else _read_noise(found, raw)
    home = recipe_home(found.dataset.name, folder).resolve()
    recipe = parse_published(found.dataset, teacher_module)
    try:
        context = _rebuild_context(found, RecipeFile(recipe, home), with_references=noise is None)
    except UserError as error:
        where = "" if folder else "; if the recipe is in another folder, name that by --folder"
        raise type(error)(f"{error}{where}") from error

    drive = open_local(Store.open(context.store))
    expanded = require_finished(expand_all(drive, context))
    # Older versions were drawn from all prompts, also from those that the generator reads only in part.
    prompts = filter_readable(context, expanded).prompts if UNREAD in found.dataset.lineage else expanded

    job, sample_id = _find_job(context, found, prompts), found.original_id
    if noise is not None:
        return job, remake_from_noise(job, sample_id, noise)
    engine = engine_of(context.recipe)
    if engine.round is not None:
        run = engine.round.make_job(context, prompts, job.attempt, job.source, job.part)
        return job, remake_inverted(job, sample_id, run)
    needed = {name: list(own) for name, own in engine.prompts_for(job.concept, prompts).items()}
    return job, remake(job, sample_id, require_finished(prepare_all(drive, context, needed))[job.concept])


def _rebuild_context(found: Published, file: RecipeFile, *, with_references: bool) -> BuildContext:
    """Return the build's context from the recipe of a version, with only the models that make images.

    `with_references`: whether a search needs its references. Errors: ModelError if the bytes of a model changed.
    """
    searches = with_references and file.recipe.encoder is not None
    adapted = _find_adapted(found, file.recipe)
    context = resolve_build(file, found.store.uri, with_references=searches, with_judges=False, adapted=adapted)
    for role, model in (("generator", context.generator), ("guide", context.guide), ("encoder", context.encoder)):
        made_with = found.dataset.lineage.get("models", {}).get(role, {}).get("digest")
        if model is not None and model.digest != made_with:
            raise ModelError(
                f"{found.label} was made with {role} {str(made_with)[:16]}, but {model.path} is now {model.digest[:16]}"
                "; put the old model back to make its images again"
            )
    for place, images in context.images.items():
        made_with = found.dataset.lineage.get("images", {}).get(place)
        if images.digest != made_with:
            raise ImagesError(
                f"{found.label} was made with other images of {place} ({str(made_with)[:16]}) than {images.path} holds "
                f"now ({images.digest[:16]}); put the old ones back to make its images again"
            )
    return context


def _find_adapted(found: Published, recipe: Recipe) -> ResolvedModel | None:
    """Return the generator that the version's build adapted, from the store; None if it adapted none.

    Errors: NotFoundError, DamagedArtifactError, VerificationError.
    """
    if recipe.adaptation is None:
        return None
    listed = found.dataset.lineage["fingerprints"].get(ADAPTATIONS.name, ())
    return open_adapted(found.store, str(listed[0]) if len(listed) == 1 else "")


def _find_job(context: BuildContext, found: Published, prompts: dict[str, list[Prompt]]) -> PartitionJob:
    """Return the planned partition of the sample. Its batch mates decide the last bits of the image.

    Errors: NotFoundError if no partition holds the sample.
    """
    concept, attempt, parent = found.row["concept"], found.row["attempt"], found.original_id
    sizes = {concept: _planned(found, attempt, concept)}
    for planned in plan_partitions(context, prompts, attempt, sizes):
        job = planned.job
        if any(sample.sample_id == parent for sample in job.samples):
            return job
    raise NotFoundError(f"sample {parent} is not in the plan of its version; the prompts of {concept!r} have changed")


def _planned(found: Published, attempt: int, concept: str) -> int:
    """Return the number of samples of a concept in a round of the version's build. Errors: VerificationError."""
    rounds, counts = found.dataset.lineage.get("rounds", ()), found.dataset.counts
    planned: int = rounds[attempt].get(concept, 0) if attempt < len(rounds) else 0
    if not 0 < planned <= counts.samples + counts.rejected + counts.surplus:
        raise VerificationError(
            f"{found.label}: dataset.json says that round {attempt} made {count_of(planned, 'sample')} of "
            f"{concept!r}, which cannot be; {LOOK}"
        )
    return planned


def _read_noise(found: Published, raw: bytes) -> NDArray[np.float16]:
    """Return the noise of a member. Errors: VerificationError if it is no array."""
    try:
        return read_array(raw)
    except ValueError as error:
        raise VerificationError(
            f"{found.label}: the noise of sample {found.row['sample_id']} cannot be read: {describe_damage(error)}; "
            f"{LOOK}"
        ) from error


def open_local(store: Store) -> Drive:
    """Return a drive that runs steps in this process, without Prefect."""
    return Drive(store, lambda step: run_here(store, step))


def run_here(store: Store, step: Step) -> "Done":
    """Run a step in this process, without Prefect; return its finished future."""
    return Done(step.stage.make(store, *step.given))


@dataclass(frozen=True)
class Done:
    """The future of a finished step."""

    value: Any

    def result(self) -> Any:
        """Return the step's result."""
        return self.value

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call the callback at once."""
        fn(self)
