"""A build without a generator: partitions of random images, committed as the stages commit theirs."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.tables import AUGMENTED, MASKS, SAMPLES, SELECTION, VERDICTS
from tailforge.tasks.artifacts.contract import Address, ArtifactKind, Made, run_once
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.methods.packing.arrays import encode_array
from tailforge.tasks.methods.planning.samples import assign_split, derive_copy_id, derive_seed, identify_sample
from tailforge.tasks.publish.publish import ExtraFiles, Publication, publish
from tailforge.tasks.stages.shard_plan import STAGE as SHARD_PLAN
from tailforge.tasks.stages.shards import STAGE as SHARDS
from tailforge.tasks.stages.shards import list_shard_jobs
from tests.support.stages import run

Paint = Callable[[str, int], np.ndarray[Any, Any]]
REJECT_EVERY = 5  # rows 4, 9, ... of a partition are not accepted
REASONS = ("failed", "sharpness", "surplus")  # of the first such row, the second and all others


@dataclass
class Build:
    """What the stages before sharding leave."""

    store: Store
    context: BuildContext
    selection: Receipt
    partitions: list[BuiltPartition] = field(default_factory=list)

    @property
    def arguments(self) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        """(build, selection, partitions) as the publishing task takes them."""
        dump = [partition.model_dump(mode="json") for partition in self.partitions]
        return self.context.model_dump(mode="json"), self.selection.model_dump(mode="json"), dump


def make_recipe(**changes: Any) -> Recipe:
    concepts = changes.pop("concepts", ("gear", "hook", "ring"))
    data = {
        "name": "parts",
        "description": "Random parts.",
        "seed": 7,
        "concepts": [{"name": name, "requested": 10} for name in concepts],
        "splits": {"train": 0.8, "test": 0.2},
        "generator": {"model": "catalog:none"},
        **changes,
    }
    return parse_recipe(data, "test")


def make_build(
    store: Store,
    recipe: Recipe,
    counts: dict[str, int],
    *,
    rows: int = 8,
    pixels: int = 16,
    changed: str | None = None,
    paint: Paint | None = None,
) -> Build:
    """`counts` samples of every concept in partitions of `rows`; the sample `changed` gets another image.

    `paint` returns the pixels of a concept's image from its number, in place of random ones.
    """
    context = BuildContext(store=store.uri, recipe=recipe, generator=ResolvedModel(path="none", digest="0" * 64))
    build = Build(store, context, _dummy_receipt())
    chosen: list[dict[str, Any]] = []
    for concept, count in counts.items():
        for start in range(0, count, rows):
            ids = [
                identify_sample(recipe.name, recipe.seed, concept, i, 0, 1)
                for i in range(start, min(start + rows, count))
            ]
            partition = _make_partition(store, recipe, concept, ids, start, pixels, changed, paint)
            index = len(build.partitions)
            build.partitions.append(partition)
            chosen += [_select(recipe, concept, index, row, sample_id) for row, sample_id in enumerate(ids)]
    build.selection = _commit(store, "selection", SELECTION, chosen, 0)
    return build


def pack_build(build: Build) -> list[Receipt]:
    """Plan and write the shards; return their receipts in the plan's order."""
    jobs = list_shard_jobs(plan_build(build), build.partitions)
    return [run(SHARDS, build.store.uri, build.context, job) for job in jobs]


def plan_build(build: Build) -> Receipt:
    """Plan the shards."""
    return run(SHARD_PLAN, build.store.uri, build.context, build.selection, build.partitions)


def publish_build(build: Build, extra_files: ExtraFiles | None = None) -> Publication:
    """Shards and version of a build; `extra_files` stand in for the report."""
    return publish(build.store, build.context, build.selection, build.partitions, pack_build(build), extra_files or {})


def encode_png(pixels: np.ndarray[Any, Any], palette: bool = False) -> bytes:
    """PNG bytes; with `palette` a grey one for each of 256 indices [height, width]."""
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([value for i in range(256) for value in (i, i, i)])
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _make_partition(
    store: Store,
    recipe: Recipe,
    concept: str,
    ids: list[str],
    start: int,
    pixels: int,
    changed: str | None,
    paint: Paint | None,
) -> BuiltPartition:
    indexed, instance = _annotate(recipe, concept, pixels)
    tables: dict[str, list[dict[str, Any]]] = {"samples": [], "masks": [], "verdicts": [], "augmented": []}
    for row, sample_id in enumerate(ids):
        rng = np.random.default_rng(derive_seed(sample_id) + (sample_id == changed))
        failed = row == REJECT_EVERY - 1
        known = {
            "sample_id": sample_id,
            "status": "failed" if failed else "ok",
            "error": "blank image" if failed else None,
        }
        drawn = known | _synthesize(concept, start + row, sample_id, pixels, rng)
        if paint is not None:
            drawn["image"] = encode_png(paint(concept, start + row))
        tables["samples"].append(drawn)
        tables["masks"].append(known | _mask(indexed, instance))
        tables["verdicts"].append(known | _judge(pixels, rng))
        if recipe.augmentation is not None and row % REJECT_EVERY != REJECT_EVERY - 1:
            tables["augmented"] += _augment(recipe, sample_id, pixels, indexed, instance)
    schemas = {"samples": SAMPLES, "masks": MASKS, "verdicts": VERDICTS, "augmented": AUGMENTED}
    if recipe.augmentation is None:
        schemas.pop("augmented")
    receipts = {name: _commit(store, name, schema, tables[name], start) for name, schema in schemas.items()}
    return BuiltPartition(concept=concept, attempt=1, **receipts)


