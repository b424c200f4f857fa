"""Export a folder for the Hugging Face Hub and `datasets`: Parquet with and without pictures, the tars, and a card.

`datasets` reads all configurations of a folder with one builder (huggingface/datasets#7101, seen with 5.2.0), so tars
and Parquet cannot both be configurations. Both configurations here are Parquet, which the Hub shows without conversion.
The tars are for webdataset and `load_dataset("webdataset", data_files=...)`. So the folder contains all pictures twice.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tailforge.catalog.exports.pieces import Piece, Splits, StreamedFile, WholeFile
from tailforge.catalog.exports.samples import ExportedSample
from tailforge.catalog.metadata.card import compose_card, describe_front_matter, identify_content
from tailforge.catalog.metadata.evaluations import read_worth
from tailforge.catalog.reading.tables import LOOK, open_parquet
from tailforge.catalog.registry import DATASETS
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset, ShardEntry
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.documents.worth import Worth
from tailforge.schemas.errors import UserError, VerificationError
from tailforge.schemas.tables import MANIFEST

ROW_GROUP = 100  # rows with pictures, as in `datasets`, since the Hub's viewer reads whole row groups
MOST_FILES = 10_000  # limit of files per folder of the Hub
COPY_BYTES = 8 * 2**20
LEFT_OUT = ("split", "class_id", "members")  # the configuration knows the split, and the label is the class
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
COLUMNS = [field for field in MANIFEST if field.name not in LEFT_OUT]


def convert_huggingface(store: Store, dataset: Dataset, splits: Splits) -> Iterator[Piece]:
    """Yield README.md, metadata/SPLIT.parquet, and per shard data/SPLIT/*.parquet and shards/SPLIT/*.tar.

    Errors: UserError for a split with more shards than the Hub allows per folder; VerificationError for damage.
    """
    worth = read_worth(store, dataset.name, dataset.version)
    yield WholeFile("README.md", write_hub_card(dataset, list(splits), worth).encode())
    groups = index_shards(store, dataset)
    for split, samples in splits.items():
        shards = [shard for shard in dataset.shards if shard.split == split]
        if len(shards) > MOST_FILES:
            raise UserError(
                f"split {split} has {len(shards)} shards, and the Hub takes {MOST_FILES} files in a folder; build "
                "again with a larger sharding.max_samples and sharding.max_bytes"
            )

        yield StreamedFile(f"metadata/{split}.parquet", partial(write_metadata, store, dataset, groups, shards))
        remaining = iter(samples)
        for shard in shards:
            rows = read_rows(store, dataset, groups, shard)
            own = islice(remaining, shard.samples)
            name = shard.name.removesuffix(".tar")
            yield StreamedFile(f"data/{split}/{name}.parquet", partial(write_pictures, dataset, rows, own))
            yield StreamedFile(
                f"shards/{split}/{shard.name}", partial(copy_file, store, dataset, f"shards/{shard.name}")
            )


def write_hub_card(dataset: Dataset, splits: Sequence[str], worth: Worth | None = None) -> str:
    """Return the version's card, with both configurations and code that loads them.

    `worth`: what its newest evaluation says; None before one.
    """
    places = {"default": "data/{}/*.parquet", "metadata": "metadata/{}.parquet"}
    configs = [
        {
            "config_name": name,
            **({"default": True} if name == "default" else {}),
            "description": identify_content(dataset),
            "data_files": [{"split": split, "path": place.format(split)} for split in splits],
        }
        for name, place in places.items()
    ]

    front_matter = describe_front_matter(dataset) | {"configs": configs}
    split = "train" if "train" in splits else splits[0]
    files = [FILES.format(splits=", ".join(splits)), LOADING.format(split=split)]
    return compose_card(dataset, front_matter, files, worth)


FILES = """## Files

Splits in this copy: {splits}.

| configuration | files | content |
|---|---|---|
| `default` | `data/SPLIT/*.parquet` | image, mask, label, caption, boxes, scores, provenance |
| `metadata` | `metadata/SPLIT.parquet` | the same without the pictures |
| | `shards/SPLIT/*.tar` | the same samples as WebDataset shards, as they were published |

In masks 0 is background and 255 is ignored. The other values are categories, class + 1 for a class."""

LOADING = """## Loading

```python
from datasets import load_dataset

samples = load_dataset("path/or/name", split="{split}", streaming=True)
scores = load_dataset("path/or/name", "metadata", split="{split}")
```

The tars are no configuration, because `datasets` reads all configurations of a repository with one builder. Load them
by their files, `load_dataset("webdataset", data_files={{"{split}": "shards/{split}/*.tar"}})`, or with webdataset."""


def index_shards(store: Store, dataset: Dataset) -> dict[str, list[int]]:
    """Return the manifest's row groups with rows of each shard. Errors: VerificationError, StoreError."""
    found: dict[str, list[int]] = {}
    with open_parquet(store, _manifest(dataset)) as manifest:
        for group in range(manifest.num_row_groups):
            for name in manifest.read_row_group(group, ["shard"], use_threads=False)["shard"].unique().to_pylist():
                found.setdefault(name, []).append(group)
    return found


def read_rows(store: Store, dataset: Dataset, groups: Mapping[str, Sequence[int]], shard: ShardEntry) -> pa.Table:
    """Return COLUMNS and the label of a shard's samples, in its order. Columns that the version lacks are null.

    Errors: VerificationError if the numbers of rows and samples differ.
    """
    with open_parquet(store, _manifest(dataset)) as manifest:
        wanted = [name for name in manifest.schema_arrow.names if name in {"class_id", *(c.name for c in COLUMNS)}]
        rows = manifest.read_row_groups(list(groups.get(shard.name, [])), wanted, use_threads=False)
        rows.validate(full=True)

    # A row group may contain rows of several shards.
    rows = rows.filter(pc.equal(rows["shard"], shard.name))
    if len(rows) != shard.samples:
        raise VerificationError(
            f"the manifest of {dataset.name} {dataset.version} has {count_of(len(rows), 'row')} of {shard.name}, "
            f"which holds {count_of(shard.samples, 'sample')}; {LOOK}"
        )

    columns = {field.name: _column(rows, field.name, field.type) for field in COLUMNS}
    return pa.table({**columns, "label": _column(rows, "class_id", pa.int32()).cast(pa.int64())})


def write_metadata(
    store: Store, dataset: Dataset, groups: Mapping[str, Sequence[int]], shards: Sequence[ShardEntry], out: IO[bytes]
) -> None:
    """Write the rows of some shards, one row group per shard. Errors: VerificationError, StoreError."""
    schema = describe_schema(dataset, pictures=False)
    with pq.ParquetWriter(out, schema, **WRITING) as writer:
        for shard in shards:
            writer.write_table(read_rows(store, dataset, groups, shard).select(schema.names).cast(schema))


def write_pictures(dataset: Dataset, rows: pa.Table, samples: Iterator[ExportedSample], out: IO[bytes]) -> None:
    """Write a shard's rows with their images and masks. Errors: VerificationError if rows and samples do not match."""
    schema = describe_schema(dataset, pictures=True)
    with pq.ParquetWriter(out, schema, **WRITING) as writer:
        for start in range(0, len(rows), ROW_GROUP):
            part = rows.slice(start, ROW_GROUP)
            own = list(islice(samples, len(part)))
            if [sample.key for sample in own] != part["sample_id"].to_pylist():
                raise VerificationError(
                    f"the samples of {dataset.name} {dataset.version} are not in the order of its manifest; {LOOK}"
                )

            images = [{"bytes": each.image, "path": each.file_name} for each in own]
            masks = [{"bytes": each.mask, "path": f"{each.key}.png"} for each in own]
            for name, values in (("image", images), ("mask", masks)):
                part = part.append_column(name, pa.array(values, PICTURE))
            writer.write_table(part.select(schema.names).cast(schema))


def describe_schema(dataset: Dataset, *, pictures: bool) -> pa.Schema:
    """Return the columns, with metadata for `datasets`: columns of pictures, and names of the classes."""
    label = pa.field("label", pa.int64())
    features: dict[str, Any] = {"label": {"names": list(dataset.classes), "_type": "ClassLabel"}}
    shown = []
    if pictures:
        shown = [pa.field("image", PICTURE), pa.field("mask", PICTURE)]
        features |= {field.name: {"_type": "Image"} for field in shown}
    identity, *others = COLUMNS
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([identity, *shown, label, *others], metadata=metadata)


def copy_file(store: Store, dataset: Dataset, path: str, out: IO[bytes]) -> None:
    """Copy a file of the version and compare its sha256. Errors: VerificationError if it is not as published."""
    digest = hashlib.sha256()
    with store.open_read(f"{DATASETS}/{dataset.name}/{dataset.version}/{path}") as file:
        while data := file.read(COPY_BYTES):
            digest.update(data)
            out.write(data)
    if digest.hexdigest() != dataset.files[path].sha256:
        raise VerificationError(f"{path} of {dataset.name} {dataset.version} is not as it was published; {LOOK}")


# Content-defined chunks let versions of a repository share equal parts (docs of pyarrow and the Hub).
WRITING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_content_defined_chunking": True,
    "write_page_index": True,
}


def _manifest(dataset: Dataset) -> str:
    """Return the path of the manifest, relative to the store."""
    return f"{DATASETS}/{dataset.name}/{dataset.version}/manifest.parquet"


def _column(rows: pa.Table, name: str, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as type `kind`, or nulls if it is missing."""
    if name in rows.column_names:
        return rows[name].cast(kind)
    return pa.chunked_array([pa.nulls(len(rows), kind)])
