"""Fetch a version from a data set repository of the Hub. What a repository holds is hostile until it was compared.

dataset.json decides what is fetched: only the files that it names, at one commit, with the sizes that it states, each
compared with its sha256. Files pass through the client's cache (`HF_HOME`), so a stopped pull goes on.
"""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from tailforge.catalog.exports.huggingface import COPY_BYTES
from tailforge.catalog.hub.layout import RECORD, list_places
from tailforge.catalog.hub.remote import DATASET, connect, hub_errors, list_tags, require_repository
from tailforge.catalog.registry import DATASET_FILE, version_number
from tailforge.catalog.store import Store
from tailforge.schemas.dataset import VERSION, Dataset, FileEntry
from tailforge.schemas.documents.foreign_json import MOST_BYTES, describe_damage, parse_object
from tailforge.schemas.documents.shown import count_of, show_text
from tailforge.schemas.errors import NotFoundError, VerificationError

AT_A_TIME = 500  # files per request for sizes


@dataclass(frozen=True)
class PushedVersion:
    """A version in a repository at one commit. `record`: the bytes of its dataset.json."""

    hub: Any
    repository: str
    commit: str
    dataset: Dataset
    record: bytes

    @property
    def sha256(self) -> str:
        """Return the digest of dataset.json, which states the digests of all other files."""
        return hashlib.sha256(self.record).hexdigest()


def find_version(repository: str, version: str) -> PushedVersion:
    """Return a version of a repository, or its latest one for "latest".

    Errors: NotFoundError without such a tag or dataset.json; VerificationError for an impossible dataset.json, or one
    of another version; UserError and HubError as `hub_errors`.
    """
    hub = connect(writing=False)
    with hub_errors(require_repository(repository)):
        tags = {name: commit for name, commit in list_tags(hub, repository, DATASET).items() if VERSION.fullmatch(name)}
    tag = max(tags, key=version_number, default="") if version == "latest" else version
    if tag not in tags:
        known = ", ".join(sorted(tags, key=version_number))
        wanted = "any version" if version == "latest" else f"version {show_text(version)}"
        raise NotFoundError(f"{repository} on the Hub does not hold {wanted}; its versions: {known or 'none'}")

    _require_sizes(hub, repository, tags[tag], {RECORD: None})
    record = _download(hub, repository, tags[tag], RECORD)
    with open(record, "rb") as file:
        data = file.read()
    try:
        dataset = Dataset.model_validate(parse_object(data))
    except ValueError as error:
        raise VerificationError(
            f"{RECORD} of {repository}@{tag} is damaged: {describe_damage(error)}; nothing was published"
        ) from error
    if dataset.version != tag:
        raise VerificationError(f"tag {tag} of {repository} holds version {dataset.version}; nothing was published")
    return PushedVersion(hub, repository, tags[tag], dataset, data)


def fetch_version(found: PushedVersion, store: Store, folder: str) -> None:
    """Write all files of a version into a folder of the store, dataset.json last.

    Errors: VerificationError for a file of another size or sha256 than dataset.json states; NotFoundError, HubError,
    StoreError.
    """
    places, files = list_places(found.dataset), found.dataset.files
    _require_sizes(found.hub, found.repository, found.commit, {places[path]: files[path].bytes for path in files})
    for path, entry in files.items():
        local = _download(found.hub, found.repository, found.commit, places[path])
        store.write(f"{folder}/{path}", partial(_copy_checked, local, entry, f"{path} of {found.repository}"))
    store.write_bytes(f"{folder}/{DATASET_FILE}", found.record)


def _require_sizes(hub: Any, repository: str, commit: str, expected: dict[str, int | None]) -> None:
    """Compare sizes before anything is fetched; None is any size of a JSON document that is read here.

    Errors: NotFoundError, VerificationError.
    """
    places = list(expected)
    for start in range(0, len(places), AT_A_TIME):
        asked = places[start : start + AT_A_TIME]
        with hub_errors(repository):
            sizes = {
                each.path: getattr(each, "size", None)
                for each in hub.get_paths_info(repository, asked, repo_type=DATASET, revision=commit)
            }
        for place in asked:
            size, stated = sizes.get(place), expected[place]
            if size is None:
                raise NotFoundError(f"{repository} on the Hub lacks {place}: no whole version was pushed there")
            if size != stated if stated is not None else size > MOST_BYTES:
                limit = f"dataset.json says {stated}" if stated is not None else f"at most {MOST_BYTES} are read"
                raise VerificationError(
                    f"{place} of {repository} has {count_of(size, 'byte')}, {limit}; nothing was published"
                )


def _download(hub: Any, repository: str, commit: str, place: str) -> str:
    """Return the local path of a file in the client's cache. Errors: as `hub_errors`."""
    with hub_errors(repository):
        return str(hub.hf_hub_download(repository, place, repo_type=DATASET, revision=commit))


def _copy_checked(local: str, entry: FileEntry, label: str, out: IO[bytes]) -> None:
    """Copy a file of the cache and compare its sha256. Errors: VerificationError; the cache then forgets the file."""
    digest = hashlib.sha256()
    with open(local, "rb") as file:
        while data := file.read(COPY_BYTES):
            digest.update(data)
            out.write(data)
    if digest.hexdigest() != entry.sha256:
        with suppress(OSError):
            os.unlink(os.path.realpath(local))
        raise VerificationError(
            f"{label} has sha256 {digest.hexdigest()}, its dataset.json says {entry.sha256}; nothing was published"
        )
