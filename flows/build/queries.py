"""Query a store for the command line: plain dictionaries, for tables and for --json."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tailforge.catalog.diff import compare_versions
from tailforge.catalog.exports.export import export_version
from tailforge.catalog.metadata.evaluations import evaluation_folder, read_costs, read_worth
from tailforge.catalog.metadata.worth import is_checked
from tailforge.catalog.reading.version import open_version
from tailforge.catalog.registry import (
    latest_version,
    list_datasets,
    list_versions,
    load_dataset,
    require_there,
    version_folder,
)
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.flows.build.choose import split_reference
from tailforge.schemas.documents.foreign_json import describe_damage, parse_json
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.documents.worth import NOT_CHECKED, NOT_EVALUATED
from tailforge.schemas.errors import NotFoundError, VerificationError

SHOWN_FINDINGS = 10
COMPARED = ("sample_id", "slots", "instances", "members")  # columns that hold several parts to compare


def list_view(uri: str) -> list[dict[str, Any]]:
    """Return a row per version of every dataset, oldest first. Errors: NotFoundError for a missing store."""
    store = Store.open(uri)
    require_there(store)
    return [_list_row(store, name, v) for name in list_datasets(store) for v in list_versions(store, name)]


def _list_row(store: Store, name: str, version: str) -> dict[str, Any]:
    """Return the row of one version, which may be damaged."""
    try:
        found = load_dataset(store, name, version)
    except VerificationError:
        return {"dataset": name, "version": version, "samples": None, "created": "dataset.json is damaged"}
    return {"dataset": name, "version": version, "samples": found.counts.samples, "created": found.created}


def show_view(uri: str, reference: str) -> dict[str, Any]:
    """Return counts, changes, lineage and address of a version. Errors: NotFoundError, VerificationError."""
    store = Store.open(uri)
    name, version = split_reference(reference)
    dataset = load_dataset(store, name, version)
    found = dataset.model_dump(mode="json", include=set(SHOWN))
    return {
        "uri": f"{store.uri}/{version_folder(store, name, version)}",
        **{key: found[key] for key in SHOWN},
        "checked": "by gates" if is_checked(dataset) else NOT_CHECKED,
        "evaluated": tell_worth(store, name, dataset.version),
        **_show_costs(store, name, dataset.version),
    }


def _show_costs(store: Store, name: str, version: str) -> dict[str, Any]:
    """Return seconds and money of making a version and of evaluating it; nothing before an evaluation."""
    costs = read_costs(store, name, version) or {}
    label = f"{name}@{version}"
    found = {
        "made_in_s": costs.get("generation_seconds", {}).get(label),
        "trained_in_s": costs.get("training_seconds"),
        "price_of_making": costs.get("generation_money", {}).get(label),
        "price_of_training": costs.get("training_money"),
    }
    told = {key: value for key, value in found.items() if value is not None}
    return {"cost": told} if told else {}


SHOWN = ("name", "version", "created", "changes", "counts", "classes", "fields", "lineage")


def tell_worth(store: Store, name: str, version: str) -> str:
    """Return the verdict of a version's newest evaluation, or that there is none. Errors: VerificationError."""
    worth = read_worth(store, name, version)
    return NOT_EVALUATED if worth is None else worth.verdict


def verify_view(uri: str, reference: str) -> dict[str, Any]:
    """Return the counts of an intact version. Errors: NotFoundError; VerificationError with all findings."""
    store = Store.open(uri)
    name, version = split_reference(reference)
    findings = verify(store, name, version)
    dataset = load_dataset(store, name, version)

    if findings:
        more = [f"... and {len(findings) - SHOWN_FINDINGS} more"] if len(findings) > SHOWN_FINDINGS else []
        lines = [
            f"{name}@{dataset.version} is damaged, {count_of(len(findings), 'finding')}:",
            *map(str, findings[:SHOWN_FINDINGS]),
        ]
        raise VerificationError(
            "\n  ".join([*lines, *more])
            + "\nrepair it with `tailforge rerun RECIPE --stage shards`, which writes the data files again"
        )

    return {"name": name, "version": dataset.version, "files": len(dataset.files), "samples": dataset.counts.samples}


def report_view(uri: str, reference: str) -> str:
    """Return the path or URI of a version's report page, after an evaluation that of the copy with its result.

    Errors: NotFoundError, also for a version without a report.
    """
    store = Store.open(uri)
    page = f"{_report_folder(store, reference)}/index.html"
    if not store.exists(page):
        raise NotFoundError(f"{store.address(page)} is missing; see what else is by `tailforge verify {reference}`")
    return store.address(page)


def _report_folder(store: Store, reference: str) -> str:
    """Return the folder of a version's newest report, relative to the store. Errors: NotFoundError."""
    folder = version_folder(store, *split_reference(reference))
    evaluated = f"{evaluation_folder(*folder.split('/')[-2:])}/report"
    return evaluated if store.exists(f"{evaluated}/index.html") else f"{folder}/report"


def summary_view(uri: str, reference: str) -> Any:
    """Return the facts in a version's report; None for an old version without a summary.

    Errors: NotFoundError; VerificationError for a summary that is no JSON.
    """
    store = Store.open(uri)
    path = f"{_report_folder(store, reference)}/summary.json"
    try:
        return parse_json(store.read(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise VerificationError(
            f"{store.uri}/{path} is damaged: {describe_damage(error)}; `tailforge verify {reference}` lists all damage"
        ) from error


def diff_view(uri: str, before: str, after: str) -> dict[str, Any]:
    """Return the changes between two versions: counts of rows, counts by changed column, and every changed sample.

    Errors: NotFoundError, VerificationError.
    """
    store = Store.open(uri)
    old, new = (open_version(store, *split_reference(reference), ("manifest",)) for reference in (before, after))
    for each in (old, new):
        each.read_table("manifest", COMPARED)

    found = compare_versions(store, old.folder, new.folder)
    fields = Counter(name for names in found.changed.values() for name in names)
    rows = [{"sample_id": sample_id, "change": "added", "fields": []} for sample_id in found.added]
    rows += [{"sample_id": sample_id, "change": "removed", "fields": []} for sample_id in found.removed]
    rows += [{"sample_id": each, "change": "changed", "fields": list(names)} for each, names in found.changed.items()]
    return {
        "added": len(found.added),
        "removed": len(found.removed),
        "changed": len(found.changed),
        "fields": dict(fields.most_common()),
        "rows": rows,
    }


def export_view(uri: str, reference: str, format_name: str, out: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Write a version, or some of its splits, into `out` in another tool's format; return the outcome.

    Errors: UserError.
    """
    return export_version(Store.open(uri), *split_reference(reference), format_name, out, splits)


def published_version(uri: str, name: str) -> str | None:
    """Return the latest version of a dataset in a store; None without one."""
    return latest_version(Store.open(uri), name)
