"""A version whose masks no stage would draw so: several classes, two instances of one, ignored pixels, no mask."""

import hashlib
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tailforge.catalog.reading.version import PLACES
from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Changes, Counts, Dataset, FileEntry, ShardEntry
from tailforge.schemas.tables import INSTANCES, UNCROWDED
from tailforge.tasks.methods.masks.codec import Mask, bound_region, encode_mask, encode_rle
from tailforge.tasks.methods.packing.members import encode_empty_mask, encode_jpeg, mark_png
from tailforge.tasks.methods.packing.shards import TarPacker
from tests.support.fabricate import encode_png

NAME = "drawn"
CLASSES = ("gear", "hex nut", "clé à molette")
RECIPE = {
    "description": "Drawn <parts> & tools.",
    "license": "CC0-1.0",
    "creator": "Tests",
    "concepts": [{"name": name, "wanted": 1} for name in CLASSES],
    "engine": {"kind": "plain"},
    "generator": {"model": "catalog:none"},
}
FIELDS = ("cls", "json", "{image}", "seg.png", "txt")


def draw_masks() -> list[Mask]:
    """Masks of several sizes with every class, background and ignored pixels; the second is empty."""
    rng = np.random.default_rng(5)
    values = np.array([0, 1, 2, 3, 255], np.uint8)
    scattered = [rng.choice(values, size=size) for size in ((9, 14), (12, 5), (1, 1), (30, 17))]
    return [scattered[0], np.zeros((6, 8), np.uint8), *scattered[1:]]


def list_instances(mask: Mask) -> list[dict[str, Any]]:
    """One instance a class, but two of the first: its left half and its right half. The third class is a crowd."""
    middle = np.arange(mask.shape[1]) < mask.shape[1] // 2
    regions = [(1, (mask == 1) & middle), (1, (mask == 1) & ~middle), (2, mask == 2), (3, mask == 3)]
    return [_describe(category, region) for category, region in regions if region.any()]


def write_version(
    store: Store,
    masks: dict[str, list[Mask]],
    image_format: str = "png",
    keys: str = "{:016x}",
    told: bool = True,
    crowds: bool = True,
) -> Dataset:
    """Version 1.0.0 of dataset `drawn`: a split a key of `masks`, a shard a split, a sample a mask.

    Without `told` the manifest says only where samples are. Without `crowds` instances are those of older versions.
    """
    written = [_write_shard(store, split, masks[split], image_format, keys, crowds) for split in sorted(masks)]
    shards = [shard for shard, _ in written]
    manifest = _write_manifest(store, [rows if told else rows.select(PLACES) for _, rows in written])
    by_split = {shard.split: shard.samples for shard in shards}
    dataset = Dataset(
        name=NAME,
        version="1.0.0",
        created="2026-11-22T10:00:00+00:00",
        changes=Changes(),
        counts=Counts(samples=sum(by_split.values()), rejected=0, by_split=by_split, by_concept={}),
        fields=tuple(sorted(field.format(image=image_format) for field in FIELDS)),
        classes=CLASSES,
        recipe=RECIPE,
        lineage={"fingerprints": {}},
        shards=tuple(shards),
        files={"manifest.parquet": manifest, **{f"shards/{shard.name}": _entry(shard) for shard in shards}},
    )
    store.write_bytes(f"{DATASETS}/{NAME}/1.0.0/dataset.json", dataset.model_dump_json().encode())
    return dataset


def _entry(shard: ShardEntry) -> FileEntry:
    return FileEntry(bytes=shard.bytes, sha256=shard.sha256)


def _write_shard(
    store: Store, split: str, masks: list[Mask], image_format: str, keys: str, crowds: bool
) -> tuple[ShardEntry, pa.Table]:
    """Return the shard's entry in dataset.json, and its rows of the manifest without scores and origin."""
    name, fields = f"{split}-000000.tar", sorted(field.format(image=image_format) for field in FIELDS)
    path = f"{DATASETS}/{NAME}/1.0.0/shards/{name}"
    store.write_bytes(path, b"")
    with open(store.path(path), "wb") as out, TarPacker(out, fields) as packer:
        for number, mask in enumerate(masks):
            sample = _encode_sample(f"{split} {number}", mask, image_format, crowds)
            packer.add(keys.format(_number(split, number)), [sample[field] for field in fields])
    ids = [keys.format(_number(split, number)) for number in range(len(masks))]
    same = {"split": [split] * len(masks), "shard": [name] * len(masks)}
    told = pa.table(
        {
            "concept": [CLASSES[0]] * len(masks),
            "class_id": pa.array([0] * len(masks), pa.int32()),
            "caption": [f"{split} {number}" for number in range(len(masks))],
            "width": pa.array([mask.shape[1] for mask in masks], pa.int32()),
            "height": pa.array([mask.shape[0] for mask in masks], pa.int32()),
            "instances": pa.array([list_instances(mask) for mask in masks], INSTANCES if crowds else UNCROWDED),
        }
    )
    rows = pa.table({"sample_id": ids, **dict(zip(told.column_names, told.columns, strict=True)), **same})
    rows = rows.append_column("members", packer.members())
    return ShardEntry(name=name, split=split, samples=len(masks), bytes=packer.size, sha256=packer.sha256), rows


def _write_manifest(store: Store, tables: list[pa.Table]) -> FileEntry:
    """A row group a shard."""
    out = io.BytesIO()
    with pq.ParquetWriter(out, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    data = out.getvalue()
    store.write_bytes(f"{DATASETS}/{NAME}/1.0.0/manifest.parquet", data)
    return FileEntry(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _number(split: str, number: int) -> int:
    """Different in every split."""
    return int.from_bytes(split[:4].encode(), "big") << 16 | number


def _encode_sample(caption: str, mask: Mask, image_format: str, crowds: bool) -> dict[str, bytes]:
    height, width = mask.shape
    instances = list_instances(mask)
    if not crowds:
        instances = [{name: each[name] for name in each if name != "crowd"} for each in instances]
    png = encode_png(np.stack([mask, mask.T.reshape(mask.shape), mask // 2], axis=-1))
    document = {"caption": caption, "width": width, "height": height, "instances": instances}
    return {
        "cls": b"0",
        "json": json.dumps(document).encode(),
        "png": mark_png(png),
        "jpg": encode_jpeg(png, 90),
        "seg.png": mark_png(encode_mask(mask)) if mask.any() else encode_empty_mask(width, height),
        "txt": caption.encode(),
    }


def _describe(category: int, region: NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "slot": "concept",
        "category": CLASSES[category - 1],
        "category_id": category,
        "bbox": bound_region(region),
        "area": int(region.sum()),
        "score": 0.75,
        "rle": encode_rle(region),
        "crowd": category == 3,
    }
