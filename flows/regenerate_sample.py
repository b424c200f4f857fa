"""Makes one published image again, alone, from what its version says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from catalog.recipe_files import RecipeFile, recipe_home
from catalog.registry import Dataset, load_dataset, version_folder
from catalog.store import Store
from flows.build_dataset import finished
from flows.chain import Drive, Step
from flows.prepare_build import resolve_build
from flows.stages import aim_all, expand_all, round_jobs
from flows.views import split_reference
from schemas.engines import SearchEngine
from schemas.errors import EngineError, ModelError, NotFoundError, UserError
from schemas.inversion import NaturalInversionEngine
from schemas.jobs import BuildContext, PartitionJob, Prompt
from schemas.recipe import parse_recipe
from tasks.annotate_masks import annotate_partition
from tasks.augment_samples import augment_partition
from tasks.invert_teacher import inversion_job
from tasks.methods.arrays import decode_array
from tasks.methods.encode_samples import encode_jpeg, mark_png
from tasks.synthesize import invert_again, regenerate, render_again


def regenerate_sample(
    sample_id: str, reference: str, uri: str, out: Path, folder: Path | None = None
) -> dict[str, Any]:
    """Make the image of `sample_id` again and write it to `out`. `reference`: dataset or dataset@version.

    `folder` is where the recipe's relative paths start from, by default see `recipe_home`.

    Returns {"file", "equal"}: `equal` tells whether its bytes are those that were published, which holds on the same
    class of machine with the same library versions. Errors: NotFoundError for an unknown sample; ModelError if the
    generator is not the one that the version was made with; EngineError if the sample fails now.
    """
    if not out.parent.is_dir():
        raise NotFoundError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    store = Store.open(uri)
    name, version = split_reference(reference)
    dataset, published = load_dataset(store, name, version), version_folder(store, name, version)
    row = find_row(store, published, sample_id, f"{name}@{dataset.version}")
    noise = read_noise(store, published, row)
    try:
        context = rebuild_context(dataset, uri, (folder or recipe_home(name)).resolve(), with_references=noise is None)
    except UserError as error:
        where = "" if folder else "; if the recipe is in another folder, name that by --folder"
        raise type(error)(f"{error}{where}") from error
    drive = Drive(Store.open(context.store), run_here)
    prompts = finished(expand_all(drive, context))
    job = find_job(context, dataset, row, prompts)
    if noise is not None:
        samples = render_again(job, original_id(row), noise)
    elif isinstance(context.recipe.engine, NaturalInversionEngine):
        run = inversion_job(context, prompts, job.attempt, job.source, job.part)
        samples = invert_again(job, original_id(row), run)
    else:
        engine = context.recipe.engine
        compares = isinstance(engine, SearchEngine) and engine.compares_concepts
        aimed = prompts if compares else {job.concept: prompts[job.concept]}
        samples = regenerate(job, original_id(row), finished(aim_all(drive, context, aimed))[job.concept])
    image = remake_image(job, row, samples)
    out.write_bytes(image)
    member = next(member for member in row["members"] if member["field"] in ("png", "jpg"))
    return {
        "file": str(out),
        "equal": image == store.read_range(f"{published}/shards/{row['shard']}", member["offset"], member["size"]),
    }


def find_row(store: Store, folder: str, sample_id: str, label: str) -> dict[str, Any]:
    """The sample's manifest row. Errors: NotFoundError."""
    with store.open_read(f"{folder}/manifest.parquet") as file:
        table = pq.ParquetFile(file).read(use_threads=False)
    rows = table.filter(pc.equal(table["sample_id"], sample_id)).to_pylist()
    if not rows:
        raise NotFoundError(f"{label} has no sample {sample_id!r}; its ids are in {folder}/manifest.parquet")
    return rows[0]  # type: ignore[no-any-return]


def rebuild_context(dataset: Dataset, uri: str, folder: Path, *, with_references: bool) -> BuildContext:
    """The build's context from the recipe in dataset.json, with what makes images alone: nothing is judged again.

    `with_references`: where the engine searches. Errors: ModelError if a model's bytes are others now.
    """
    origin = f"{dataset.name}@{dataset.version}"
    file = RecipeFile(parse_recipe(dict(dataset.recipe), origin), folder)
    searches = with_references and isinstance(file.recipe.engine, SearchEngine)
    context = resolve_build(file, uri, with_references=searches, with_judges=False)
    for role, model in (("generator", context.generator), ("guide", context.guide), ("encoder", context.encoder)):
        made_with = dataset.lineage["models"].get(role, {}).get("digest")
        if model is not None and model.digest != made_with:
            raise ModelError(
                f"{origin} was made with {role} {str(made_with)[:16]}, but {model.path} is now {model.digest[:16]}; "
                "put the old model back to make its images again"
            )
    return context


def original_id(row: dict[str, Any]) -> str:
    """The sample itself, or what it is an augmented copy of."""
    return str(row["parent_id"] or row["sample_id"])


def find_job(
    context: BuildContext, dataset: Dataset, row: dict[str, Any], prompts: dict[str, list[Prompt]]
) -> PartitionJob:
    """The partition that the sample was made in, planned again: its batch-mates decide its last bits."""
    concept, attempt = row["concept"], row["attempt"]
    sizes = {concept: dataset.lineage["rounds"][attempt][concept]}
    parent = original_id(row)
    for job in round_jobs(context, prompts, attempt, sizes):
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


def read_noise(store: Store, folder: str, row: dict[str, Any]) -> NDArray[np.float16] | None:
    """The noise that was published with the sample, if any."""
    for member in row["members"]:
        if member["field"] == "noise.npy":
            data = store.read_range(f"{folder}/shards/{row['shard']}", member["offset"], member["size"])
            return decode_array(data)
    return None


def remake_image(job: PartitionJob, row: dict[str, Any], samples: pa.Table) -> bytes:
    """Bytes of the sample's image member, augmented where it was. Errors: EngineError."""
    sample_id, sharding = row["sample_id"], job.build.recipe.sharding
    made = samples.to_pylist()[0]
    if made["error"]:
        raise EngineError(f"sample {sample_id} fails now: {made['error']}; compare library versions with its version's")
    image = made["image"]
    if row["augmentation"] is not None:
        augmented = augment_partition(job, samples, annotate_partition(job, samples)).to_pylist()
        image = next(copy["image"] for copy in augmented if copy["sample_id"] == sample_id)
    return mark_png(image) if sharding.image_format == "png" else encode_jpeg(image, sharding.jpeg_quality)
