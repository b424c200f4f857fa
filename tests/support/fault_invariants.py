"""What must hold of a store whatever went wrong while it was filled: the invariants, and who breaks them.

Everything is looked at from outside, through what readers use: the listing, `verify`, the reader, bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.registry import DATASET_FILE, DATASETS, list_versions, load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.temporaries import TEMPORARY
from tailforge.catalog.verify import verify
from tailforge.schemas.dataset import VERSION
from tailforge.schemas.errors import TailforgeError


@dataclass(frozen=True)
class Expected:
    """A version as an undisturbed build makes it; `rows` is a digest of the manifest's rows as values."""

    name: str
    version: str
    samples: tuple[str, ...]
    digests: Mapping[str, str]
    rows: str


def describe(store: Store, name: str, version: str) -> Expected:
    """The only version of a dataset, for comparison with those of other stores."""
    folder = f"{DATASETS}/{name}/{version}"
    with store.open_read(f"{folder}/manifest.parquet") as file:
        rows = pq.ParquetFile(file).read(use_threads=False).to_pylist()
    names = [path for path in load_dataset(store, name, version).files if path.endswith((".tar", ".parquet"))]
    return Expected(
        name=name,
        version=version,
        samples=tuple(row["sample_id"] for row in rows),
        digests={path: hashlib.sha256(store.read(f"{folder}/{path}")).hexdigest() for path in names},
        rows=hashlib.sha256(json.dumps(rows, sort_keys=True, default=repr).encode()).hexdigest(),
    )


def find_half_published(store: Store, name: str) -> list[str]:
    """What readers can see under a dataset and is no whole version.

    In an object store the files of a version come one by one, and dataset.json, by which readers find it, comes last.
    """
    problems = []
    for entry in store.names(f"{DATASETS}/{name}") if store.is_local else ():
        if entry.startswith("."):
            continue
        if not VERSION.fullmatch(entry):
            problems.append(f"{entry} lies beside the versions")
        elif not store.exists(f"{DATASETS}/{name}/{entry}/{DATASET_FILE}"):
            problems.append(f"version {entry} is half-published: it has no {DATASET_FILE}")
    for version in list_versions(store, name):
        problems += [f"version {version}: {finding}" for finding in find_damage(store, name, version)]
    return problems


def find_damage(store: Store, name: str, version: str) -> list[str]:
    """What `verify` says of a version, and temporary files in it."""
    try:
        found = [str(finding) for finding in verify(store, name, version)]
        paths = store.fs.find(store.path(f"{DATASETS}/{name}/{version}"))
    except TailforgeError as error:
        return [f"cannot be verified: {error}"]
    return found + [f"{path} is a temporary file" for path in paths if f"/{TEMPORARY}" in path]


def find_problems(store: Store, expected: Expected) -> list[str]:
    """How a store that was filled in spite of faults differs from one that was filled undisturbed."""
    name = expected.name
    problems = find_half_published(store, name)
    versions = list_versions(store, name)
    if versions != [expected.version]:
        return [*problems, f"there are versions {versions}, expected {expected.version} alone"]
    try:
        found = describe(store, name, expected.version)
        read = read_keys(store, name, expected.version)
    except Exception as error:  # whatever damage does to a reader is a problem of the store
        return [*problems, f"cannot be read: {type(error).__name__}: {error}"]
    problems += compare_samples("manifest", found.samples, expected.samples)
    problems += compare_samples("reader", read, expected.samples)
    for path in sorted(found.digests.keys() | expected.digests.keys()):
        if found.digests.get(path) != expected.digests.get(path):
            problems.append(f"{path} has another digest than in the undisturbed build")
    if found.rows != expected.rows:
        problems.append("rows of the manifest differ from those of the undisturbed build")
    return problems


def read_keys(store: Store, name: str, version: str) -> list[str]:
    """Samples that the reader gives out, of all splits."""
    splits = load_dataset(store, name, version).counts.by_split
    readers = (open_dataset(store.uri, version, split, name=name, decode=False) for split in splits)
    return [sample["key"] for reader in readers for sample in reader]


def compare_samples(where: str, found: Sequence[str], expected: Sequence[str]) -> list[str]:
    """Samples that are lost, doubled or not asked for."""
    counts, wanted = Counter(found), Counter(expected)
    return [
        *(f"{where}: sample {key} is lost" for key in wanted - counts if key not in counts),
        *(f"{where}: sample {key} is there {counts[key]} times" for key in counts if counts[key] > 1),
        *(f"{where}: sample {key} is of no plan" for key in counts if key not in wanted),
    ]
