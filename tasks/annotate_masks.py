"""Stage "masks": soft attention maps in, masks, boxes and their scores out."""

from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task

from catalog.store import Store
from schemas.jobs import PartitionJob
from schemas.receipts import Receipt
from schemas.tables import MASKS
from tasks.artifacts import Address, Stage, read_table, run_once
from tasks.methods.arrays import decode_array
from tasks.methods.masks import encode_mask, instances_from_mask
from tasks.methods.soft_masks import Scores, SoftMask, mask_from_attention
from tasks.prefect_options import STAGE_TASK

STAGE = Stage("masks", "1", MASKS)
COLUMNS = ["sample_id", "status", "slots", "width", "height", "attention"]


def locate(job: PartitionJob, samples: Receipt) -> Address:
    """Where the partition's MASKS lie."""
    recipe = job.build.recipe
    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "annotation": recipe.annotation.model_dump(mode="json", exclude={"window"}),
            "category": [recipe.class_id(job.concept) + 1, job.concept],
        },
        inputs={"samples": samples.sha256},
    )


@task(task_run_name="annotate {job[concept]} r{job[attempt]} {job[source]} #{job[part]}", **STAGE_TASK)
def annotate_masks(job: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any]:
    """Find the masks of one partition and return the receipt of its MASKS."""
    parsed, receipt = PartitionJob.model_validate(job), Receipt.model_validate(samples)
    store = Store.open(parsed.build.store)
    return run_once(
        store,
        locate(parsed, receipt),
        lambda: annotate_partition(parsed, read_table(store, receipt, COLUMNS)),
    ).model_dump(mode="json")


def annotate_partition(job: PartitionJob, samples: pa.Table) -> pa.Table:
    """MASKS of a partition, from the columns `COLUMNS` of its SAMPLES."""
    source = job.build.recipe.annotation.kind
    rows = [_row(job, sample) | {"mask_source": source} for sample in samples.to_pylist()]
    return pa.Table.from_pylist(rows, MASKS)


def _row(job: PartitionJob, sample: dict[str, Any]) -> dict[str, Any]:
    if sample["status"] != "ok":
        return _failed(sample["sample_id"], "no image")
    names = [slot["name"] for slot in sample["slots"]]
    if sample["attention"] is None or "concept" not in names:
        return _failed(sample["sample_id"], "no attention map of the concept")
    maps = decode_array(sample["attention"]).astype(np.float32)
    recipe = job.build.recipe
    category = recipe.class_id(job.concept) + 1
    found = mask_from_attention(
        maps, names.index("concept"), category, sample["height"], sample["width"], recipe.annotation
    )
    return _annotated(sample["sample_id"], job.concept, category, found)


def _annotated(sample_id: str, concept: str, category: int, found: SoftMask) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "status": "ok",
        "error": None,
        "mask": encode_mask(found.mask),
        "instances": instances_from_mask(found.mask, {category: concept}, {category: found.scores.confidence}),
        **_score_columns(found.scores),
    }


def _failed(sample_id: str, error: str) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "status": "failed",
        "error": error,
        "mask": None,
        "instances": [],
        **_score_columns(Scores()),
    }


def _score_columns(scores: Scores) -> dict[str, float | int]:
    return {
        "mask_area": scores.area,
        "mask_confidence": scores.confidence,
        "mask_contrast": scores.contrast,
        "mask_presence": scores.presence,
        "mask_components": scores.components,
    }
