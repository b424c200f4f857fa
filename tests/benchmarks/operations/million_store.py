"""A store with the finished build of very many samples, without pixels: what plan, status, selection, manifest and diff
read is as a real build would have left it, at the addresses where the dry run looks for it.

Prompts, samples' identities, selection and shard plan come from the project's own stages. Images, masks, scores and
tars are made up: every image is one tiny PNG, scores are random, and a tar holds nothing. What a tar's rows say of
their members is made up too.

`python -m tests.benchmarks.operations.million_store FOLDER CONCEPTS WANTED PARTITION_SIZE`.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailforge.catalog.sources.models import MODELS, resolve_model
from tailforge.catalog.store import Store
from tailforge.flows.build.drive import Drive
from tailforge.flows.build.order import expand_all
from tailforge.flows.build.plan_partitions import plan_partitions
from tailforge.flows.build.rounds import first_sizes
from tailforge.schemas.jobs import BuildContext, PartitionJob, ResolvedModel
from tailforge.schemas.receipts import EngineInputs, Receipt
from tailforge.schemas.recipe import Recipe, parse_recipe
from tailforge.schemas.tables import INSTANCES, MANIFEST, MASKS, MEMBERS, SAMPLES, SLOTS, VERDICTS
from tailforge.tasks.artifacts.contract import Address, Made, canonical_json, read_table, run_once
from tailforge.tasks.artifacts.partitions import BuiltPartition, class_ids, shard_fields
from tailforge.tasks.methods.masks.codec import encode_rle
from tailforge.tasks.methods.packing.members import publish_columns
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.packing.shards import CANDIDATES, plan_shards, shard_name
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.stages.registry import find_stage
from tailforge.tasks.stages.shard_plan import describe_shards
from tailforge.tasks.stages.shards import list_shard_jobs
from tailforge.tasks.stages.work.samples import describe_origin

CONTEXT_FILE = "context.json"
OLD, NEW = "datasets/parts/1.0.0", "datasets/parts/2.0.0"
MATERIALS = ["steel", "brass", "copper", "plastic", "wooden", "rubber", "glass", "ceramic"]
SURFACES = ["bench", "floor", "mat", "plate", "table", "shelf", "sheet", "cloth"]
OVERSAMPLE = 1.1
TWIN_EVERY = 100  # so often a sample's hash is that of the one before, but for a bit
FLIP_RATE = 0.25  # of a concept's own hash, bit by bit: samples of a concept are alike, and hardly ever near
MEMBER_BYTES = 1024  # with header and padding
MASK = np.zeros((16, 16), np.uint8)
MASK[2:9, 3:12] = 1
SCORES = ("brightness", "contrast", "clipped", "sharpness", "clip_score", "mask_area", "mask_confidence")
REMOVED, ADDED, CHANGED = 0, 1, 2  # of each 400 rows of a version, what becomes of these


def make_context(store: Store, concepts: int, wanted: int, partition_size: int) -> BuildContext:
    """A build of `wanted` samples of every concept; a tenth more are made in its one round."""
    recipe = parse_recipe(
        {
            "name": "parts",
            "description": "Samples without pixels.",
            "seed": 7,
            "concepts": [{"name": f"part {number:04d}", "requested": wanted} for number in range(concepts)],
            "splits": {"train": 0.8, "validation": 0.1, "test": 0.1},
            "generator": {"model": "catalog:workshop"},
            "prompts": {
                "templates": ["a photo of {a} {material} {concept} on a {surface}", "{a} {material} {concept}"],
                "attributes": {"material": MATERIALS, "surface": SURFACES},
                "per_concept": 64,
            },
            "quality": {
                "scorer": {"model": "catalog:none"},
                "gates": {
                    "contrast": {"min": 0.02},
                    "clip_score": {"min_quantile": 0.02},
                    "mask_confidence": {"min_quantile": 0.02},
                },
                "oversample": OVERSAMPLE,
                "max_rounds": 1,
            },
            "partition_size": partition_size,
        },
        "a store of very many samples",
    )
    assert recipe.source is not None
    generator = resolve_model(recipe.source, MODELS, "generator")  # whose tokenizer reads the prompts
    none = ResolvedModel(path="none", digest="0" * 64)
    return BuildContext(store=store.uri, recipe=recipe, generator=generator, scorer=none)


def load_context(folder: Path) -> BuildContext:
    return BuildContext.model_validate_json((folder / CONTEXT_FILE).read_bytes())


def fabricate_build(folder: Path, concepts: int, wanted: int, partition_size: int) -> BuildContext:
    """The finished build; its context is kept beside it."""
    store = Store.open(str(folder), create=True)
    context = make_context(store, concepts, wanted, partition_size)
    store.write_bytes(CONTEXT_FILE, context.model_dump_json().encode())
    partitions, published = _fabricate_partitions(store, context)
    selection = find_stage("selection").make(store, context, partitions)
    plan = _fabricate_plan(store, context, selection, partitions)
    _fabricate_shards(store, context, plan, partitions, published)
    return context


def _commit(store: Store, address: Address, table: pa.Table, details: dict[str, Any] | None = None) -> Receipt:
    return run_once(store, address, lambda: Made(table, details=details or {}))


def _fabricate_partitions(store: Store, context: BuildContext) -> tuple[list[BuiltPartition], pa.Table]:
    """The partitions, and the published columns of all their rows, in order."""
    for concept in context.recipe.concepts:
        find_stage("prompts").make(store, context, concept.name)
    prompts = expand_all(Drive(store, submit=None), context)
    assert prompts is not None
    partitions, published = [], []
    for planned in plan_partitions(context, prompts, 0, first_sizes(context.recipe)):
        job = planned.job
        rng = np.random.default_rng([context.recipe.class_id(job.concept), job.part, int(job.source[-1])])
        tables = _sample_table(job), _mask_table(job, rng), _verdict_table(job, rng)
        samples = _commit(store, find_stage("samples").locate(job, EngineInputs()), tables[0])
        masks = _commit(store, find_stage("masks").locate(job, samples), tables[1])
        verdicts = _commit(store, find_stage("verdicts").locate(job, samples, masks), tables[2])
        partitions.append(
            BuiltPartition(concept=job.concept, attempt=0, samples=samples, masks=masks, verdicts=verdicts)
        )
        published.append(publish_columns(*tables, class_ids(context.recipe)))
    return partitions, pa.concat_tables(published).combine_chunks()


def _sample_table(job: PartitionJob) -> pa.Table:
    """SAMPLES whose images are all the same; the slots of each prompt are encoded once."""
    specs, rows = job.samples, len(job.samples)
    texts = {spec.prompt_index: spec for spec in specs}
    places = {index: place for place, index in enumerate(texts)}
    slots = pa.array([[slot.model_dump() for slot in spec.slots] for spec in texts.values()], SLOTS)
    origin = describe_origin(job, specs[0], Rendered(specs[0].sample_id, None, None, None, {}))
    before, after = canonical_json(origin | {"seed": -1}).split("-1")
    columns = {
        "sample_id": [spec.sample_id for spec in specs],
        "concept": pa.repeat(job.concept, rows),
        "prompt_index": [spec.prompt_index for spec in specs],
        "replica": [spec.replica for spec in specs],
        "attempt": pa.repeat(job.attempt, rows),
        "seed": [spec.seed for spec in specs],
        "prompt": [spec.prompt for spec in specs],
        "slots": slots.take(pa.array([places[spec.prompt_index] for spec in specs])),
        "image": pa.repeat(pa.scalar(encode_png(np.zeros((1, 1, 3), np.uint8)), pa.binary()), rows),
        "width": pa.repeat(16, rows),
        "height": pa.repeat(16, rows),
        "engine": pa.repeat("plain", rows),
        "provenance": [f"{before}{spec.seed}{after}" for spec in specs],
    }
    return _complete(columns, SAMPLES, rows)


def _mask_table(job: PartitionJob, rng: np.random.Generator) -> pa.Table:
    rows, category = len(job.samples), job.build.recipe.class_id(job.concept) + 1
    instance = {
        "slot": "concept", "category": job.concept, "category_id": category, "bbox": [3.0, 2.0, 9.0, 7.0],
        "area": 63, "score": 0.9, "rle": encode_rle(MASK == 1), "crowd": False,
    }  # fmt: skip
    columns = {
        "sample_id": [spec.sample_id for spec in job.samples],
        "instances": pa.array([[instance]], INSTANCES).take(pa.array(np.zeros(rows, np.int32))),
        "mask_area": pa.repeat(63 / MASK.size, rows),
        "mask_confidence": rng.random(rows, np.float32),
        "mask_contrast": rng.random(rows, np.float32),
        "mask_components": pa.repeat(1, rows),
        "mask_source": pa.repeat("cross_attention", rows),
    }
    return _complete(columns, MASKS, rows)


def _verdict_table(job: PartitionJob, rng: np.random.Generator) -> pa.Table:
    rows = len(job.samples)
    columns: dict[str, Any] = {
        "sample_id": [spec.sample_id for spec in job.samples],
        **{name: rng.random(rows, np.float32) for name in SCORES},
        "phash": _hashes(job.build.recipe.class_id(job.concept), rows, rng),
        "accepted": pa.repeat(True, rows),
    }
    columns["reason"] = pc.if_else(pa.array(columns["contrast"] < 0.02), "contrast_low", None)
    return _complete(columns, VERDICTS, rows)


def _hashes(concept: int, rows: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    own = np.random.default_rng(concept).integers(0, 2**64, dtype=np.uint64)
    flips = np.packbits(rng.random((rows, 64)) < FLIP_RATE, axis=1).view(np.uint64)[:, 0]
    hashes = own ^ flips
    twins = np.arange(TWIN_EVERY, rows, TWIN_EVERY)
    hashes[twins] = hashes[twins - 1] ^ np.uint64(1)
    return hashes


def _complete(columns: dict[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    """A table of the schema: what is not given is null, the status is ok."""
    columns = {"status": pa.repeat("ok", rows)} | columns
    return pa.table({f.name: columns[f.name] if f.name in columns else pa.nulls(rows, f.type) for f in schema}).cast(
        schema
    )


def _fabricate_plan(
    store: Store, context: BuildContext, selection: Receipt, partitions: list[BuiltPartition]
) -> Receipt:
    """The shard plan of samples that are all of one size."""

    def produce() -> Made:
        rows = read_table(store, selection)
        rows = rows.filter(rows["accepted"])
        rows = rows.append_column("augmented_row", pa.repeat(pa.scalar(-1, pa.int32()), rows.num_rows))
        rows = rows.append_column("tar_bytes", pa.repeat(MEMBER_BYTES * 5, rows.num_rows))
        sharding = context.recipe.sharding
        plan = plan_shards(rows.select(CANDIDATES.names), sharding.max_samples, sharding.max_bytes)
        details = {"shards": describe_shards(plan, partitions)}
        return Made(plan, details=details)

    return run_once(store, find_stage("shard_plan").locate(context, selection, partitions), produce)


def _fabricate_shards(
    store: Store, context: BuildContext, plan: Receipt, partitions: list[BuiltPartition], published: pa.Table
) -> None:
    starts = np.cumsum([0] + [partition.samples.rows for partition in partitions])
    order = pq.ParquetFile(store.path(plan.uri)).read()
    places = pa.array(starts[order["partition"].to_numpy()] + order["row"].to_numpy())
    first = 0
    for job in list_shard_jobs(plan, partitions):
        address, name = find_stage("shards").locate(context, job), shard_name(job.split, job.number)
        tar = {"uri": address.attachment_uri("tar"), "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
        store.write_bytes(address.attachment_uri("tar"), b"")
        rows = published.take(places.slice(first, job.rows))
        rows = rows.append_column("split", pa.repeat(job.split, job.rows))
        rows = rows.append_column("shard", pa.repeat(name, job.rows))
        rows = rows.append_column("members", _members(context.recipe, job.rows, first))
        details = {"shard": name, "split": job.split, "files": {"tar": tar}}
        _commit(store, address, rows.select(MANIFEST.names), details)
        first += job.rows


def _members(recipe: Recipe, rows: int, seed: int) -> pa.Array:
    fields = shard_fields(recipe.sharding)
    entries = rows * len(fields)
    digests = np.random.default_rng(seed).bytes(32 * entries)
    structs = pa.StructArray.from_arrays(
        [
            pa.array(fields * rows),
            pa.array(512 + MEMBER_BYTES * np.arange(entries)),
            pa.array(np.full(entries, 300)),
            pa.Array.from_buffers(pa.binary(32), entries, [None, pa.py_buffer(digests)]),
        ],
        fields=list(MEMBERS.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1) * len(fields), pa.int32()), structs).cast(MEMBERS)


def write_changed_version(store: Store) -> dict[str, int]:
    """The manifest of OLD with every hundredth row changed, as NEW; returns the counts that a comparison must find.

    Of 400 rows one goes, one comes for another, and three get another image and score.
    """
    counts = dict.fromkeys(("added", "removed", "changed"), 0)

    def groups() -> Iterator[pa.Table]:
        with store.open_read(f"{OLD}/manifest.parquet") as file:
            old = pq.ParquetFile(file)
            first = 0
            for number in range(old.num_row_groups):
                rows = old.read_row_group(number, use_threads=False)
                place = np.arange(first, first + rows.num_rows) % 400
                first += rows.num_rows
                counts["removed"] += int(np.isin(place, (REMOVED, ADDED)).sum())
                counts["added"] += int((place == ADDED).sum())
                counts["changed"] += int(np.isin(place, (CHANGED, CHANGED + 100, CHANGED + 200)).sum())
                yield _change(rows, place)

    store.write(f"{NEW}/manifest.parquet", lambda out: _write_groups(out, groups()))
    return counts


def _write_groups(out: IO[bytes], groups: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(out, MANIFEST, compression="zstd") as writer:
        for rows in groups:
            writer.write_table(rows)


def _change(rows: pa.Table, place: np.ndarray[Any, Any]) -> pa.Table:
    ids, scores = rows["sample_id"], rows["clip_score"]
    changed = pa.array(np.isin(place, (CHANGED, CHANGED + 100, CHANGED + 200)))
    fresh = pc.binary_join_element_wise("x", pc.utf8_slice_codeunits(ids, 1), "")
    members = rows["members"].combine_chunks()
    digests = members.flatten().field("sha256")
    # The first member of a changed row gets another row's digest.
    source = np.arange(len(digests))
    first = members.offsets.to_numpy()[:-1][changed.to_numpy(zero_copy_only=False)]
    source[first] = (first + 1) % len(digests)
    flat = members.flatten()
    structs = pa.StructArray.from_arrays(
        [digests.take(pa.array(source)) if f.name == "sha256" else flat.field(f.name) for f in MEMBERS.value_type],
        fields=list(MEMBERS.value_type),
    )
    columns = {name: rows[name] for name in rows.column_names}
    columns["sample_id"] = pc.if_else(pa.array(place == ADDED), fresh, ids)
    columns["clip_score"] = pc.if_else(changed, pc.add(scores, pa.scalar(1, pa.float32())), scores)
    columns["members"] = pa.ListArray.from_arrays(members.offsets, structs)
    return pa.table(columns).cast(MANIFEST).filter(pa.array(place != REMOVED))


def main() -> None:
    """Fabricate a store in a process of its own, since it holds all rows at once."""
    folder, *numbers = sys.argv[1:]
    fabricate_build(Path(folder), *map(int, numbers))


if __name__ == "__main__":
    main()