def _annotate(recipe: Recipe, concept: str, pixels: int) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Indexed mask and instance of a rectangle."""
    category = recipe.class_id(concept) + 1
    indexed = np.zeros((pixels, pixels), np.uint8)
    indexed[2:6, 3:9] = category
    return indexed, {
        "slot": "concept",
        "category": concept,
        "category_id": category,
        "bbox": [3.0, 2.0, 6.0, 4.0],
        "area": 24,
        "score": 0.9,
        "rle": encode_rle(indexed == category),
        "crowd": False,
    }


def _synthesize(concept: str, number: int, sample_id: str, pixels: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "concept": concept,
        "prompt_index": number,
        "replica": 0,
        "attempt": 1,
        "seed": derive_seed(sample_id),
        "prompt": f"a photo of a {concept}",
        "image": encode_png(rng.integers(0, 256, (pixels, pixels, 3), np.uint8)),
        "width": pixels,
        "slots": [{"name": "concept", "value": concept, "start": 13, "end": 13 + len(concept)}],
        "height": pixels,
        "attention": encode_array(rng.random((1, 4, 4)).astype(np.float16)),
        "engine": "plain",
        "provenance": '{"steps":20}',
    }


def _mask(indexed: np.ndarray[Any, Any], instance: dict[str, Any]) -> dict[str, Any]:
    return {
        "mask": encode_png(indexed, palette=True),
        "instances": [instance],
        "mask_area": 24 / indexed.size,
        "mask_confidence": 0.8,
        "mask_contrast": 0.5,
        "mask_presence": 3.0,
        "mask_components": 1,
        "mask_separability": 0.9,
        "mask_largest_share": 1.0,
        "mask_agreement": 0.8,
        "mask_source": "cross_attention",
    }


def _judge(pixels: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "brightness": 0.5,
        "contrast": 0.2,
        "clipped": 0.0,
        "sharpness": 90.0,
        "clip_score": 0.3,
        "concept_margin": 0.1,
        "mask_area": 24 / pixels**2,
        "mask_confidence": 0.8,
        "phash": int(rng.integers(2**63)),
        "accepted": True,
        "reason": None,
    }


def _augment(
    recipe: Recipe, sample_id: str, pixels: int, indexed: np.ndarray[Any, Any], instance: dict[str, Any]
) -> list[dict[str, Any]]:
    assert recipe.augmentation is not None
    copies = recipe.augmentation.copies
    ids = [derive_copy_id(sample_id, copy) for copy in range(copies)] if copies else [sample_id]
    return [
        {
            "sample_id": own,
            "parent_id": sample_id,
            "width": pixels,
            "height": pixels,
            "image": encode_png(np.full((pixels, pixels, 3), 10 + number, np.uint8)),
            "mask": encode_png(indexed, palette=True),
            "instances": [instance],
            "mask_area": 0.25,
            "augmentation": f'{{"copy":{number}}}',
        }
        for number, own in enumerate(ids)
    ]


def _select(recipe: Recipe, concept: str, partition: int, row: int, sample_id: str) -> dict[str, Any]:
    position = row % REJECT_EVERY
    accepted = position != REJECT_EVERY - 1
    return {
        "sample_id": sample_id,
        "concept": concept,
        "partition": partition,
        "row": row,
        "accepted": accepted,
        "reason": None if accepted else REASONS[min(row // REJECT_EVERY, len(REASONS) - 1)],
        "split": assign_split(sample_id, dict(recipe.splits.items())) if accepted else None,
    }


def _commit(store: Store, name: str, schema: pa.Schema, rows: list[dict[str, Any]], part: int) -> Receipt:
    table = pa.Table.from_pylist(rows, schema=schema)
    key = json.dumps([str(row) for row in rows])
    address = Address(
        ArtifactKind(name=name, version="1", schema=schema), part, name, settings={}, inputs={"rows": key}
    )
    return run_once(store, address, lambda: Made(table))


def _dummy_receipt() -> Receipt:
    return Receipt(stage="none", fingerprint="", part=0, label="", uri="", sha256="", rows=0, bytes=0)
