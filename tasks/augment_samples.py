"""Stage `augmented`: the accepted samples of a partition after the recipe's augmentation, in place or as copies."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task

from catalog.store import Store
from schemas.errors import RecipeError
from schemas.jobs import PartitionJob
from schemas.receipts import Receipt
from schemas.tables import AUGMENTED
from tasks.artifacts import Address, Stage, canonical_json, read_table, run_once
from tasks.methods.augment import Augmented, augment, augment_instances, build_pipeline, instance_regions, measure_area
from tasks.methods.masks import decode_mask, encode_mask
from tasks.methods.plan_samples import derive_copy_id, derive_seed
from tasks.methods.png import decode_png, encode_png
from tasks.prefect_options import STAGE_TASK

STAGE = Stage("augmented", "1", AUGMENTED)
SAMPLE_COLUMNS = ["sample_id", "image"]
MASK_COLUMNS = ["mask", "instances"]


def locate(job: PartitionJob, samples: Receipt, masks: Receipt, accepted: Sequence[int]) -> Address:
    """Address of one partition's augmented samples. `accepted`: rows of the partition, rising."""
    augmentation = job.build.recipe.augmentation
    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "augmentation": augmentation and augmentation.model_dump(mode="json"),
            "accepted": list(accepted),
        },
        inputs={"samples": samples.sha256, "masks": masks.sha256},
    )


@task(task_run_name="augment {job[concept]} r{job[attempt]} {job[source]} #{job[part]}", **STAGE_TASK)
def augment_samples(
    job: dict[str, Any], samples: dict[str, Any], masks: dict[str, Any], accepted: list[int]
) -> dict[str, Any]:
    """Augment the accepted rows of one partition and return the receipt. Errors: RecipeError, StoreError."""
    parsed = PartitionJob.model_validate(job)
    made, annotated = Receipt.model_validate(samples), Receipt.model_validate(masks)
    store = Store.open(parsed.build.store)

    def produce() -> pa.Table:
        rows = pa.array(accepted, pa.int64())
        images = read_table(store, made, SAMPLE_COLUMNS).take(rows)
        annotations = read_table(store, annotated, MASK_COLUMNS).take(rows)
        return augment_partition(parsed, images, annotations)

    return run_once(store, locate(parsed, made, annotated, accepted), produce).model_dump(mode="json")


def augment_partition(job: PartitionJob, samples: pa.Table, masks: pa.Table) -> pa.Table:
    """AUGMENTED of row-aligned accepted samples: one row each in place, else `copies` rows each, in order."""
    augmentation = job.build.recipe.augmentation
    if augmentation is None:
        return AUGMENTED.empty_table()
    pipeline = build_pipeline(augmentation)
    copies = range(1, augmentation.copies + 1) if augmentation.copies else range(1)  # 0 is the sample itself
    made = []
    for sample, annotation in zip(samples.to_pylist(), masks.to_pylist(), strict=True):
        try:
            made += list(_augment_sample(pipeline, sample, annotation, copies))
        except RecipeError as error:
            raise RecipeError(f"sample {sample['sample_id']} of {job.label}: {error}") from error
    return pa.Table.from_pylist(made, AUGMENTED)


def _augment_sample(
    pipeline: Any, sample: dict[str, Any], annotation: dict[str, Any], copies: range
) -> Iterator[dict[str, Any]]:
    parent = sample["sample_id"]
    image = decode_png(sample["image"])
    mask = np.zeros(image.shape[:2], np.uint8) if annotation["mask"] is None else decode_mask(annotation["mask"])
    regions = instance_regions(annotation["instances"], mask)
    for copy in copies:
        made = augment(pipeline, image, mask, derive_seed(parent, f"augment:{copy}"), regions)
        yield _row(derive_copy_id(parent, copy) if copy else parent, parent, made, annotation["instances"])


def _row(sample_id: str, parent_id: str, made: Augmented, instances: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "parent_id": parent_id,
        "image": encode_png(made.image),
        "width": made.image.shape[1],
        "height": made.image.shape[0],
        "mask": encode_mask(made.mask),
        "instances": augment_instances(instances, made.regions),
        "mask_area": measure_area(made.mask),
        "augmentation": canonical_json(made.replay),
    }
