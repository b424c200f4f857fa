"""Augment and judge accepted samples, for stage `augmented`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.settings.gates import GATES, Gate
from tailforge.schemas.tables import AUGMENTED
from tailforge.tasks.artifacts.contract import Made, canonical_json, read_table
from tailforge.tasks.artifacts.stage import Workplace
from tailforge.tasks.methods.masks.codec import decode_mask, encode_mask
from tailforge.tasks.methods.masks.concept_region import measure_concept
from tailforge.tasks.methods.packing.augment import (
    Augmented,
    augment,
    augment_instances,
    build_pipeline,
    instance_regions,
)
from tailforge.tasks.methods.packing.members import JUDGED
from tailforge.tasks.methods.packing.png import decode_png, encode_png
from tailforge.tasks.methods.planning.samples import derive_copy_id, derive_seed
from tailforge.tasks.methods.quality.gates import first_failed_gate
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.stages.augmented import Bounds
from tailforge.tasks.stages.work.verdicts import judge_items, make_item

SAMPLE_COLUMNS = ["sample_id", "prompt", "status", "error", "image", "provenance"]
MASK_COLUMNS = ["mask", "instances", "mask_area", "mask_confidence"]


def produce(
    workplace: Workplace, job: PartitionJob, samples: Receipt, masks: Receipt, accepted: Sequence[int], bounds: Bounds
) -> Made:
    """Augment and judge the accepted rows of one partition. Errors: RecipeError, ModelError, StoreError."""
    rows = pa.array(accepted, pa.int64())
    images = read_table(workplace.store, samples, SAMPLE_COLUMNS).take(rows)
    annotations = read_table(workplace.store, masks, MASK_COLUMNS).take(rows)
    return judge_augmented(job, images, annotations, bounds)


def judge_augmented(job: PartitionJob, samples: pa.Table, masks: pa.Table, bounds: Bounds) -> Made:
    """Return the AUGMENTED of accepted samples with scores and the reason for a rejection.

    `samples` and `masks` have equal rows. Scores of a mask's soft map are not measured again: their gates have judged
    the original. Errors: RecipeError, ModelError, StoreError.
    """
    clock = Clock()
    with clock.phase("compute"):
        augmented = augment_partition(job, samples, masks).to_pylist()

    # Judge each augmented image, by the gates of single images and by the bounds of the quantiles.
    known = zip(samples.to_pylist(), masks.to_pylist(), strict=True)
    parents = {sample["sample_id"]: (sample, mask | {"mask_confidence": None}) for sample, mask in known}
    items = [make_item(*parents[row["parent_id"]], row) for row in augmented]
    gates = {name: Gate(min=low, max=high) for name, (low, high) in bounds.items()}
    for row, verdict in zip(augmented, judge_items(job, items, clock, is_augmented=True), strict=True):
        row |= {name: verdict[name] for name in JUDGED}
        row["reason"] = verdict["reason"] or first_failed_gate(gates, GATES, verdict)
    return Made(pa.Table.from_pylist(augmented, AUGMENTED), clock.seconds)


def augment_partition(job: PartitionJob, samples: pa.Table, masks: pa.Table) -> pa.Table:
    """Return the AUGMENTED of accepted samples without verdicts: one row per sample in place, else one per copy.

    `samples` and `masks` have equal rows. Errors: RecipeError for a transform that fails.
    """
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
    """Yield the rows of AUGMENTED of one sample."""
    parent = sample["sample_id"]
    image = decode_png(sample["image"])
    mask = np.zeros(image.shape[:2], np.uint8) if annotation["mask"] is None else decode_mask(annotation["mask"])
    regions = instance_regions(annotation["instances"], mask)
    for copy in copies:
        made = augment(pipeline, image, mask, derive_seed(parent, f"augment:{copy}"), regions)
        yield _row(derive_copy_id(parent, copy) if copy else parent, parent, made, annotation["instances"])


def _row(sample_id: str, parent_id: str, made: Augmented, instances: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a row of AUGMENTED without verdict."""
    found = augment_instances(instances, made.regions)
    return {
        "sample_id": sample_id,
        "parent_id": parent_id,
        "image": encode_png(made.image),
        "width": made.image.shape[1],
        "height": made.image.shape[0],
        "mask": encode_mask(made.mask),
        "instances": found,
        **measure_concept(found, *made.mask.shape),
        "augmentation": canonical_json(made.replay),
    }
