"""Locate the LoRA files of a generator: a file, a folder with one, or a file of a pinned hub model."""

import hashlib
import re
from pathlib import Path

from tailforge.catalog.sources.links import leaves
from tailforge.catalog.sources.models import HUB_ID, require_commit
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.shown import show_text
from tailforge.schemas.documents.yaml_file import parse_yaml
from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedLora
from tailforge.schemas.settings.pipelines import LORA_FILE, LoraSource

SUFFIX = ".safetensors"
HUB_FILE = "pytorch_lora_weights.safetensors"  # the name that diffusers writes
CARD, FRONT = "README.md", re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")  # an identifier of SPDX or the hub
LONGEST_CARD = 2**20  # bytes


def resolve_lora(source: LoraSource, folder: Path, field: str) -> ResolvedLora:
    """Return the location and digest of a LoRA file. `folder`: the recipe's. `field`: the recipe's key for errors.

    Errors: ModelError for a missing file, one that is no safetensors file, another digest, or a hub model without a
    commit.
    """
    file = _find_file(source, folder, field)
    if file is None:
        return _resolve_pinned(source, folder, field)

    if not re.match(LORA_FILE, file.name):
        raise ModelError(f"{field}: {show_text(file.name)} has signs that a name cannot have; rename the file")

    digest = digest_file(file)
    if source.sha256 not in (None, digest):
        raise ModelError(
            f"{field}.sha256 is {source.sha256}, but {file} has {digest}; put the right file back, or correct the key"
        )
    return ResolvedLora(
        path=str(file.parent), file=file.name, weight=source.weight, digest=digest, license=read_licence(file.parent)
    )


def digest_file(file: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_licence(folder: Path) -> str | None:
    """Return the licence in the front matter of the folder's model card; None if it states none that can be read."""
    card = folder / CARD
    if not card.is_file() or card.stat().st_size > LONGEST_CARD:
        return None
    front = FRONT.search(card.read_text(encoding="utf-8", errors="replace"))
    try:
        data = parse_yaml(front[1], str(card)) if front else None
    except RecipeError:
        return None
    stated = data.get("license") if isinstance(data, dict) else None
    return stated if isinstance(stated, str) and LICENCE.fullmatch(stated) else None


def _resolve_pinned(source: LoraSource, folder: Path, field: str) -> ResolvedLora:
    """Return a file of a hub model, which is not downloaded: its commit fixes the bytes. Errors: ModelError."""
    require_commit(source, folder, field)
    file = source.file or HUB_FILE
    identity = f"{source.model}@{source.revision}/{source.subfolder or ''}/{file}"
    return ResolvedLora(
        path=source.model,
        file=file,
        revision=source.revision,
        subfolder=source.subfolder,
        weight=source.weight,
        digest=source.sha256 or hashlib.sha256(identity.encode()).hexdigest(),
        sha256=source.sha256,
    )


def _find_file(source: LoraSource, folder: Path, field: str) -> Path | None:
    """Return the file of a source, or None for a hub id. Errors: ModelError."""
    named = usable_path(source.model, f"{field}:", ModelError, folder)
    path = folder / named / (source.subfolder or "")
    if path.exists() and not named.is_absolute() and leaves(path, folder):
        raise ModelError(
            f"{field}: {show_text(source.model)} leaves the recipe's folder; give an absolute path instead"
        )
    if path.is_dir():
        return _pick_file(path.resolve(), source.file, field)

    if path.is_file():
        if path.suffix != SUFFIX:
            raise ModelError(
                f"{field}: {show_text(source.model)} is no {SUFFIX} file; only safetensors are loaded, since other "
                "formats can run code; convert the file"
            )
        if source.file is not None:
            raise ModelError(f"{field}.file: {show_text(source.model)} is a file already; leave the key out")
        return path.resolve()
    if HUB_ID.match(source.model):
        return None
    raise ModelError(f"{field}: {show_text(source.model)} is not a file, a folder ({path} does not exist) or a hub id")


def _pick_file(folder: Path, name: str | None, field: str) -> Path:
    """Return the named or the only safetensors file of a folder. Errors: ModelError."""
    found = sorted(file.name for file in folder.glob(f"*{SUFFIX}"))
    if name is None and len(found) != 1:
        listed = f"{len(found)} {SUFFIX} files: {', '.join(found[:5])}" if found else f"no {SUFFIX} file"
        raise ModelError(f"{field}: {folder} has {listed}; name one by {field}.file")
    file = folder / (name or found[0])
    if not file.is_file():
        raise ModelError(f"{field}.file: {folder} has no {name}; it has: {', '.join(found[:5]) or f'no {SUFFIX} file'}")
    return file
