"""How an assembled folder becomes a version. One publisher gets it, and no reader sees half of it.

On a local disk the folder is renamed, which fails where the version exists.

An object store cannot rename, so publication has two steps there:

1. The publisher creates `datasets/<name>/.claims/after-<previous version>.json` on condition that it does not exist.
   The claim says where every file of the next version lies. It is never changed or removed: it decides for good.
2. Its files are copied into the version's folder, inside the store, dataset.json last: that is publication.

Whoever finds a claim that another made does step 2 for it and then begins anew behind that version. Both may copy at
once, or one go on after a day: they write the same bytes to the same names. So a dead publisher blocks nobody, nobody
waits for anybody, and no clock is asked. Versions are one chain, each with one successor.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from tailforge.catalog.registry import DATASET_FILE, DATASETS, read_record
from tailforge.catalog.store import Store, storage_errors
from tailforge.schemas.dataset import Dataset, FileName, Version
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.errors import StoreAccessError
from tailforge.schemas.receipts import StorePath

CLAIMS = ".claims"


class Claim(BaseModel):
    """Which folder becomes a version. `shards` lie elsewhere in an object store: their addresses by path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version
    folder: str = Field(pattern=r"^datasets/[a-z0-9][a-z0-9_-]{0,63}/\.tmp-[0-9a-z-]{1,64}$")
    shards: Mapping[FileName, StorePath] = {}

    def origin(self, path: str) -> str:
        """Where a file of the version comes from, relative to the store."""
        return self.shards.get(path, f"{self.folder}/{path}")


@dataclass
class Staging:
    """The hidden folder of one publisher. What a claim may have promised must stay until it is published."""

    folder: str
    promised: bool = False


def claim_version(store: Store, staging: Staging, dataset: Dataset, shards: Mapping[str, str]) -> Claim | None:
    """Make the assembled folder the version after `dataset.changes.previous`.

    Returns the claim that holds: this one, or another publisher's, whose version is published then; None where a
    version is in the way on a local disk. Errors: StoreAccessError for what is in the way of an object store's version,
    or for a claim that cannot be kept; StoreError.
    """
    home = f"{DATASETS}/{dataset.name}"
    own, target = Claim(version=dataset.version, folder=staging.folder, shards=shards), f"{home}/{dataset.version}"
    if store.is_local:
        return own if _rename(store, staging.folder, target) else None
    path = f"{home}/{CLAIMS}/after-{dataset.changes.previous or 'nothing'}.json"
    if store.names(target) and not store.exists(path):  # asked in this order: copies follow claims
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
    """Claims of a dataset whose version is not published yet: what they name must stay."""
    home = f"{DATASETS}/{name}"
    claims = [read_claim(store, f"{home}/{CLAIMS}/{each}") for each in store.names(f"{home}/{CLAIMS}")]
    return [claim for claim in claims if not store.exists(f"{home}/{claim.version}/{DATASET_FILE}")]


def read_claim(store: Store, path: str) -> Claim:
    """Errors: StoreAccessError for a file that is no claim."""
    try:
        return Claim.model_validate(parse_object(store.read(path)))
    except ValueError as error:
        raise StoreAccessError(
            f"{store.uri}/{path} is no claim of a version: {describe_damage(error)}; if no build runs, remove it"
        ) from error


def _rename(store: Store, folder: str, target: str) -> bool:
    """False where the target exists. Atomic."""
    try:
        os.rename(store.path(folder), store.path(target))
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        with storage_errors("write", f"{store.uri}/{target}"):
            raise
    return True


def _publish(store: Store, home: str, path: str, claim: Claim) -> None:
    """Do what a claim says, whoever made it and however much of it is done."""
    target = f"{home}/{claim.version}"
    if store.exists(f"{target}/{DATASET_FILE}"):
        return
    try:
        dataset = read_record(store, f"{claim.folder}/{DATASET_FILE}")
        for file, entry in dataset.files.items():
            store.copy(claim.origin(file), f"{target}/{file}", entry.bytes)
        store.copy(f"{claim.folder}/{DATASET_FILE}", f"{target}/{DATASET_FILE}")
    except FileNotFoundError as error:
        if store.exists(f"{target}/{DATASET_FILE}"):  # another was faster, and cleaned up
            return
        raise StoreAccessError(
            f"{store.uri}/{path} claims version {claim.version}, of which a file is gone: {error.filename or error}; "
            f"if no build runs, remove that claim and {store.uri}/{target}, and run the same command again"
        ) from error
    store.remove(claim.folder)
