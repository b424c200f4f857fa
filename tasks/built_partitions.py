"""The finished partitions of a build as sharding and publication read them: whose tables, which rows, which bytes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from catalog.store import Store
from schemas.output import Sharding
from schemas.receipts import Receipt
from schemas.recipe import Recipe
from schemas.review import Review
from tasks.artifacts import read_table
from tasks.methods.encode_samples import (
    AUGMENTED_COLUMNS,
    MASK_COLUMNS,
    SAMPLE_COLUMNS,
    VERDICT_COLUMNS,
    encode_annotations,
    encode_empty_mask,
    publish_columns,
)


class BuiltPartition(BaseModel):
    """The finished tables of one partition; SELECTION's `partition` is an index into the build's list of these.

    `parent`: of a partition that holds one mended sample, the sample that it stands in for. `reviews`: decisions on its
    samples, which the selection honours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concept: str
    attempt: int
    samples: Receipt
    masks: Receipt
    verdicts: Receipt
    augmented: Receipt | None = None
    parent: str | None = None
    reviews: tuple[Review, ...] = ()

    @property
    def digests(self) -> list[str | None]:
        """What the published rows of the partition follow from."""
        tables = (self.samples, self.masks, self.verdicts, self.augmented)
        return [receipt.sha256 if receipt else None for receipt in tables]


def split_by_partition(selection: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Rows of a SELECTION by partition, both rising: slices of one sorted table, since there may be thousands."""
    rows = selection.sort_by([("partition", "ascending"), ("row", "ascending")])
    numbers = rows["partition"].to_numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(numbers)]):
        yield int(numbers[start]), rows.slice(start, end - start)


def class_ids(recipe: Recipe) -> dict[str, int]:
    return {concept.name: index for index, concept in enumerate(recipe.concepts)}


def shard_fields(sharding: Sharding) -> list[str]:
    """Fields of every sample, as member names end and in the order of the members."""
    return sorted(["cls", "json", "seg.png", "txt", sharding.image_format, *_array_fields(sharding)])


def _array_fields(sharding: Sharding) -> dict[str, str]:
    """Optional members that are arrays of the SAMPLES table: field to column."""
    return ({"attn.npy": "attention"} if sharding.attention else {}) | (
        {"noise.npy": "noise"} if sharding.noise else {}
    )


def list_variants(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[tuple[int, int]]:
    """(row, augmented row or -1) of all that is published of the given rows: in place of the original, or after it."""
    if partition.augmented is None:
        return [(row, -1) for row in rows]
    ids = read_table(store, partition.samples, ["sample_id"])["sample_id"].to_pylist()
    made: dict[str, list[tuple[int, bool]]] = {}
    augmented = read_table(store, partition.augmented, ["sample_id", "parent_id"]).to_pylist()
    for index, entry in enumerate(augmented):
        made.setdefault(entry["parent_id"], []).append((index, entry["sample_id"] == entry["parent_id"]))
    variants = []
    for row in rows:
        own = made.get(ids[row], [])
        originals = [] if any(in_place for _, in_place in own) else [(row, -1)]
        variants += [*originals, *((row, index) for index, _ in own)]
    return variants


def load_rows(
    store: Store, recipe: Recipe, partition: BuiltPartition, variants: Sequence[tuple[int, int]]
) -> tuple[pa.Table, dict[str, list[bytes]]]:
    """Published columns of some rows of a partition, and the bytes of their members by field; images are as stored."""
    rows = pa.array([row for row, _ in variants])
    arrays = _array_fields(recipe.sharding)
    samples = read_table(store, partition.samples, [*SAMPLE_COLUMNS, "image", *arrays.values()]).take(rows)
    masks = read_table(store, partition.masks, [*MASK_COLUMNS, "mask"]).take(rows)
    verdicts = read_table(store, partition.verdicts, VERDICT_COLUMNS).take(rows)
    images, indexed, augmented = samples["image"], masks["mask"], None
    if partition.augmented is not None:
        picks = pa.array([index if index >= 0 else None for _, index in variants], pa.int32())
        augmented = read_table(store, partition.augmented, [*AUGMENTED_COLUMNS, "image", "mask"]).take(picks)
        images = pc.coalesce(augmented["image"], images)
        indexed = pc.coalesce(augmented["mask"], indexed)
    published = publish_columns(samples, masks, verdicts, class_ids(recipe), augmented)
    sizes = zip(published["width"].to_pylist(), published["height"].to_pylist(), strict=True)
    payloads = {
        "cls": [b"%d" % number for number in published["class_id"].to_pylist()],
        "json": encode_annotations(published),
        "seg.png": [mask or encode_empty_mask(*size) for mask, size in zip(indexed.to_pylist(), sizes, strict=True)],
        "txt": [text.encode() for text in published["caption"].to_pylist()],
        recipe.sharding.image_format: images.to_pylist(),
    }
    return published, payloads | {field: samples[column].to_pylist() for field, column in arrays.items()}
