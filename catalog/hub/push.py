"""Push versions, and models that training made, to the Hugging Face Hub.

A version is its tag: the tag is made last, on a commit whose files were compared with ours. `main` is what was pushed
last. After a stop the same push goes on: the client uploads only what the Hub lacks.
"""

import hashlib
import tempfile
from collections.abc import Iterator, Set
from functools import partial
from pathlib import Path
from typing import Any

from tailforge.catalog.hub.layout import RECORD, write_repository
from tailforge.catalog.hub.remote import (
    DATASET,
    KEPT,
    MODEL,
    connect,
    file_address,
    hub_errors,
    list_tags,
    require_repository,
)
from tailforge.catalog.registry import DATASET_FILE, load_dataset, version_folder
from tailforge.catalog.sources.models import digest_model
from tailforge.catalog.store import Store
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.shown import show_text
from tailforge.schemas.errors import HubError, ModelError, UserError

MODEL_FILES = ("model_index.json", "config.json")  # one of them is in every folder that holds a model
MODEL_TAG = "sha256-"
PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}


def push_version(
    store: Store, name: str, version: str, repository: str, *, public: bool = False, dry_run: bool = False
) -> dict[str, Any]:
    """Push a version to a data set repository, with its number as tag; return what was pushed.

    `dry_run`: prepare all files, and send nothing. Errors: UserError for a public repository without `public`, for one
    of another data set, and for a tag with other content; NotFoundError, VerificationError, HubError, StoreError.
    """
    require_repository(repository)
    dataset = load_dataset(store, name, version)
    record = store.read(f"{version_folder(store, name, dataset.version)}/{DATASET_FILE}")
    told = {"name": f"{name}@{dataset.version}", "sha256": hashlib.sha256(record).hexdigest()}
    hub = None if dry_run else connect(writing=True)
    if hub is not None:
        _require_visibility(hub, repository, DATASET, public)
        if (same := _find_pushed(hub, repository, dataset.version, record)) is not None:
            return told | _report(hub, repository, DATASET, dataset.version, same) | {"new": False}

    with tempfile.TemporaryDirectory(prefix="tailforge-push-") as temporary:
        folder = Path(temporary) / "repository"
        write_repository(store, dataset, folder, partial(file_address, repository, dataset.version))
        return told | _send(hub, repository, DATASET, folder, dataset.version, told["name"])


