"""Publish shards, manifest, rejects, card and metadata as one immutable version.

The files are assembled in a hidden folder beside the versions, dataset.json last. Then tasks/publish/claim.py turns the
folder into a version, completely or not at all.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq
from prefect import task
from pydantic import BaseModel, ConfigDict

from tailforge.catalog.diff import VersionDiff, compare_versions
from tailforge.catalog.metadata.card import write_card
from tailforge.catalog.metadata.croissant import describe_croissant
from tailforge.catalog.registry import DATASET_FILE, DATASETS, latest_version, load_dataset, next_version
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import Changes, Counts, Dataset, FileEntry, ShardEntry
from tailforge.schemas.errors import QuotaError, StoreAccessError
from tailforge.schemas.jobs import BuildContext
from tailforge.schemas.receipts import Receipt
from tailforge.tasks.artifacts.partitions import BuiltPartition, shard_fields
from tailforge.tasks.publish.assemble import assemble, digest_file, locate_shards
from tailforge.tasks.publish.claim import Claim, claim_version, staging_folder
from tailforge.tasks.publish.report import render_version_report
from tailforge.tasks.report.inversion import sum_inversion
from tailforge.tasks.report.outcomes import select_originals
from tailforge.tasks.stages.adaptations import STAGE as ADAPTATIONS
from tailforge.tasks.stages.retry_rule import STAGE_TASK

# Further files of a version by path, or a function that returns them. It receives the hidden folder (relative to the
# store), which holds shards, manifest and rejects, and the number of the new version.
ExtraFiles = Mapping[str, bytes] | Callable[[str, str], Mapping[str, bytes]]
UNREAD = "unread_prompts"  # key of the lineage: prompts that were not drawn; older versions lack it


class Publication(BaseModel):
    """The outcome of publishing; `is_new` is False if the latest version already had this content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    uri: str
    is_new: bool
    changes: Changes
    counts: Counts


