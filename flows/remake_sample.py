"""Makes the drawing of one published or rejected sample again, from what its version says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.recipe_files import RecipeFile, recipe_home
from catalog.registry import load_dataset, version_folder
from catalog.store import Store
from flows.build_dataset import finished
from flows.chain import Drive, Step
from flows.choose_build import split_reference
from flows.heard_prompts import hear_prompts
from flows.prepare_build import resolve_build
from flows.published_recipe import parse_published
from flows.stages import aim_all, expand_all, plan_partitions
from schemas.dataset import Dataset
from schemas.engines import SearchEngine
from schemas.errors import ModelError, NotFoundError, UserError
from schemas.inversion import NaturalInversionEngine
from schemas.jobs import BuildContext, PartitionJob, Prompt
from tasks.invert_teacher import inversion_job
from tasks.methods.arrays import decode_array
from tasks.methods.plain_sampling import Rendered
from tasks.methods.provenance import read_origin
from tasks.publish_version import UNREAD
from tasks.synthesize import remake, remake_from_noise, remake_inverted


@dataclass(frozen=True)
class Published:
    """A row of a version's manifest or, with `reason`, of its rejects; `folder` is the version's, in the store."""

    store: Store
    dataset: Dataset
    folder: str
    row: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.dataset.name}@{self.dataset.version}"

    @property
    def repair(self) -> dict[str, Any] | None:
        """What the provenance says of a repair, if this is one."""
        found: dict[str, Any] | None = read_origin(self.row["provenance"]).get("repair")
        return found

    @property
    def original_id(self) -> str:
        """The sample that the generator drew: this one, or what it is an augmented or a repaired copy of."""
        repair = self.repair
        return str(repair["parent"] if repair else self.row["parent_id"] or self.row["sample_id"])

    def read_member(self, field: str) -> bytes | None:
        """Bytes of the sample's member, None where it has none. Errors: StoreError."""
        for member in self.row.get("members", ()):
            if member["field"] == field:
                path = f"{self.folder}/shards/{self.row['shard']}"
                return self.store.read_range(path, member["offset"], member["size"])
        return None


def find_published(sample_id: str, reference: str, uri: str, *, rejects: bool = False) -> Published:
    """A version's sample. `reference`: dataset or dataset@version. Errors: NotFoundError."""
    store = Store.open(uri)
    name, version = split_reference(reference)
    dataset, folder = load_dataset(store, name, version), version_folder(store, name, version)
    for table in ("manifest", "rejects") if rejects else ("manifest",):
        if rows := _read_rows(store, f"{folder}/{table}.parquet", sample_id):
            return Published(store, dataset, folder, rows[0])
    where = f"{folder}/manifest.parquet" + (" and rejects.parquet" if rejects else "")
    raise NotFoundError(f"{name}@{dataset.version} has no sample {sample_id!r}; its ids are in {where}")


def _read_rows(store: Store, path: str, sample_id: str) -> list[dict[str, Any]]:
    with store.open_read(path) as file:
        table = pq.ParquetFile(file).read(use_threads=False)
    return table.filter(pc.equal(table["sample_id"], sample_id)).to_pylist()  # type: ignore[no-any-return]


def remake_sample(
    found: Published, folder: Path | None, teacher_module: str | None = None
) -> tuple[PartitionJob, Rendered]:
    """The drawing of a sample (of its original, see `Published`) and the job that it belongs to.

    `folder` is where the recipe's relative paths start from, by default see `recipe_home`; `teacher_module` the import
    path of a teacher's code that the user named. Errors: ModelError if the generator is not the one that the version
    was made with, or is code that the user did not name; NotFoundError if the sample is no longer in its plan.
    """
    raw = found.read_member("noise.npy")
    noise: NDArray[np.float16] | None = None if raw is None else decode_array(raw)
    home = (folder or recipe_home(found.dataset.name)).resolve()
    recipe = parse_published(found.dataset, teacher_module)
    try:
        context = _rebuild_context(found, RecipeFile(recipe, home), with_references=noise is None)
    except UserError as error:
        where = "" if folder else "; if the recipe is in another folder, name that by --folder"
        raise type(error)(f"{error}{where}") from error
    drive = Drive(Store.open(context.store), run_here)
    expanded = finished(expand_all(drive, context))
    # An older version was drawn from all of its prompts, read or not.
    prompts = hear_prompts(context, expanded).prompts if UNREAD in found.dataset.lineage else expanded
    job, sample_id = _find_job(context, found, prompts), found.original_id
    if noise is not None:
        return job, remake_from_noise(job, sample_id, noise)
    engine = context.recipe.engine
    if isinstance(engine, NaturalInversionEngine):
        return job, remake_inverted(job, sample_id, inversion_job(context, prompts, job.attempt, job.source, job.part))
    compares = isinstance(engine, SearchEngine) and engine.compares_concepts
    aimed = prompts if compares else {job.concept: prompts[job.concept]}
    return job, remake(job, sample_id, finished(aim_all(drive, context, aimed))[job.concept])


def _rebuild_context(found: Published, file: RecipeFile, *, with_references: bool) -> BuildContext:
    """The build's context from the recipe of a version, with what makes images alone: nothing is judged again.

    `with_references`: where the engine searches. Errors: ModelError if a model's bytes are others now.
    """
    searches = with_references and isinstance(file.recipe.engine, SearchEngine)
    context = resolve_build(file, found.store.uri, with_references=searches, with_judges=False)
    for role, model in (("generator", context.generator), ("guide", context.guide), ("encoder", context.encoder)):
        made_with = found.dataset.lineage.get("models", {}).get(role, {}).get("digest")
        if model is not None and model.digest != made_with:
            raise ModelError(
                f"{found.label} was made with {role} {str(made_with)[:16]}, but {model.path} is now {model.digest[:16]}"
                "; put the old model back to make its images again"
            )
    return context


def _find_job(context: BuildContext, found: Published, prompts: dict[str, list[Prompt]]) -> PartitionJob:
    """The partition that the sample was made in, planned again: its batch-mates decide its last bits."""
    concept, attempt, parent = found.row["concept"], found.row["attempt"], found.original_id
    sizes = {concept: found.dataset.lineage["rounds"][attempt][concept]}
    for planned in plan_partitions(context, prompts, attempt, sizes):
        job = planned.job
        if any(sample.sample_id == parent for sample in job.samples):
            return job
    raise NotFoundError(f"sample {parent} is not in the plan of its version; the prompts of {concept!r} have changed")


def run_here(step: Step) -> "Done":
    """Do a step in this process, without Prefect."""
    return Done(step.task.fn(*step.arguments))


@dataclass(frozen=True)
class Done:
    """The outcome of a step that is over, as a future."""

    value: Any

    def result(self) -> Any:
        return self.value

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)
