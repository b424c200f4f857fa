"""Read earlier versions for the report from their records, tables and shards, one version at a time."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tailforge.catalog.diff import compare_versions
from tailforge.catalog.reading.tables import read_columns
from tailforge.catalog.registry import DATASETS, list_versions, load_dataset, version_number
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import IMAGE_FIELDS, Dataset
from tailforge.schemas.documents.foreign_json import parse_object
from tailforge.schemas.errors import TailforgeError
from tailforge.tasks.report.all_samples import (
    ACCEPTED,
    MANIFEST_COLUMNS,
    REJECTS_COLUMNS,
    count_by_outcome,
    gather_images,
)
from tailforge.tasks.report.changes import choose_changed
from tailforge.tasks.report.data import Earlier, Previous, VersionCounts
from tailforge.tasks.report.drift import Comparison, compare_scores, describe_quartiles
from tailforge.tasks.report.outcomes import SURPLUS

VERSIONS = 10  # earlier versions in the report
UNREADABLE = (
    TailforgeError,
    OSError,
    pa.ArrowException,
    KeyError,
    ValueError,
    TypeError,
)  # all errors of damaged files


def read_history(
    store: Store, name: str, version: str, folder: str, images: pa.Table, concepts: Sequence[str]
) -> Earlier:
    """Return the last VERSIONS before `version`; `folder` holds its tables, and `images` describes its images.

    The function reads each version's record and the compared columns. It lists an unreadable version with the
    reason. It
    compares `version` field by field with the newest readable version.
    """
    numbers = [each for each in list_versions(store, name) if version_number(each) < version_number(version)]
    versions: list[VersionCounts] = []
    comparisons: list[list[Comparison]] = []
    unreadable: list[tuple[str, str]] = []
    previous: Previous | None = None

    for number in reversed(numbers[-VERSIONS:]):
        try:
            record, made = load_dataset(store, name, number), read_images(store, f"{DATASETS}/{name}/{number}")
            counts = count_version(record, made, read_seconds(store, f"{DATASETS}/{name}/{number}"))
            found = compare_scores(images, made, number, concepts if previous is None else ())
            previous = previous or read_previous(store, record, made, folder)
        except UNREADABLE as error:
            unreadable.insert(0, (number, _shorten(error)))
            continue
        versions.insert(0, counts)
        comparisons.insert(0, found)

    return Earlier(versions, [each for found in comparisons for each in found], unreadable, previous)


def read_images(store: Store, folder: str) -> pa.Table:
    """Return all images of a version's build, as tasks/report/all_samples.py defines them."""
    columns = {"manifest": MANIFEST_COLUMNS, "rejects": REJECTS_COLUMNS}
    return gather_images(*(read_columns(store, f"{folder}/{name}.parquet", own) for name, own in columns.items()))


def read_seconds(store: Store, folder: str) -> float | None:
    """Return the seconds of computing in the version's report; None without that figure."""
    try:
        return float(parse_object(store.read(f"{folder}/report/summary.json"))["costs"]["seconds"])
    except (FileNotFoundError, KeyError, ValueError, TypeError, OverflowError):
        return None


def count_version(record: Dataset, images: pa.Table, seconds: float | None) -> VersionCounts:
    """Return the version's entry in the history."""
    wanted = sum(int(concept["wanted"]) for concept in record.recipe["concepts"])
    outcomes = count_by_outcome(images)
    return VersionCounts(record.version, wanted, **outcomes, seconds=seconds, quartiles=describe_quartiles(images))


def read_previous(store: Store, record: Dataset, images: pa.Table, folder: str) -> Previous:
    """Return the data for a comparison with the version in `folder`, field by field."""
    own = f"{DATASETS}/{record.name}/{record.version}"
    difference = compare_versions(store, own, folder)
    gone = read_columns(store, f"{own}/manifest.parquet", ("sample_id", "concept"))
    concept = dict(zip(gone["sample_id"].to_pylist(), gone["concept"].to_pylist(), strict=True))
    lineage = record.lineage

    found = Previous(
        version=record.version,
        recipe=record.recipe,
        models={role: model["digest"] for role, model in lineage.get("models", {}).items()},
        libraries=lineage.get("versions", {}),
        fingerprints={stage: frozenset(own) for stage, own in lineage.get("fingerprints", {}).items()},
        passed=_count_passed(images),
        added=difference.added,
        removed={each: concept[each] for each in difference.removed},
        changed=difference.changed,
    )

    shown = choose_changed(found)
    pictures = read_pictures(store, own, [*shown["removed"], *shown["changed"]])
    return Previous(**{**vars(found), "pictures": pictures})


def read_pictures(store: Store, folder: str, sample_ids: Sequence[str]) -> dict[str, bytes]:
    """Return images of some published samples from their shards, without unreadable ones."""
    if not sample_ids:
        return {}
    table = read_columns(store, f"{folder}/manifest.parquet", ("sample_id", "shard", "members"))
    rows = table.filter(pc.is_in(table["sample_id"], pa.array(sample_ids, pa.string()))).to_pylist()
    found = {}
    for row in rows:
        member = next((each for each in row["members"] if each["field"] in IMAGE_FIELDS), None)
        if member is not None:
            try:
                found[row["sample_id"]] = _read_member(store, f"{folder}/shards/{row['shard']}", member)
            except UNREADABLE:
                continue
    return found


def _read_member(store: Store, path: str, member: Mapping[str, Any]) -> bytes:
    return store.read_range(path, member["offset"], member["size"])


def _count_passed(images: pa.Table) -> dict[str, tuple[int, int]]:
    made: Counter[str] = Counter(images["concept"].to_pylist())
    passing = pc.is_in(images["outcome"], pa.array([ACCEPTED, SURPLUS]))
    passed: Counter[str] = Counter(images.filter(passing)["concept"].to_pylist())
    return {name: (passed[name], count) for name, count in made.items()}


def _shorten(error: BaseException) -> str:
    """Return the first line of an error, or its class name if it has no text."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:200]
