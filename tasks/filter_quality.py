"""Stage `verdicts`: scores of every image, and whether the absolute gates accept it."""

import json
from typing import Any

import pyarrow as pa
from prefect import task

from catalog.store import Store
from schemas.jobs import PartitionJob
from schemas.receipts import Receipt
from schemas.tables import VERDICTS
from tasks.aim_search import read_references
from tasks.artifacts import Address, Stage, digest, read_table, run_once
from tasks.methods.clock import Clock
from tasks.methods.judge_images import Item, judge_images
from tasks.models.clip import load_clip
from tasks.prefect_options import STAGE_TASK

STAGE = Stage("verdicts", "2", VERDICTS)
SAMPLE_COLUMNS = ["sample_id", "prompt", "status", "error", "image"]
MASK_COLUMNS = ["mask_area", "mask_confidence"]


def locate(job: PartitionJob, samples: Receipt, masks: Receipt) -> Address:
    """Address of one partition's verdicts; quantiles, quotas and near duplicates do not touch it."""
    recipe, scorer = job.build.recipe, job.build.scorer
    references = job.build.references.get(job.concept, ())
    bounds = {name: gate.model_dump(include={"min", "max"}) for name, gate in recipe.quality.gates.items()}
    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "gates": {name: bound for name, bound in bounds.items() if set(bound.values()) != {None}},
            "concept": job.concept if scorer else None,
            "concepts": [concept.name for concept in recipe.concepts] if scorer else None,
        },
        inputs={
            "samples": samples.sha256,
            "masks": masks.sha256,
            **({"references": digest(list(references))} if scorer and references else {}),
        },
        models={"scorer": scorer.digest} if scorer else {},
    )


@task(task_run_name="judge {job[concept]} r{job[attempt]} {job[source]} #{job[part]}", **STAGE_TASK)
def filter_quality(job: dict[str, Any], samples: dict[str, Any], masks: dict[str, Any]) -> dict[str, Any]:
    """Judge one partition and return the receipt of its VERDICTS. Errors: ModelError, StoreError."""
    parsed = PartitionJob.model_validate(job)
    made, annotated = Receipt.model_validate(samples), Receipt.model_validate(masks)
    store = Store.open(parsed.build.store)
    return run_once(
        store,
        locate(parsed, made, annotated),
        lambda: judge_partition(
            parsed, read_table(store, made, SAMPLE_COLUMNS), read_table(store, annotated, MASK_COLUMNS)
        ),
    ).model_dump(mode="json")


def judge_partition(job: PartitionJob, samples: pa.Table, masks: pa.Table) -> pa.Table:
    """VERDICTS of a partition, from `SAMPLE_COLUMNS` and `MASK_COLUMNS` of its tables."""
    recipe, clock = job.build.recipe, Clock()
    with clock.phase("load"):
        scorer = load_clip(job.build.scorer) if job.build.scorer else None
    items = [
        Item(row["sample_id"], row["prompt"], row["image"], row["error"], mask["mask_area"], mask["mask_confidence"])
        for row, mask in zip(samples.to_pylist(), masks.to_pylist(), strict=True)
    ]
    with clock.phase("compute"):
        concepts = [concept.name for concept in recipe.concepts]
        references = read_references(job) if scorer and job.build.references.get(job.concept) else []
        rows = judge_images(items, recipe.quality.gates, job.concept, concepts, scorer, references)
    return pa.Table.from_pylist(rows, VERDICTS).replace_schema_metadata({"timings": json.dumps(clock.seconds)})