@task(task_run_name="publish {build[recipe][name]}", **STAGE_TASK)
def publish_version(
    build: dict[str, Any],
    selection: dict[str, Any],
    partitions: list[dict[str, Any]],
    shards: list[dict[str, Any]],
    rounds: list[dict[str, int]],
    work: list[dict[str, Any]] | None = None,
    unread: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Publish the shards and the report as the next version of the recipe's dataset.

    `rounds`: planned samples by concept per round, from which any sample can be planned and made again. `work`:
    receipts of
    all work for the version, in any order, for the report. `unread`: prompts per concept that were not drawn,
    because the
    generator cannot read the concept in them. Errors: QuotaError, StoreAccessError, DamagedArtifactError.
    """
    context, chosen = BuildContext.model_validate(build), Receipt.model_validate(selection)
    built = [BuiltPartition.model_validate(partition) for partition in partitions]
    written = [Receipt.model_validate(shard) for shard in shards]
    done = [Receipt.model_validate(receipt) for receipt in work or ()]
    store = Store.open(context.store)

    def report(folder: str, version: str) -> Mapping[str, bytes]:
        """Return the files of the report."""
        return render_version_report(store, context, folder, version, built, [*done, chosen, *written], unread or {})

    return publish(store, context, chosen, built, written, report, rounds, unread or {}).model_dump(mode="json")


def publish(
    store: Store,
    build: BuildContext,
    selection: Receipt,
    partitions: Sequence[BuiltPartition],
    shards: Sequence[Receipt],
    extra_files: ExtraFiles,
    rounds: Sequence[Mapping[str, int]] = (),
    unread: Mapping[str, int] | None = None,
) -> Publication:
    """Publish the next version, or return the latest one if it has the same content.

    Errors: QuotaError without a sample to publish; StoreAccessError if a version cannot be claimed.
    """
    name = build.recipe.name
    if not shards:
        raise QuotaError(f"dataset {name}: no image was accepted, so no version can be published; loosen quality.gates")
    tars = locate_shards(store, shards)
    with staging_folder(store, name) as staging:
        folder = staging.folder
        counts = assemble(store, folder, build, selection, partitions, shards)
        draft = _draft(store, folder, build, counts, selection, partitions, shards, rounds, unread or {})
        done: Claim | None = None  # another publisher's claim that this one completed

        while True:
            previous = latest_version(store, name)
            if previous and _is_same(draft, published := load_dataset(store, name, previous)):
                is_new = done is not None and done.version == previous
                if not is_new:
                    mend_version(store, Claim(version=previous, folder=folder, shards=tars), draft)
                return _report(published, is_new=is_new)

            difference = _difference(store, folder, name, previous)
            dataset = _complete(store, folder, draft, previous, difference, extra_files)
            done = claim_version(store, staging, dataset, tars)
            if done is not None and done.folder == folder:
                return _report(dataset, is_new=True)
            if latest_version(store, name) == previous:
                raise StoreAccessError(
                    f"{store.uri}/{DATASETS}/{name}/{dataset.version} is in the way: it holds no {DATASET_FILE}, so it "
                    "is no version; remove it and run the same command again"
                )


def mend_version(store: Store, ours: Claim, draft: Dataset) -> None:
    """Restore lost or damaged data files of a published version from the equal files that `ours` names.

    A shard that is a hard link of the artifact is skipped: `rerun --stage shards` makes it again.
    """
    for path, entry in draft.files.items():
        source, target = ours.origin(path), f"{DATASETS}/{draft.name}/{ours.version}/{path}"
        if store.is_same(source, target):
            continue
        if not store.exists(target) or digest_file(store, target) != entry:
            store.replace(source, target)


def _draft(
    store: Store,
    folder: str,
    build: BuildContext,
    counts: Counts,
    selection: Receipt,
    partitions: Sequence[BuiltPartition],
    shards: Sequence[Receipt],
    rounds: Sequence[Mapping[str, int]],
    unread: Mapping[str, int],
) -> Dataset:
    """Return dataset.json without the parts that depend on the version number."""
    tars = {receipt.details["shard"]: receipt.details["files"]["tar"] for receipt in shards}
    entries = [
        ShardEntry(
            name=receipt.details["shard"],
            split=receipt.details["split"],
            samples=receipt.rows,
            bytes=tars[receipt.details["shard"]]["bytes"],
            sha256=tars[receipt.details["shard"]]["sha256"],
        )
        for receipt in shards
    ]

    files = {f"shards/{entry.name}": FileEntry(bytes=entry.bytes, sha256=entry.sha256) for entry in entries}
    files |= {name: digest_file(store, f"{folder}/{name}") for name in ("manifest.parquet", "rejects.parquet")}

    return Dataset(
        name=build.recipe.name,
        version="0.0.0",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        changes=Changes(),
        counts=counts,
        fields=tuple(shard_fields(build.recipe.sharding)),
        classes=tuple(concept.name for concept in build.recipe.concepts),
        categories=build.recipe.categories,
        recipe=build.recipe.model_dump(mode="json"),
        lineage={
            **_trace_lineage(build, partitions, shards),
            **_sum_inversion(store, folder, build),
            "rounds": [dict(sizes) for sizes in rounds],
            UNREAD: dict(unread),
            "selection": selection.sha256,
        },
        generator_training=build.generator_training,
        shards=tuple(entries),
        files=files,
    )


def _trace_lineage(
    build: BuildContext, partitions: Sequence[BuiltPartition], shards: Sequence[Receipt]
) -> dict[str, Any]:
    """Return the lineage of the dataset: artifacts by stage, models and library versions."""
    tables = [(part.samples, part.masks, part.verdicts, part.preferences, part.augmented) for part in partitions]
    receipts = [receipt for row in tables for receipt in row if receipt] + list(shards)
    fingerprints: dict[str, set[str]] = {ADAPTATIONS.name: {build.adapted}} if build.adapted else {}
    versions: dict[str, set[str]] = {}
    for receipt in receipts:
        fingerprints.setdefault(receipt.stage, set()).add(receipt.fingerprint)
        for library, version in receipt.versions.items():
            versions.setdefault(library, set()).add(version)

    return {
        "fingerprints": {stage: sorted(values) for stage, values in sorted(fingerprints.items())},
        "models": {role: model.record for role, model in build.models.items()},
        **({"images": {place: found.digest for place, found in build.images.items()}} if build.images else {}),
        "references": {concept: list(digests) for concept, digests in sorted(build.references.items())},
        "photographs": {
            use: {"license": licence if isinstance(licence, str) else licence.model_dump()}
            for use, licence in build.licences.items()
        },
        "versions": {library: sorted(values) for library, values in sorted(versions.items())},
    }


def _sum_inversion(store: Store, folder: str, build: BuildContext) -> dict[str, Any]:
    """Return the card's figures on images made from a classifier's weights; empty for other engines."""
    if build.teacher is None:
        return {}
    with store.open_read(f"{folder}/manifest.parquet") as file:
        manifest = pq.ParquetFile(file).read(["concept", "provenance", "parent_id"], use_threads=False)
    return {"inversion": sum_inversion([select_originals(manifest)])}


def _is_same(draft: Dataset, published: Dataset) -> bool:
    """Return whether a version already has exactly these shards, rows, rejects and this recipe."""
    tables = ("manifest.parquet", "rejects.parquet")
    return (draft.shards, draft.recipe) == (published.shards, published.recipe) and all(
        draft.files[name] == published.files.get(name) for name in tables
    )


def _difference(store: Store, folder: str, name: str, previous: str | None) -> VersionDiff:
    if previous is None:
        return VersionDiff((), (), {})
    return compare_versions(store, f"{DATASETS}/{name}/{previous}", folder)


def _complete(
    store: Store, folder: str, draft: Dataset, previous: str | None, difference: VersionDiff, extra_files: ExtraFiles
) -> Dataset:
    """Write card, Croissant and further files, dataset.json last; return the complete record."""
    changes = Changes(
        previous=previous,
        added=len(difference.added) if previous else draft.counts.samples,
        removed=len(difference.removed),
        changed=len(difference.changed),
    )

    dataset = draft.model_copy(update={"version": next_version(previous, difference), "changes": changes})
    further = extra_files(folder, dataset.version) if callable(extra_files) else extra_files
    texts = {
        **further,
        "README.md": write_card(dataset).encode(),
        "croissant.json": (json.dumps(describe_croissant(dataset), indent=1, sort_keys=True) + "\n").encode(),
    }

    files = dict(dataset.files)
    for path, data in texts.items():
        store.write_bytes(f"{folder}/{path}", data)
        files[path] = FileEntry(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    dataset = dataset.model_copy(update={"files": dict(sorted(files.items()))})
    # Do not sort: the recipe's order of attributes and splits decides prompts and splits.
    document = json.dumps(dataset.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    store.write_bytes(f"{folder}/{DATASET_FILE}", document.encode())
    return dataset


def _report(dataset: Dataset, *, is_new: bool) -> Publication:
    return Publication(
        name=dataset.name,
        version=dataset.version,
        uri=f"{DATASETS}/{dataset.name}/{dataset.version}",
        is_new=is_new,
        changes=dataset.changes,
        counts=dataset.counts,
    )
