"""Turn an assembled folder into a version. One publisher succeeds, and no reader sees a partial version.

On a local disk a rename does it, which fails if the version exists.

An object store cannot rename, so publication has two steps there:

1. The publisher creates `datasets/<name>/.claims/after-<previous version>.json` on condition that it does not exist.
The claim lists the location of every file of the next version. It is never changed or removed.
2. The publisher copies the files into the version's folder within the store, dataset.json last. This publishes it.

A publisher that finds another's claim completes step 2 of that claim, then starts again after that version. Two may
copy at once, or one may continue a day later: they write the same bytes to the same names. So a dead publisher blocks
nobody, nobody waits, and no clock matters. Versions form one chain with one successor each.
"""

import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from tailforge.catalog.registry import DATASET_FILE, DATASETS, read_record
from tailforge.catalog.store import Store, storage_errors
from tailforge.catalog.temporaries import TEMPORARY
from tailforge.schemas.dataset import Dataset, FileName, Version
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import StoreAccessError
from tailforge.schemas.receipts import StorePath

CLAIMS = ".claims"


class Claim(BaseModel):
    """The folder of the next version. `shards` maps paths to addresses elsewhere in an object store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version
    folder: str = Field(pattern=r"^datasets/[a-z0-9][a-z0-9_-]{0,63}/\.tmp-[0-9a-z-]{1,64}$")
    shards: Mapping[FileName, StorePath] = {}

    def origin(self, path: str) -> str:
        """Return the source of a file of the version, relative to the store."""
        return self.shards.get(path, f"{self.folder}/{path}")


@dataclass
class Staging:
    """The hidden folder of one publisher. It stays while a claim may need it (`promised`)."""

    folder: str
    promised: bool = False


@contextmanager
def staging_folder(store: Store, name: str) -> Iterator[Staging]:
    """Yield a hidden folder and remove it afterwards. `gc` removes those of killed builds in an object store."""
    staging = Staging(f"{DATASETS}/{name}/{TEMPORARY}{uuid.uuid4().hex}")
    with store.hold_folder(staging.folder):
        try:
            yield staging
        finally:
            if not staging.promised:
                store.remove(staging.folder)


def claim_version(store: Store, staging: Staging, dataset: Dataset, shards: Mapping[str, str]) -> Claim | None:
    """Make the assembled folder the version after `dataset.changes.previous`.

    Returns the valid claim: this one, or that of another publisher, whose version is then published. Returns None if a
    version exists on a local disk. Errors: StoreAccessError for files in the way in an object store or an invalid
    claim;
    StoreError.
    """
    home = f"{DATASETS}/{dataset.name}"
    own, target = Claim(version=dataset.version, folder=staging.folder, shards=shards), f"{home}/{dataset.version}"
    if store.is_local:
        return own if _rename(store, staging.folder, target) else None

    path = f"{home}/{CLAIMS}/after-{dataset.changes.previous or 'nothing'}.json"
    if store.names(target) and not store.exists(path):  # check in this order: copies follow claims
        raise StoreAccessError(
            f"{store.uri}/{target} is in the way: it holds no {DATASET_FILE}, so it is no version; remove it "
            "and run the same command again"
        )

    staging.promised = True
    won = store.create(path, own.model_dump_json().encode())
    claim = own if won else read_claim(store, path)
    staging.promised = won
    _publish(store, home, path, claim)
    staging.promised = False
    return claim


def list_promised(store: Store, name: str) -> list[Claim]:
    """Return the claims of a dataset without a published version; gc must keep the files that they name."""
    home = f"{DATASETS}/{name}"
    claims = [read_claim(store, f"{home}/{CLAIMS}/{each}") for each in store.names(f"{home}/{CLAIMS}")]
    return [claim for claim in claims if not store.exists(f"{home}/{claim.version}/{DATASET_FILE}")]


def read_claim(store: Store, path: str) -> Claim:
    """Return a claim. Errors: StoreAccessError for a file that is no claim."""
    try:
        return Claim.model_validate(parse_object(store.read(path)))
    except ValueError as error:
        raise StoreAccessError(
            f"{store.uri}/{path} is no claim of a version: {describe_damage(error)}; if no build runs, remove it"
        ) from error


def _rename(store: Store, folder: str, target: str) -> bool:
    """Rename a folder atomically; return False if the target exists. Errors: StoreError."""
    try:
        os.rename(store.path(folder), store.path(target))
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        with storage_errors("write", f"{store.uri}/{target}"):
            raise
    return True


def _publish(store: Store, home: str, path: str, claim: Claim) -> None:
    """Complete a claim, by any publisher and from any state. Errors: StoreAccessError if a file is gone."""
    target = f"{home}/{claim.version}"
    if store.exists(f"{target}/{DATASET_FILE}"):
        return

    try:
        dataset = read_record(store, f"{claim.folder}/{DATASET_FILE}")
        for file, entry in dataset.files.items():
            store.copy(claim.origin(file), f"{target}/{file}", entry.bytes)
        store.copy(f"{claim.folder}/{DATASET_FILE}", f"{target}/{DATASET_FILE}")
    except FileNotFoundError as error:
        if store.exists(f"{target}/{DATASET_FILE}"):  # another publisher finished and cleaned up
            return
        raise StoreAccessError(
            f"{store.uri}/{path} claims version {claim.version}, of which a file is gone: {error.filename or error}; "
            f"if no build runs, remove that claim and {store.uri}/{target}, and run the same command again"
        ) from error

    store.remove(claim.folder)
