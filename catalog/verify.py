"""Verify a published version against its own records: read every byte, decode every image and repeat every count."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa

from tailforge.catalog.pictures import PUBLISHED, open_picture, to_mask
from tailforge.catalog.reading.arrays import read_array
from tailforge.catalog.reading.tables import open_parquet
from tailforge.catalog.reading.tars import BLOCK, RECORD, Member, find_difference, padded, parse_header
from tailforge.catalog.reading.version import find_strange
from tailforge.catalog.registry import DATASET_FILE, is_of_category, load_dataset, version_folder
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Dataset
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.sample import SampleDocument
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import VerificationError
from tailforge.schemas.tables import MANIFEST, REJECTS, is_published_type

IGNORE = 255
REJECTED = ["sample_id", "concept", "class_id", "caption", "width", "height"]
COLUMNS = ["sample_id", "concept", "class_id", "caption", "width", "height", "split", "shard", "members"]
Row = dict[str, Any]
Report = Callable[[str, str], None]  # arguments: member or "", problem


@dataclass(frozen=True)
class Finding:
    """One problem. `path`: file of the version. `member`: name inside the tar, or empty."""

    path: str
    member: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}{f' ({self.member})' if self.member else ''}: {self.problem}"


def verify(
    store: Store, name: str, version: str = "latest", on_file: Callable[[str], None] | None = None
) -> list[Finding]:
    """Return the problems of a version; empty for an intact one. `on_file`: called with each file before its check.

    Errors: NotFoundError; VerificationError if dataset.json itself cannot be read; StoreError.
    """
    return verify_folder(store, load_dataset(store, name, version), version_folder(store, name, version), on_file)


def verify_folder(
    store: Store, dataset: Dataset, folder: str, on_file: Callable[[str], None] | None = None
) -> list[Finding]:
    """Return the problems of a folder that should hold a version, published or not. Errors: StoreError."""
    findings: list[Finding] = []
    present = set(_list_files(store, folder))
    for path in sorted(present - {DATASET_FILE, *dataset.files}):
        findings.append(Finding(path, "", "is not listed in dataset.json"))

    for path, entry in sorted(dataset.files.items()):
        if on_file:
            on_file(path)
        if path not in present:
            findings.append(Finding(path, "", "is missing"))
        else:
            findings += _check_digest(store, folder, path, entry.bytes, entry.sha256)
    findings += _check_tables(store, folder, dataset, present, on_file or (lambda path: None))
    return findings


def _list_files(store: Store, folder: str) -> Iterator[str]:
    """Yield the files of a version, relative to its folder."""
    root = store.path(folder)
    for path in store.fs.find(root):
        yield path.removeprefix(f"{root}/")


def _check_digest(store: Store, folder: str, path: str, size: int, sha256: str) -> list[Finding]:
    """Compare a file's size and digest with its entry in dataset.json."""
    found = store.size(f"{folder}/{path}")
    if found != size:
        return [Finding(path, "", f"has {count_of(found, 'byte')}, dataset.json says {size}")]
    with store.open_read(f"{folder}/{path}") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return [] if digest == sha256 else [Finding(path, "", f"has sha256 {digest}, dataset.json says {sha256}")]


def _check_tables(
    store: Store, folder: str, dataset: Dataset, present: set[str], on_file: Callable[[str], None]
) -> list[Finding]:
    """Compare the manifest with the tars, and the counts of dataset.json with both tables."""
    findings: list[Finding] = []
    try:
        by_shard = _read_rows(store, f"{folder}/manifest.parquet", dataset)
        with open_parquet(store, f"{folder}/rejects.parquet") as rejects:
            rejected, known = rejects.metadata.num_rows, _is_known(rejects.schema_arrow, REJECTS)
            _require_possible(rejects.read(REJECTED, use_threads=False) if known else None, dataset)
    except VerificationError as error:
        return [Finding("manifest.parquet or rejects.parquet", "", f"cannot be read: {error}")]
    if not known:
        findings.append(Finding("rejects.parquet", "", "has other columns than the schema says"))

    for shard in dataset.shards:
        path = f"shards/{shard.name}"
        if path in present:
            on_file(f"{path}: members")
            findings += _check_shard(store, folder, path, dataset, by_shard.get(shard.name, []))
    return [*findings, *_check_counts(dataset, by_shard, rejected)]


