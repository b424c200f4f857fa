"""Stage `shards`: one tar per shard, with its rows of the manifest."""

from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from tailforge.catalog.store import Store
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Recipe
from tailforge.schemas.tables import MANIFEST
from tailforge.tasks.artifacts.contract import Address, Made, read_table
from tailforge.tasks.artifacts.partitions import BuiltPartition, class_ids, load_rows, shard_fields
from tailforge.tasks.artifacts.stage import Stage, Workplace
from tailforge.tasks.methods.packing.members import TRAINED, finish_image
from tailforge.tasks.methods.packing.shards import TarPacker, shard_name


class ShardJob(BaseModel):
    """One shard. `content`: the digest of its rows; `partitions`: the partitions that it reads, by index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    number: int
    rows: int
    tar_bytes: int
    content: str
    plan: Receipt
    partitions: dict[int, BuiltPartition]


def locate(build: BuildContext, job: ShardJob) -> Address:
    """Return the address of a shard's tar and MANIFEST rows."""
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
    if (source_type := build.recipe.engine.digital_source_type) != TRAINED:
        settings["digital_source_type"] = source_type
    label = f"shard {settings['shard']}"
    return Address(STAGE, job.number, label, settings=settings, inputs={"content": job.content})


def list_shard_jobs(plan: Receipt, partitions: Sequence[BuiltPartition]) -> list[ShardJob]:
    """Return the jobs of the shards that a plan's receipt lists. It does not read the plan."""
    return [
        ShardJob(
            plan=plan,
            partitions={index: partitions[index] for index in shard["partitions"]},
            **{name: shard[name] for name in ("split", "number", "rows", "tar_bytes", "content")},
        )
        for shard in plan.details["shards"]
    ]


def produce(workplace: Workplace, build: BuildContext, job: ShardJob) -> Made:
    """Make one tar and its rows of MANIFEST. `details["files"]["tar"]` of the receipt is the tar.

    Errors: StoreError.
    """
    manifest, tar = _pack(workplace.store, build.recipe, job, workplace.address.attachment_uri("tar"))
    return Made(
        manifest, details={"shard": shard_name(job.split, job.number), "split": job.split, "files": {"tar": tar}}
    )


def _pack(store: Store, recipe: Recipe, job: ShardJob, tar_uri: str) -> tuple[pa.Table, dict[str, Any]]:
    """Write the tar; return the shard's MANIFEST rows and the tar's entry for `details`. Errors: StoreError."""
    plan = read_table(store, job.plan)
    plan = plan.filter(pc.and_(pc.equal(plan["split"], job.split), pc.equal(plan["shard"], job.number)))
    fields = shard_fields(recipe.sharding)
    pieces: list[pa.Table] = []
    packers: list[TarPacker] = []

    def write_tar(out: IO[bytes]) -> None:
        """Write all samples of the shard in the plan's order."""
        pieces.clear()
        with TarPacker(out, fields) as packer:
            for sample_id, payloads in _stream_rows(store, recipe, job, plan, pieces.append):
                packer.add(sample_id, payloads)
        packers.append(packer)

    store.write(tar_uri, write_tar)

    # The rows in the plan's order.
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
    """Yield the id and members of each sample in the plan's order.

    A partition is loaded at its first sample and dropped after its last. `keep` receives its published columns.
    """
    order = plan["partition"].to_pylist()
    last = {index: position for position, index in enumerate(order)}
    opened: dict[int, Iterator[tuple[str, list[bytes]]]] = {}

    for position, index in enumerate(order):
        if index not in opened:
            rows = plan.filter(pc.equal(plan["partition"], index))
            variants = list(zip(rows["row"].to_pylist(), rows["augmented_row"].to_pylist(), strict=True))
            published, payloads = load_rows(store, recipe, job.partitions[index], variants)
            keep(published)
            opened[index] = _finish_images(recipe, published["sample_id"].to_pylist(), payloads)
        yield next(opened[index])
        if last[index] == position:
            del opened[index]


def _finish_images(
    recipe: Recipe, sample_ids: Sequence[str], payloads: dict[str, list[bytes]]
) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the id and members of each sample, its image in the published format."""
    fields = shard_fields(recipe.sharding)
    image = fields.index(recipe.sharding.image_format)
    for sample_id, *members in zip(sample_ids, *(payloads[field] for field in fields), strict=True):
        members[image] = finish_image(members[image], recipe.sharding, recipe.engine.digital_source_type)
        yield sample_id, members


STAGE = Stage(
    name="shards",
    version="1",
    schema=MANIFEST,
    costing=("image_format", "attention", "noise"),
    locate=locate,
    produce=produce,
)
