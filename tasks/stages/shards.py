"""Shards: plan what goes where, then one task a shard packs its tar and its piece of the manifest.

The plan is an artifact of its own, so that an unchanged build opens no image to find it again; its receipt names every
shard with a digest of the rows that it takes, so a shard whose rows did not change keeps its address.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, ConfigDict

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.settings.output import Sharding
from tailforge.schemas.tables import MANIFEST
from tailforge.tasks.artifacts.contract import Address, Stage, digest, read_table, run_once
from tailforge.tasks.artifacts.partitions import (
    BuiltPartition,
    class_ids,
    list_variants,
    load_rows,
    shard_fields,
    split_by_partition,
)
from tailforge.tasks.methods.packing.members import encode_jpeg, mark_png
from tailforge.tasks.methods.packing.shards import CANDIDATES, SHARD_PLAN, TarPacker, plan_shards, shard_name, tar_bytes
from tailforge.tasks.stages.options import STAGE_TASK

PLAN = Stage("shard_plan", "1", SHARD_PLAN)
STAGE = Stage("shards", "1", MANIFEST)
MARK_BYTES = len(mark_png(b""))
NOT_OF_THE_PLAN = {"jpeg_quality", "references"}


class ShardJob(BaseModel):
    """One shard: `content` stands for the rows it takes; `partitions` are those it reads, by their index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    number: int
    rows: int
    tar_bytes: int
    content: str
    plan: Receipt
    partitions: dict[int, BuiltPartition]


def locate_plan(build: BuildContext, selection: Receipt, partitions: Sequence[BuiltPartition]) -> Address:
    """Where the plan lies: it follows from what was selected, what was augmented, and the sizes asked for."""
    sharding = build.recipe.sharding
    return Address(
        PLAN,
        0,
        f"plan shards of {build.recipe.name}",
        settings={
            "sharding": sharding.model_dump(exclude=NOT_OF_THE_PLAN),
            "classes": class_ids(build.recipe),
        },
        inputs={"selection": selection.sha256, "partitions": digest([part.digests for part in partitions])},
    )


def locate(build: BuildContext, job: ShardJob) -> Address:
    sharding = build.recipe.sharding
    settings: dict[str, Any] = {
        "shard": shard_name(job.split, job.number),
        "classes": class_ids(build.recipe),
        "image_format": sharding.image_format,
        "attention": sharding.attention,
        "noise": sharding.noise,
    }
    if sharding.image_format == "jpg":
        settings["jpeg_quality"] = sharding.jpeg_quality
    label = f"shard {settings['shard']}"
    return Address(STAGE, job.number, label, settings=settings, inputs={"content": job.content})


def list_shard_jobs(plan: Receipt, partitions: Sequence[BuiltPartition]) -> list[ShardJob]:
    """The jobs that a plan's receipt names, without reading the plan."""
    return [
        ShardJob(
            plan=plan,
            partitions={index: partitions[index] for index in shard["partitions"]},
            **{name: shard[name] for name in ("split", "number", "rows", "tar_bytes", "content")},
        )
        for shard in plan.details["shards"]
    ]


@task(task_run_name="plan shards", **STAGE_TASK)
def plan_build_shards(
    build: dict[str, Any], selection: dict[str, Any], partitions: list[dict[str, Any]]
) -> dict[str, Any]:
    """Give every accepted sample, and its augmented copies, a place in a shard."""
    context, chosen = BuildContext.model_validate(build), Receipt.model_validate(selection)
    built = [BuiltPartition.model_validate(partition) for partition in partitions]
    store, sharding = Store.open(context.store), context.recipe.sharding

    def produce() -> pa.Table:
        rows = read_table(store, chosen)
        accepted = split_by_partition(rows.filter(rows["accepted"]))
        measured = [_measure(store, context.recipe, built[index], own) for index, own in accepted]
        candidates = pa.concat_tables([CANDIDATES.empty_table(), *measured])
        plan = plan_shards(candidates, sharding.max_samples, sharding.max_bytes)
        return plan.replace_schema_metadata({b"details": json.dumps({"shards": describe_shards(plan, built)})})

    return run_once(store, locate_plan(context, chosen, built), produce).model_dump(mode="json")


@task(task_run_name="write shard {shard_job[split]} {shard_job[number]}", **STAGE_TASK)
def write_shard(build: dict[str, Any], shard_job: dict[str, Any]) -> dict[str, Any]:
    """Pack one tar and the manifest rows of its samples; the receipt's `details["files"]["tar"]` is the tar."""
    context, job = BuildContext.model_validate(build), ShardJob.model_validate(shard_job)
    store, address = Store.open(context.store), locate(context, job)

    def produce() -> pa.Table:
        manifest, tar = _pack(store, context.recipe, job, address.attachment_uri("tar"))
        details = {"shard": shard_name(job.split, job.number), "split": job.split, "files": {"tar": tar}}
        return manifest.replace_schema_metadata({b"details": json.dumps(details)})

    return run_once(store, address, produce).model_dump(mode="json")