def _require_possible(table: pa.Table | None, dataset: Dataset) -> None:
    """Check the values of a table. Errors: VerificationError for a value that no row of the version can have."""
    if table is not None:
        table.validate(full=True)
        if problem := find_strange(table, dataset):
            raise VerificationError(problem)


def _read_rows(store: Store, path: str, dataset: Dataset) -> dict[str, list[Row]]:
    """Return the manifest's rows by shard. Errors: VerificationError for other columns or a repeated sample."""
    with open_parquet(store, path) as manifest:
        if not _is_known(manifest.schema_arrow, MANIFEST):
            raise VerificationError("the manifest has other columns than the schema says")
        table = manifest.read(columns=COLUMNS, use_threads=False)
        _require_possible(table, dataset)
        rows = table.to_pylist()

    by_shard: dict[str, list[Row]] = {}
    for row in rows:
        by_shard.setdefault(row["shard"], []).append(row)
    repeated = [key for key, count in Counter(row["sample_id"] for row in rows).items() if count > 1]
    if repeated:
        raise VerificationError(f"sample {repeated[0]} is in the manifest more than once")
    return by_shard


def _is_known(found: pa.Schema, schema: pa.Schema) -> bool:
    """Return whether all columns belong to the schema and COLUMNS are present; older versions may lack others."""
    lost = {name for name in COLUMNS if name in schema.names} - set(found.names)
    return not lost and all(field.name in schema.names and is_published_type(field, schema) for field in found)


def _check_counts(dataset: Dataset, by_shard: dict[str, list[Row]], rejected: int) -> list[Finding]:
    """Compare the counts of dataset.json with the tables."""
    rows = [row for shard in by_shard.values() for row in shard]
    concepts = Counter(row["concept"] for row in rows)
    found = {
        "counts.samples": (len(rows), dataset.counts.samples),
        "counts.rejected + surplus": (rejected, dataset.counts.rejected + dataset.counts.surplus),
        "counts.by_split": (dict(Counter(row["split"] for row in rows)), dict(dataset.counts.by_split)),
        "counts.by_concept": ({name: concepts[name] for name in dataset.classes}, dict(dataset.counts.by_concept)),
        "samples by shard": (
            {name: len(shard) for name, shard in by_shard.items()},
            {shard.name: shard.samples for shard in dataset.shards},
        ),
    }

    return [
        Finding(DATASET_FILE, "", f"{name} is {stated}, the tables hold {counted}")
        for name, (counted, stated) in found.items()
        if counted != stated
    ]


def _check_shard(store: Store, folder: str, path: str, dataset: Dataset, rows: list[Row]) -> list[Finding]:
    """Compare the members of a tar with the manifest's rows of the shard."""
    findings: list[Finding] = []
    expected = {f"{row['sample_id']}.{member['field']}": (row, member) for row in rows for member in row["members"]}
    seen: list[str] = []

    def report(member: str, problem: str) -> None:
        """Add a problem of a member."""
        findings.append(Finding(path, member, problem))

    with store.open_read(f"{folder}/{path}") as file:
        size = store.size(f"{folder}/{path}")
        starts = {member["offset"] - BLOCK: name for name, (_, member) in expected.items()}
        for found in _walk(file, size, starts, report):
            seen.append(found.name)
            if found.name in expected:
                _check_member(found, *expected[found.name], dataset, report)
            else:
                report(found.name, "is not in the manifest")

    for name in sorted(set(expected) - set(seen)):
        report(name, "is in the manifest and not in the tar")
    _check_order(seen, rows, dataset, report)
    return findings


def _walk(file: IO[bytes], size: int, starts: dict[int, str], report: Report) -> Iterator[Member]:
    """Yield the members of a tar. After damage continue at the next start of a member in the manifest (`starts`)."""
    position = 0
    while position < size:
        file.seek(position)
        block = file.read(BLOCK)
        if not block.strip(b"\0") and position not in starts:
            _check_end(file, position, size, report)
            return

        try:
            name, length = parse_header(block)
        except ValueError as error:
            report(starts.get(position, ""), f"at byte {position}: {error}")
            following = [start for start in starts if start > position]
            if not following:
                return
            position = min(following)
            continue

        data = file.read(min(padded(length), size - position - BLOCK))  # a false header must not allocate memory
        if part := find_difference(block, name, length):
            report(name, f"has a header with another {part} than in shards: other programs may see another file")
        if len(data) < padded(length):
            report(name, f"is cut off: {min(len(data), length)} of {length} bytes are there")
            return
        if data[length:].strip(b"\0"):
            report(name, "is followed by bytes that should be zero")
        yield Member(name, position + BLOCK, data[:length])
        position += BLOCK + padded(length)
    report("", "ends without an end mark: it was cut off")