def push_model(folder: Path, repository: str, *, public: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """Push a model's folder to a model repository, with the digest of its weights as tag; return what was pushed.

    Errors: ModelError for a folder without a model or with pickles; others as `push_version`.
    """
    require_repository(repository)
    if not is_model(folder):
        raise ModelError(f"{folder} holds neither {' nor '.join(MODEL_FILES)}; give the folder of a model")
    if pickles := [file for file in _list_files(folder) if Path(file).suffix in PICKLES]:
        raise ModelError(f"{folder} holds {pickles[0]}, which may run code when it is loaded; keep safetensors alone")

    digest = digest_model(folder)
    tag, told = f"{MODEL_TAG}{digest[:16]}", {"name": folder.name, "sha256": digest}
    hub = None if dry_run else connect(writing=True)
    if hub is not None:
        _require_visibility(hub, repository, MODEL, public)
        with hub_errors(repository):
            same = list_tags(hub, repository, MODEL).get(tag)
        if same is not None:
            return told | _report(hub, repository, MODEL, tag, same) | {"new": False}
    return told | _send(hub, repository, MODEL, folder, tag, folder.name)


def is_model(folder: Path) -> bool:
    """Return whether a folder holds a model."""
    return any((folder / name).is_file() for name in MODEL_FILES)


def _require_visibility(hub: Any, repository: str, kind: str, public: bool) -> None:
    """Make the repository, private unless `public`, or find it. Errors: UserError for a public one without `public`."""
    with hub_errors(repository):
        hub.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        private = hub.repo_info(repository, repo_type=kind).private
    if not private and not public:
        raise UserError(f"{repository} on the Hub is public; give --public to push there, or name another repository")


def _find_pushed(hub: Any, repository: str, version: str, record: bytes) -> str | None:
    """Return the commit of a version that is already there, or None.

    Errors: UserError if the repository holds another data set, or other content under this tag.
    """
    with hub_errors(repository):
        commit = list_tags(hub, repository, DATASET).get(version)
        known = _read_record(hub, repository, commit or "main")
    if known is None:
        if commit is not None:
            raise UserError(f"{repository} has a tag {version} that no push made; name another repository")
        return None

    try:
        theirs, ours = (parse_object(each).get("name") for each in (known, record))
    except ValueError as error:
        raise UserError(f"{repository} holds a damaged {RECORD}: {describe_damage(error)}; remove it there") from error
    if theirs != ours:
        raise UserError(f"{repository} holds the data set {show_text(str(theirs))}; name another repository")
    if commit is not None and known != record:
        raise UserError(f"{repository} holds another {version} already, and a version never changes; see its tags")
    return commit


def _read_record(hub: Any, repository: str, revision: str) -> bytes | None:
    """Return the bytes of dataset.json at a revision, or None without one."""
    if not hub.file_exists(repository, RECORD, repo_type=DATASET, revision=revision):
        return None
    return Path(hub.hf_hub_download(repository, RECORD, repo_type=DATASET, revision=revision)).read_bytes()


def _send(hub: Any, repository: str, kind: str, folder: Path, tag: str, label: str) -> dict[str, Any]:
    """Upload a folder in place of what `main` holds, compare, and tag; without a client tell what would be sent.

    Errors: HubError if another push changed the repository meanwhile.
    """
    ours = {path: (folder / path).stat().st_size for path in _list_files(folder)}
    told = {"files": len(ours), "bytes": sum(ours.values())}
    if hub is None:
        return {"repository": repository, "tag": tag, "dry_run": True, **told}

    with hub_errors(repository):
        _require_ours(hub, repository, kind, _list_sizes(hub, repository, kind, "main").keys() - ours.keys())
        pushed = hub.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type=kind,
            commit_message=f"Push {label} by tailforge",
            ignore_patterns=[".*", "*/.*"],
            delete_patterns=["*"],
        )
        if _list_sizes(hub, repository, kind, pushed.oid) != ours:
            raise HubError(f"{repository} on the Hub does not hold what was sent: another push ran; {KEPT}")
        hub.create_tag(repository, repo_type=kind, tag=tag, revision=pushed.oid)
    return _report(hub, repository, kind, tag, pushed.oid) | told | {"new": True}


def _require_ours(hub: Any, repository: str, kind: str, replaced: Set[str]) -> None:
    """Check that a push made the files that this one removes. Errors: UserError."""
    if not replaced:
        return
    pushed = (
        hub.file_exists(repository, RECORD, repo_type=kind)
        if kind == DATASET
        else any(tag.startswith(MODEL_TAG) for tag in list_tags(hub, repository, kind))
    )
    if not pushed:
        raise UserError(
            f"{repository} on the Hub holds {show_text(min(replaced))}, which no push made; name another repository"
        )


def _list_sizes(hub: Any, repository: str, kind: str, revision: str) -> dict[str, int]:
    """Return the size of every file of a revision that is not hidden."""
    entries = hub.list_repo_tree(repository, repo_type=kind, recursive=True, revision=revision)
    return {each.path: each.size for each in entries if hasattr(each, "size") and not each.path.startswith(".")}


def _list_files(folder: Path) -> list[str]:
    """Return the files of a folder without hidden ones, relative to it."""
    return sorted(_visible_files(folder))


def _visible_files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix()


def _report(hub: Any, repository: str, kind: str, tag: str, commit: str) -> dict[str, Any]:
    """Return where something was pushed to, and whether only its owner may read it."""
    prefix = "datasets/" if kind == DATASET else ""
    with hub_errors(repository):
        private = bool(hub.repo_info(repository, repo_type=kind).private)
    return {
        "repository": repository,
        "tag": tag,
        "commit": commit,
        "private": private,
        "url": f"{hub.endpoint}/{prefix}{repository}/tree/{tag}",
    }