def _measure(store: Store, recipe: Recipe, partition: BuiltPartition, chosen: pa.Table) -> pa.Table:
    """CANDIDATES of one partition's accepted rows: originals, and what augmentation made of them."""
    variants = list_variants(store, partition, chosen["row"].to_pylist())
    chosen = chosen.take(pc.index_in(pa.array([row for row, _ in variants]), value_set=chosen["row"].combine_chunks()))
    published, payloads = load_rows(store, recipe, partition, variants)
    sizes = sum(tar_bytes(_lengths(payloads[field], field)) for field in shard_fields(recipe.sharding))
    columns = {
        "sample_id": published["sample_id"],
        **{name: chosen[name] for name in ("concept", "split", "partition", "row")},
        "augmented_row": pa.array([row for _, row in variants], pa.int32()),
        "tar_bytes": pa.array(sizes),
    }
    return pa.table({name: columns[name] for name in CANDIDATES.names}).cast(CANDIDATES)


def _lengths(payloads: Any, field: str) -> Any:
    """Bytes of every member of a field, before images are marked."""
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    return lengths + MARK_BYTES if field in ("png", "jpg") else lengths


def describe_shards(plan: pa.Table, partitions: Sequence[BuiltPartition]) -> list[dict[str, Any]]:
    """One entry a shard; `content` covers the rows and the bytes they come from, not the partitions' numbers."""
    numbers, splits = plan["shard"].to_pylist(), plan["split"].to_pylist()
    starts = [i for i in range(len(numbers)) if i == 0 or (splits[i], numbers[i]) != (splits[i - 1], numbers[i - 1])]
    shards = []
    for start, end in pairwise([*starts, len(numbers)]):
        rows = plan.slice(start, end - start)
        touched = list(dict.fromkeys(rows["partition"].to_pylist()))
        places = zip(*(rows[name].to_pylist() for name in ("partition", "row", "augmented_row")), strict=True)
        order = {index: position for position, index in enumerate(touched)}
        content = [[partitions[index].digests for index in touched], [(order[p], *place) for p, *place in places]]
        shards.append(
            {
                "split": splits[start],
                "number": numbers[start],
                "rows": end - start,
                "tar_bytes": pc.sum(rows["tar_bytes"]).as_py(),
                "partitions": touched,
                "content": digest(content),
            }
        )
    return shards


def _pack(store: Store, recipe: Recipe, job: ShardJob, tar_uri: str) -> tuple[pa.Table, dict[str, Any]]:
    """Write the tar; returns the shard's MANIFEST rows and where the tar lies."""
    plan = read_table(store, job.plan)
    plan = plan.filter(pc.and_(pc.equal(plan["split"], job.split), pc.equal(plan["shard"], job.number)))
    fields = shard_fields(recipe.sharding)
    pieces: list[pa.Table] = []
    packers: list[TarPacker] = []

    def write_tar(out: IO[bytes]) -> None:
        pieces.clear()
        with TarPacker(out, fields) as packer:
            for sample_id, payloads in _stream_rows(store, recipe, job, plan, pieces.append):
                packer.add(sample_id, payloads)
        packers.append(packer)

    store.write(tar_uri, write_tar)
    packer = packers[-1]
    loaded = pc.index_in(plan["sample_id"], value_set=pa.concat_tables(pieces)["sample_id"].combine_chunks())
    columns = pa.concat_tables(pieces).take(loaded)
    columns = columns.append_column("split", plan["split"])
    columns = columns.append_column("shard", pa.repeat(shard_name(job.split, job.number), plan.num_rows))
    columns = columns.append_column("members", packer.members())
    return columns.select(MANIFEST.names), {"uri": tar_uri, "sha256": packer.sha256, "bytes": packer.size}


def _stream_rows(
    store: Store, recipe: Recipe, job: ShardJob, plan: pa.Table, keep: Callable[[pa.Table], None]
) -> Iterator[tuple[str, list[bytes]]]:
    """Samples in the plan's order. A partition is loaded at its first sample and let go after its last one."""
    order = plan["partition"].to_pylist()
    last = {index: position for position, index in enumerate(order)}
    opened: dict[int, Iterator[tuple[str, list[bytes]]]] = {}
    for position, index in enumerate(order):
        if index not in opened:
            rows = plan.filter(pc.equal(plan["partition"], index))
            variants = list(zip(rows["row"].to_pylist(), rows["augmented_row"].to_pylist(), strict=True))
            published, payloads = load_rows(store, recipe, job.partitions[index], variants)
            keep(published)
            opened[index] = _finish_images(recipe.sharding, published["sample_id"].to_pylist(), payloads)
        yield next(opened[index])
        if last[index] == position:
            del opened[index]


def _finish_images(
    sharding: Sharding, sample_ids: Sequence[str], payloads: dict[str, list[bytes]]
) -> Iterator[tuple[str, list[bytes]]]:
    fields = shard_fields(sharding)
    image = fields.index(sharding.image_format)
    for sample_id, *members in zip(sample_ids, *(payloads[field] for field in fields), strict=True):
        png = members[image]
        members[image] = mark_png(png) if sharding.image_format == "png" else encode_jpeg(png, sharding.jpeg_quality)
        yield sample_id, members