def _check_end(file: IO[bytes], position: int, size: int, report: Report) -> None:
    """Check the zeros at the end of a tar, and its size."""
    file.seek(position)
    if file.read().strip(b"\0"):
        report("", f"holds bytes after its end mark at {position}")
    if size % RECORD or size - position < 2 * BLOCK:
        report("", f"has {count_of(size, 'byte')}, which is not a whole number of records of {RECORD}")


def _check_order(seen: list[str], rows: list[Row], dataset: Dataset, report: Report) -> None:
    """Check that members of a sample are neighbours, with sorted and complete fields, and samples in manifest order."""
    # Neighbouring members of one sample form a run.
    runs: list[tuple[str, list[str]]] = []
    keys: dict[str, None] = {}
    for name in seen:
        key, _, field = name.partition(".")
        if not runs or runs[-1][0] != key:
            if key in keys:
                report(name, f"is apart from the other members of its sample {key}")
            runs.append((key, []))
            keys[key] = None
        runs[-1][1].append(field)

    for key, fields in runs:
        if tuple(fields) != dataset.fields:
            report(f"{key}.{fields[0]}", f"sample has the fields {fields} here, expected {list(dataset.fields)}")
    for key, row in zip(keys, rows, strict=False):
        if key != row["sample_id"]:
            report(f"{key}.{dataset.fields[0]}", f"is in the place of the manifest's sample {row['sample_id']}")
            return


def _check_member(found: Member, row: Row, member: Row, dataset: Dataset, report: Report) -> None:
    """Compare a member's position, bytes and content with the manifest."""
    if found.offset != member["offset"]:
        report(found.name, f"begins at byte {found.offset}, the manifest says {member['offset']}")
    if len(found.data) != member["size"]:
        report(found.name, f"has {count_of(len(found.data), 'byte')}, the manifest says {member['size']}")
    digest = hashlib.sha256(found.data).digest()
    if digest != member["sha256"]:
        report(found.name, f"has sha256 {digest.hex()}, the manifest says {member['sha256'].hex()}")

    try:
        problem = _check_content(found.field, found.data, row, dataset)
    except Exception as error:  # decoders raise many kinds of errors for damaged bytes
        problem = f"cannot be decoded: {describe_damage(error)}"
    if problem:
        report(found.name, problem)


def _check_content(field: str, data: bytes, row: Row, dataset: Dataset) -> str | None:
    """Return the problem of a member's content, or None. Errors: those of its decoder."""
    if field in PUBLISHED:
        image = open_picture(data, PUBLISHED[field], to_mask if field == "seg.png" else None)
        if image.size != (row["width"], row["height"]):
            return f"is {image.size[0]}x{image.size[1]} pixels, the manifest says {row['width']}x{row['height']}"
        values = set(np.unique(np.asarray(image)).tolist()) if field == "seg.png" else set()
        unknown = values - set(range(len(dataset.mask_categories) + 1)) - {IGNORE}
        return f"holds the value {min(unknown)}, which is no category" if unknown else None

    if field == "json":
        document = parse_object(data)
        SampleDocument.model_validate(document)
        names = ("sample_id", "concept", "class_id", "caption", "width", "height")
        if strange := next((i for i in document["instances"] if not is_of_category(dataset, i)), None):
            return f"has an instance of {strange['category']!r} as category {strange['category_id']}, which it is not"
        wrong = [name for name in names if document.get(name) != row[name]]
        return f"says {wrong[0]} {document.get(wrong[0])!r}, the manifest {row[wrong[0]]!r}" if wrong else None

    if field in ("attn.npy", "noise.npy"):
        read_array(data)
        return None
    stated = {"txt": row["caption"], "cls": str(row["class_id"])}.get(field)
    return None if data.decode() == stated else f"says {data.decode()!r}, the manifest {stated!r}"
