"""Read the finished partitions of a build for sharding and publication: tables, rows and members."""

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
    """Rows of PUBLISHED with the same rows of the tables SAMPLES, MASKS and VERDICTS, which hold their outcomes."""

    published: pa.Table
    outcomes: tuple[pa.Table, pa.Table, pa.Table]


class BuiltPartition(BaseModel):
    """The receipts of one finished partition. SELECTION's `partition` is an index into the build's list of these.

    `parent`: for the partition of a repair, the sample that the repair replaces. `reviews`: decisions on its samples,
    which the selection follows. `preferences`: in a steered build, the PREFERENCES of its round, which it follows too.
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
    preferences: Receipt | None = None

    @property
    def digests(self) -> list[str | None]:
        """Return the digests of the tables that decide the partition's published rows."""
        tables = (self.samples, self.masks, self.verdicts, self.augmented)
        return [receipt.sha256 if receipt else None for receipt in tables]


def split_by_partition(selection: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Yield each partition's number with its rows of a SELECTION, both in rising order.

    The rows are slices of one sorted table, because a build may have thousands of partitions.
    """
    rows = selection.sort_by([("partition", "ascending"), ("row", "ascending")])
    numbers = rows["partition"].to_numpy()
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    for start, end in pairwise([*starts, len(numbers)]):
        yield int(numbers[start]), rows.slice(start, end - start)


def class_ids(recipe: Recipe) -> dict[str, int]:
    """Return the class of each concept by name."""
    return {concept.name: index for index, concept in enumerate(recipe.concepts)}


def shard_fields(sharding: Sharding) -> list[str]:
    """Return the endings of a sample's members, in the order of the members."""
    return sorted(["cls", "json", "seg.png", "txt", sharding.image_format, *_array_fields(sharding)])


def _array_fields(sharding: Sharding) -> dict[str, str]:
    """Return the column of SAMPLES for each optional member that is an array."""
    return ({"attn.npy": "attention"} if sharding.attention else {}) | (
        {"noise.npy": "noise"} if sharding.noise else {}
    )


Variant = tuple[int, int]  # row of a partition, and row of its AUGMENTED; -1 for the original image


def list_variants(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[Variant]:
    """Return the published variants of the given rows: the original with its copies, or its replacement.

    Errors: StoreError.
    """
    variants = []
    for row, own in zip(rows, _list_augmented(store, partition, rows), strict=True):
        kept = [each for each in own if each.reason is None]
        originals = [] if any(each.is_in_place for each in kept) else [(row, -1)]
        variants += [*originals, *((row, each.row) for each in kept)]
    return variants


def list_dropped(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[tuple[Variant, str]]:
    """Return the rejected copies of the given rows, each with its reason. Errors: StoreError."""
    return [
        ((row, each.row), each.reason)
        for row, own in zip(rows, _list_augmented(store, partition, rows), strict=True)
        for each in own
        if each.reason is not None and not each.is_in_place
    ]


class _Augmented(NamedTuple):
    """A row of AUGMENTED: its number, the reason for its rejection, and whether it replaces the original."""

    row: int
    reason: str | None
    is_in_place: bool


def _list_augmented(store: Store, partition: BuiltPartition, rows: Sequence[int]) -> list[list[_Augmented]]:
    """Return the augmented rows of each of the given rows."""
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
    """Return the published columns of some variants, without the bytes of their members. Errors: StoreError."""
    rows = pa.array([row for row, _ in variants], pa.int64())
    reads = (
        (partition.samples, SAMPLE_COLUMNS), (partition.masks, MASK_COLUMNS), (partition.verdicts, VERDICT_COLUMNS),
    )  # fmt: skip
    samples, masks, verdicts = (read_table(store, receipt, columns).take(rows) for receipt, columns in reads)
    augmented = None
    if partition.augmented is not None:
        augmented = read_table(store, partition.augmented, AUGMENTED_COLUMNS).take(_augmented_rows(variants))
    source_type = recipe.engine.digital_source_type
    published = publish_columns(samples, masks, verdicts, class_ids(recipe), augmented, source_type)
    return Columns(published, (samples, masks, verdicts))


def _augmented_rows(variants: Sequence[Variant]) -> pa.Array:
    """Return the row of AUGMENTED per variant; null for an original."""
    return pa.array([index if index >= 0 else None for _, index in variants], pa.int32())


def load_rows(
    store: Store, recipe: Recipe, partition: BuiltPartition, variants: Sequence[Variant]
) -> tuple[pa.Table, dict[str, list[bytes]]]:
    """Return the published columns of some variants, and the bytes of their members by field.

    Images are the stored PNG. Errors: StoreError.
    """
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
