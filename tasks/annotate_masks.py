"""Stage "masks": soft attention maps in, masks, boxes and their scores out."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from prefect import task

from catalog.store import Store
from schemas.errors import EngineError
from schemas.jobs import PartitionJob
from schemas.receipts import Receipt
from schemas.tables import MASKS
from tasks.artifacts import Address, Stage, read_table, run_once
from tasks.methods.arrays import decode_array
from tasks.methods.clock import Clock
from tasks.methods.masks import encode_mask, instances_from_mask
from tasks.methods.plain_sampling import cut_batches, hold, within_memory
from tasks.methods.plan_samples import derive_seed
from tasks.methods.png import decode_png
from tasks.methods.renoised_attention import Captioned, read_attention
from tasks.methods.soft_masks import Scores, Soft, SoftMask, mask_from_attention
from tasks.models.text_to_image import load_generator
from tasks.prefect_options import STAGE_TASK

STAGE = Stage("masks", "1", MASKS)
COLUMNS = ["sample_id", "status", "slots", "width", "height"]
ASKING = {"model", "noise", "draws"}  # settings of kind renoised_attention alone

Maps = list[Soft | None]  # [slots, h, w] of every sample, as far as it has some


def locate(job: PartitionJob, samples: Receipt) -> Address:
    """Where the partition's MASKS lie."""
    recipe, asked = job.build.recipe, job.build.annotator
    hidden = {"model"} if asked else ASKING
    return Address(
        STAGE,
        part=job.part,
        label=job.label,
        settings={
            "annotation": recipe.annotation.model_dump(mode="json", exclude={"window", "affinity", *hidden}),
            "category": [recipe.class_id(job.concept) + 1, job.concept],
        },
        inputs={"samples": samples.sha256},
        models={"annotator": asked.digest} if asked else {},
    )


@task(task_run_name="annotate {job[concept]} r{job[attempt]} {job[source]} #{job[part]}", **STAGE_TASK)
def annotate_masks(job: dict[str, Any], samples: dict[str, Any]) -> dict[str, Any]:
    """Find the masks of one partition and return the receipt of its MASKS."""
    parsed, receipt = PartitionJob.model_validate(job), Receipt.model_validate(samples)
    store = Store.open(parsed.build.store)
    return run_once(
        store,
        locate(parsed, receipt),
        lambda: annotate_partition(parsed, read_table(store, receipt, columns_for(parsed))),
    ).model_dump(mode="json")


def columns_for(job: PartitionJob) -> list[str]:
    """Columns of SAMPLES that are read."""
    return [*COLUMNS, "attention"] if job.build.annotator is None else [*COLUMNS, "prompt", "image"]


def annotate_partition(job: PartitionJob, samples: pa.Table) -> pa.Table:
    """MASKS of a partition, from the columns `columns_for` of its SAMPLES. Errors: ModelError, EngineError."""
    source, rows, clock = job.build.recipe.annotation.kind, samples.to_pylist(), Clock()
    maps = _recorded_maps(rows) if job.build.annotator is None else _ask_annotator(job, rows, clock)
    with clock.phase("compute"):
        made = [_row(job, row, own) | {"mask_source": source} for row, own in zip(rows, maps, strict=True)]
    return pa.Table.from_pylist(made, MASKS).replace_schema_metadata({"timings": json.dumps(clock.seconds)})


def _recorded_maps(rows: list[dict[str, Any]]) -> Maps:
    return [None if row["attention"] is None else decode_array(row["attention"]).astype(np.float32) for row in rows]


def _ask_annotator(job: PartitionJob, rows: list[dict[str, Any]], clock: Clock) -> Maps:
    """What a text-to-image model sees in the finished images, a batch of the engine's size at a time."""
    settings, found = job.build.recipe.annotation, job.build.annotator
    assert found is not None
    with clock.phase("load"):
        model = load_generator(found)

    def ask(batch: Sequence[int]) -> list[Soft]:
        with clock.phase("attention"):
            maps = read_attention(model, [_caption(rows[place]) for place in batch], settings.noise, settings.draws)
        return [own.maps.astype(np.float32) for own in maps]

    def give_up(place: int) -> Soft:
        raise EngineError(f"sample {rows[place]['sample_id']}: out of memory while annotation.model reads it alone; "
                          "name a smaller model")  # fmt: skip

    maps: Maps = [None] * len(rows)
    sound = [place for place, row in enumerate(rows) if row["status"] == "ok"]
    for batch in cut_batches(sound, job.build.recipe.engine.batch_size):
        with hold(model, clock):
            for place, own in zip(batch, within_memory(ask, batch, give_up), strict=True):
                maps[place] = own
    return maps


def _caption(row: dict[str, Any]) -> Captioned:
    words = tuple((slot["start"], slot["end"]) for slot in row["slots"])
    return Captioned(decode_png(row["image"]), row["prompt"], words, derive_seed(row["sample_id"], "renoise"))


def _row(job: PartitionJob, sample: dict[str, Any], maps: Soft | None) -> dict[str, Any]:
    if sample["status"] != "ok":
        return _failed(sample["sample_id"], "no image")
    names = [slot["name"] for slot in sample["slots"]]
    if maps is None or "concept" not in names:
        return _failed(sample["sample_id"], "no attention map of the concept")
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
