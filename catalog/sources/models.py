"""Locate models by name, folder or pinned hub id, and digest their bytes."""

import hashlib
import re
from pathlib import Path

from tailforge.catalog.sources.code_digest import digest_code
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.shown import show_text
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.settings.inversion import TeacherSource

MODELS = Path(__file__).parents[1] / "models"
HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")
PART = re.compile(r"[A-Za-z0-9][\w-]*")  # folder of a pipeline's part, which never leaves the pipeline's folder
NOT_WEIGHTS = {".md", ".png", ".jpg", ".gitattributes"}  # an edited model card must not change the digest


def model_names() -> list[str]:
    """Return the names of the models in the catalog."""
    return sorted(path.name for path in MODELS.iterdir() if path.is_dir()) if MODELS.is_dir() else []


def name_model(text: str, option: str) -> tuple[str, str | None]:
    """Return `model` and `revision` of a source for catalog:NAME, a folder, or a pinned hub model owner/name@commit.

    Errors: ModelError naming the command's `option`, also for a hub model without its commit.
    """
    if "://" in text:
        raise ModelError(f"{option}: a model is a folder, catalog:NAME or owner/name@COMMIT of the hub, and no address")
    usable_path(text, option, ModelError)
    name, _, revision = (text, "", "") if Path(text).is_dir() else text.partition("@")
    if HUB_ID.match(name) and not Path(name).exists() and not COMMIT.match(revision):
        raise ModelError(
            f"{option} {text!r}: name a model of the hub with its commit (40 hex digits): {option} {name}@COMMIT; or, "
            f"if a folder was meant, {Path(name).resolve()} does not exist"
        )
    return str(Path(name).resolve()) if Path(name).is_dir() else name, revision or None


def resolve_model(source: ModelSource, folder: Path, field: str) -> ResolvedModel:
    """Return a model's location and digest. The digest includes the user's own code, if a teacher has `module`.

    `folder`: the recipe's folder. `field`: the recipe's key for errors. A directory precedes a hub id of the same form.
    Errors: ModelError.
    """
    found = _find_model(source, folder, field)
    if not isinstance(source, TeacherSource) or source.module is None:
        return found
    whole = f"{found.digest} {source.module} {digest_code(source.module, folder, field)}"
    return found.model_copy(update={"digest": hashlib.sha256(whole.encode()).hexdigest()})


def _find_model(source: ModelSource, folder: Path, field: str) -> ResolvedModel:
    """Return the location and digest of a directory or a pinned hub model. Errors: ModelError."""
    path = _directory(source, folder, field)
    if path is not None:
        inner = path / source.subfolder if source.subfolder else path
        if not inner.is_dir():
            raise ModelError(f"{field}: {path} has no folder {source.subfolder!r}")
        return ResolvedModel(path=str(path), subfolder=source.subfolder, digest=digest_model(inner))

    # A commit fixes all bytes of a hub model, so its digest needs no download.
    require_commit(source, folder, field)
    identity = f"{source.model}@{source.revision}/{source.subfolder or ''}"
    return ResolvedModel(
        path=source.model,
        revision=source.revision,
        subfolder=source.subfolder,
        digest=hashlib.sha256(identity.encode()).hexdigest(),
    )


def require_commit(source: ModelSource, folder: Path, field: str) -> None:
    """Check that a hub model is pinned. `folder`: the recipe's, for the error. Errors: ModelError."""
    if source.revision is None or not COMMIT.match(source.revision):
        raise ModelError(
            f"{field}.revision: hub model {source.model!r} must be pinned by its commit (40 hex digits), "
            f"found {source.revision!r}; or, if a directory was meant, it does not exist under {folder}"
        )


def _directory(source: ModelSource, folder: Path, field: str) -> Path | None:
    """Return the directory of a source, or None for a hub id. Errors: ModelError."""
    if source.model.startswith("catalog:"):
        name = source.model.removeprefix("catalog:")
        if name not in model_names():
            raise ModelError(
                f"{field}: the catalog has no model {name!r}; it has: {', '.join(model_names()) or 'none'}"
            )
        return MODELS / name

    named = usable_path(source.model, f"{field}:", ModelError, folder)
    path = (folder / named).resolve()
    if path.is_dir():
        if not path.is_relative_to(folder.resolve()) and not named.is_absolute():
            raise ModelError(f"{field}: {source.model!r} leaves the recipe's folder; give an absolute path instead")
        return path

    if path.is_file():
        raise ModelError(f"{field}: {source.model!r} is a file; name the folder that holds a model's configuration and "
                         "weights")  # fmt: skip
    if HUB_ID.match(source.model):
        return None
    raise ModelError(
        f"{field}: {show_text(source.model)} is not a directory ({path} does not exist), a catalog model or a hub id"
    )


def digest_model(path: Path) -> str:
    """Return the sha256 over names and bytes of a model's files; for a pipeline, only the parts in model_index.json.

    Errors: ModelError for a damaged model_index.json.
    """
    index = path / "model_index.json"
    roots = [path]
    if index.is_file():
        try:
            parts = [key for key in parse_object(index.read_bytes()) if PART.fullmatch(key)]
        except ValueError as error:
            raise ModelError(f"{index} is not JSON: {describe_damage(error)}; copy the model again") from error
        roots = [index, *(path / part for part in sorted(parts) if (path / part).is_dir())]

    whole = hashlib.sha256()
    for file in _files(roots):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{file.relative_to(path)}\x1f{content}\n".encode())
    return whole.hexdigest()


def _files(roots: list[Path]) -> list[Path]:
    """Return all files in `roots`, sorted, without model cards, pictures and hidden files."""
    found = [root for root in roots if root.is_file()]
    for root in roots:
        if root.is_dir():
            found += [file for file in root.rglob("*") if file.is_file() and file.suffix not in NOT_WEIGHTS]
    return sorted(file for file in found if not file.name.startswith("."))
