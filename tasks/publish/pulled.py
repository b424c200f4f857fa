"""Publish a version that was pulled from the Hugging Face Hub, after every byte and image of it was checked."""

from typing import Any

from tailforge.catalog.hub.pull import PushedVersion, fetch_version, find_version
from tailforge.catalog.registry import DATASET_FILE, DATASETS, list_versions
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify_folder
from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import UserError, VerificationError
from tailforge.tasks.publish.claim import claim_version, staging_folder

SHOWN = 3


def pull_version(store: Store, repository: str, version: str = "latest") -> dict[str, Any]:
    """Pull a version into the store, completely or not at all; return what was pulled.

    Errors: VerificationError for a damaged or hostile repository; UserError if the store has another version of this
    number; NotFoundError, HubError, StoreError.
    """
    found = find_version(repository, version)
    dataset, is_new = found.dataset, not _is_there(store, found)
    if is_new:
        with staging_folder(store, dataset.name) as staging:
            fetch_version(found, store, staging.folder)
            if findings := verify_folder(store, dataset, staging.folder):
                more = f" and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
                raise VerificationError(
                    f"{repository}@{dataset.version} is damaged, {count_of(len(findings), 'finding')}: "
                    f"{'; '.join(map(str, findings[:SHOWN]))}{more}; nothing was published"
                )
            claim_version(store, staging, dataset, {})
        if not _is_there(store, found):
            raise UserError(
                f"store {store.uri} has another version after {dataset.name}@{dataset.changes.previous}; pull into "
                "another store"
            )

    return {
        "name": f"{dataset.name}@{dataset.version}",
        "repository": repository,
        "commit": found.commit,
        "uri": store.address(f"{DATASETS}/{dataset.name}/{dataset.version}"),
        "sha256": found.sha256,
        "files": len(dataset.files),
        "samples": dataset.counts.samples,
        "new": is_new,
    }


def _is_there(store: Store, found: PushedVersion) -> bool:
    """Return whether the store has this version. Errors: UserError if it has another one of this number."""
    name, version = found.dataset.name, found.dataset.version
    if version not in list_versions(store, name):
        return False
    if store.read(f"{DATASETS}/{name}/{version}/{DATASET_FILE}") != found.record:
        raise UserError(
            f"store {store.uri} has another {name}@{version}, and a version never changes; pull into another store"
        )
    return True
