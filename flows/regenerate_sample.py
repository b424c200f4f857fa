"""Makes one published image again, alone, from what its version says of it."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.recipe_files import RECIPES, RecipeFile
from catalog.registry import Dataset, load_dataset, version_folder
from catalog.store import Store
from flows.prepare_build import resolve_build
from flows.stages import round_jobs
from flows.views import split_reference
from schemas.errors import EngineError, ModelError, NotFoundError
from schemas.jobs import BuildContext, PartitionJob
from schemas.receipts import Receipt
from schemas.recipe import parse_recipe
from tasks.annotate_masks import annotate_partition
from tasks.artifacts import read_table
from tasks.augment_samples import augment_partition
from tasks.expand_prompts import expand_prompts, read_prompts
from tasks.methods.encode_samples import encode_jpeg, mark_png
from tasks.synthesize import regenerate


def regenerate_sample(sample_id: str, reference: str, uri: str, out: Path, folder: Path = RECIPES) -> dict[str, Any]:
    """Make the image of `sample_id` again and write it to `out`. `reference`: dataset or dataset@version.

    `folder` is where the recipe's relative paths start from; a published version names no path of a machine.

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
    context = rebuild_context(dataset, uri, folder)
    job = find_job(context, dataset, row)
    image = remake_image(job, row)
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


def rebuild_context(dataset: Dataset, uri: str, folder: Path) -> BuildContext:
    """The build's context from the recipe in dataset.json. Errors: ModelError if a model's bytes are others now."""
    origin = f"{dataset.name}@{dataset.version}"
    context = resolve_build(RecipeFile(parse_recipe(dict(dataset.recipe), origin), folder), uri)
    made_with = dataset.lineage["models"]["generator"]["digest"]
    if context.generator.digest != made_with:
        raise ModelError(
            f"{origin} was made with generator {made_with[:16]}, but {context.generator.path} is now "
            f"{context.generator.digest[:16]}; put the old model back to make its images again"
        )
    return context


def find_job(context: BuildContext, dataset: Dataset, row: dict[str, Any]) -> PartitionJob:
    """The partition that the sample was made in, planned again: its batch-mates decide its last bits."""
    concept, attempt = row["concept"], row["attempt"]
    receipt = Receipt.model_validate(expand_prompts.fn(context.model_dump(mode="json"), concept))
    prompts = read_prompts(read_table(Store.open(context.store), receipt))
    sizes = {concept: dataset.lineage["rounds"][attempt][concept]}
    parent = row["parent_id"] or row["sample_id"]
    for job in round_jobs(context, {concept: prompts}, attempt, sizes):
        if any(sample.sample_id == parent for sample in job.samples):
            return job
    raise NotFoundError(f"sample {parent} is not in the plan of its version; the prompts of {concept!r} have changed")


def remake_image(job: PartitionJob, row: dict[str, Any]) -> bytes:
    """Bytes of the sample's image member, augmented where it was. Errors: EngineError."""
    sample_id, sharding = row["sample_id"], job.build.recipe.sharding
    samples = regenerate(job, row["parent_id"] or sample_id)
    made = samples.to_pylist()[0]
    if made["error"]:
        raise EngineError(f"sample {sample_id} fails now: {made['error']}; compare library versions with its version's")
    image = made["image"]
    if row["augmentation"] is not None:
        augmented = augment_partition(job, samples, annotate_partition(job, samples)).to_pylist()
        image = next(copy["image"] for copy in augmented if copy["sample_id"] == sample_id)
    return mark_png(image) if sharding.image_format == "png" else encode_jpeg(image, sharding.jpeg_quality)
