"""The finished partitions of a build as sharding and publication read them: whose tables, which rows, which bytes."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tailforge.catalog.store import Store
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.review import Review
from tailforge.schemas.settings.output import Sharding
from tailforge.tasks.artifacts.contract import read_table
from tailforge.tasks.methods.packing.members import (
    AUGMENTED_COLUMNS,
    MASK_COLUMNS,
    SAMPLE_COLUMNS,
    VERDICT_COLUMNS,
    encode_annotations,
    encode_empty_mask,
    publish_columns,
)


class Columns(NamedTuple):
    """Rows of PUBLISHED, and of the tables of samples, masks and verdicts that tell how each went."""

    published: pa.Table
    outcomes: tuple[pa.Table, pa.Table, pa.Table]


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


Variant = tuple[int, int]  # row of a partition, and the row of its AUGMENTED; -1: the image as it was drawn


def list_variants(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[Variant]:
    """All that is published of the given rows: what stands in place of the original, or the original and its copies."""
    variants = []
    for row, own in zip(rows, _list_augmented(store, partition, rows), strict=True):
        kept = [each for each in own if each.reason is None]
        originals = [] if any(each.is_in_place for each in kept) else [(row, -1)]
        variants += [*originals, *((row, each.row) for each in kept)]
    return variants


def list_dropped(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[tuple[Variant, str]]:
    """The copies of the given rows that are not published, and why."""
    return [
        ((row, each.row), each.reason)
        for row, own in zip(rows, _list_augmented(store, partition, rows), strict=True)
        for each in own
        if each.reason is not None and not each.is_in_place
    ]


class _Augmented(NamedTuple):
    row: int
    reason: str | None
    is_in_place: bool


def _list_augmented(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[list[_Augmented]]:
    """What augmentation made of each of the given rows."""
    if partition.augmented is None:
        return [[] for _ in rows]
    ids = read_table(store, partition.samples, ["sample_id"])["sample_id"].to_pylist()
    made: dict[str, list[_Augmented]] = {}
    table = read_table(store, partition.augmented, ["sample_id", "parent_id", "reason"])
    for index, row in enumerate(table.to_pylist()):
        found = _Augmented(index, row["reason"], row["sample_id"] == row["parent_id"])
        made.setdefault(row["parent_id"], []).append(found)
    return [made.get(ids[row], []) for row in rows]


def load_columns(store: Store, recipe: Recipe, partition: BuiltPartition, variants: Sequence[Variant]) -> Columns:
    """What is published of some variants of a partition's rows, without the bytes of their members."""
    rows = pa.array([row for row, _ in variants], pa.int64())
    reads = (
        (partition.samples, SAMPLE_COLUMNS), (partition.masks, MASK_COLUMNS), (partition.verdicts, VERDICT_COLUMNS),
    )  # fmt: skip
    samples, masks, verdicts = (read_table(store, receipt, columns).take(rows) for receipt, columns in reads)
    augmented = None
    if partition.augmented is not None:
        augmented = read_table(store, partition.augmented, AUGMENTED_COLUMNS).take(_augmented_rows(variants))
    published = publish_columns(samples, masks, verdicts, class_ids(recipe), augmented)
    return Columns(published, (samples, masks, verdicts))


def _augmented_rows(variants: Sequence[Variant]) -> pa.Array:
    return pa.array([index if index >= 0 else None for _, index in variants], pa.int32())


def load_rows(
    store: Store, recipe: Recipe, partition: BuiltPartition, variants: Sequence[Variant]
) -> tuple[pa.Table, dict[str, list[bytes]]]:
    """Published columns of some rows of a partition, and the bytes of their members by field; images are as stored."""
    rows = pa.array([row for row, _ in variants])
    arrays = _array_fields(recipe.sharding)
    samples = read_table(store, partition.samples, ["image", *arrays.values()]).take(rows)
    images, indexed = samples["image"], read_table(store, partition.masks, ["mask"]).take(rows)["mask"]
    if partition.augmented is not None:
        augmented = read_table(store, partition.augmented, ["image", "mask"]).take(_augmented_rows(variants))
        images = pc.coalesce(augmented["image"], images)
        indexed = pc.coalesce(augmented["mask"], indexed)
    published = load_columns(store, recipe, partition, variants).published
    sizes = zip(published["width"].to_pylist(), published["height"].to_pylist(), strict=True)
    payloads = {
        "cls": [b"%d" % number for number in published["class_id"].to_pylist()],
        "json": encode_annotations(published),
        "seg.png": [mask or encode_empty_mask(*size) for mask, size in zip(indexed.to_pylist(), sizes, strict=True)],
        "txt": [text.encode() for text in published["caption"].to_pylist()],
        recipe.sharding.image_format: images.to_pylist(),
    }
    return published, payloads | {field: samples[column].to_pylist() for field, column in arrays.items()}
