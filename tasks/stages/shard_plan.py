"""Stage `shard_plan`: the shard and position of every accepted sample and its augmented copies.

The plan is an artifact of its own, so that an unchanged build opens no image. Its receipt lists every shard with a
digest of its rows, so that a shard with unchanged rows keeps its address.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.tasks.artifacts.contract import Address, Made, digest, read_table
from tailforge.tasks.artifacts.partitions import (
    BuiltPartition,
    class_ids,
    list_variants,
    load_rows,
    shard_fields,
    split_by_partition,
)
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.packing.members import mark_png
from tailforge.tasks.methods.packing.shards import CANDIDATES, SHARD_PLAN, plan_shards, tar_bytes

NOT_OF_THE_PLAN = {"jpeg_quality", "references"}


def locate(build: BuildContext, selection: Receipt, partitions: Sequence[BuiltPartition]) -> Address:
    """Return the address of the plan. The selection, the augmented rows and the recipe's sharding decide it."""
    sharding = build.recipe.sharding
    return Address(
        STAGE,
        part=0,
        label=f"plan shards of {build.recipe.name}",
        settings={
            "sharding": sharding.model_dump(exclude=NOT_OF_THE_PLAN),
            "classes": class_ids(build.recipe),
        },
        inputs={"selection": selection.sha256, "partitions": digest([part.digests for part in partitions])},
    )


def produce(
    workplace: Workplace, build: BuildContext, selection: Receipt, partitions: Sequence[BuiltPartition]
) -> Made:
    """Make the SHARD_PLAN of a build. Errors: StoreError."""
    store, sharding = workplace.store, build.recipe.sharding
    rows = read_table(store, selection)
    accepted = split_by_partition(rows.filter(rows["accepted"]))
    measured = [_measure(store, build.recipe, partitions[index], own) for index, own in accepted]

    candidates = pa.concat_tables([CANDIDATES.empty_table(), *measured])
    plan = plan_shards(candidates, sharding.max_samples, sharding.max_bytes)
    return Made(plan, details={"shards": describe_shards(plan, partitions)})


def _measure(store: Store, recipe: Recipe, partition: BuiltPartition, chosen: pa.Table) -> pa.Table:
    """Return the CANDIDATES of one partition: its accepted rows and their augmented copies."""
    variants = list_variants(store, partition, chosen["row"].to_pylist())
    chosen = chosen.take(pc.index_in(pa.array([row for row, _ in variants]), value_set=chosen["row"].combine_chunks()))
    published, payloads = load_rows(store, recipe, partition, variants)
    mark = len(mark_png(b"", recipe.engine.digital_source_type))
    sizes = sum(tar_bytes(_lengths(payloads[field], field, mark)) for field in shard_fields(recipe.sharding))
    columns = {
        "sample_id": published["sample_id"],
        **{name: chosen[name] for name in ("concept", "split", "partition", "row")},
        "augmented_row": pa.array([row for _, row in variants], pa.int32()),
        "tar_bytes": pa.array(sizes),
    }
    return pa.table({name: columns[name] for name in CANDIDATES.names}).cast(CANDIDATES)


def _lengths(payloads: Any, field: str, mark: int) -> Any:
    """Return the bytes of each member of a field, including the `mark` of an image, int64 [samples]."""
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    return lengths + mark if field in ("png", "jpg") else lengths


def describe_shards(plan: pa.Table, partitions: Sequence[BuiltPartition]) -> list[dict[str, Any]]:
    """Return one entry per shard; `content` covers its rows and their bytes, not the numbers of partitions."""
    numbers, splits = plan["shard"].to_pylist(), plan["split"].to_pylist()
    # A shard begins where the split or the number changes.
    starts = [i for i in range(len(numbers)) if i == 0 or (splits[i], numbers[i]) != (splits[i - 1], numbers[i - 1])]
    shards = []
    for start, end in pairwise([*starts, len(numbers)]):
        rows = plan.slice(start, end - start)

        # The content numbers the partitions by their first row in the shard, so that others do not change it.
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


STAGE = Stage(name="shard_plan", version="1", schema=SHARD_PLAN, locate=locate, produce=produce)
