"""Write a whole folder or nothing, with a recipe that editors can check."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailforge.catalog.store import storage_errors
from tailforge.catalog.temporaries import TEMPORARY, hold_folder
from tailforge.schemas.errors import UserError
from tailforge.schemas.recipe_schema import schema_text

RECIPE, SCHEMA = "recipe.yaml", "recipe.schema.json"
MODELINE = f"# yaml-language-server: $schema={SCHEMA}"  # read by editors; the schema is the file beside the recipe


def require_new(folder: Path) -> None:
    """Refuse a folder that holds something or cannot be made, by a UserError."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} exists and is no folder; name another by --out")
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty, and nothing in it is overwritten; name a new folder by --out")
    if not folder.parent.is_dir():
        raise UserError(f"{folder.parent} does not exist; make it, or name another folder by --out")


@contextmanager
def write_whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, which takes its place at the end. Errors: StoreError."""
    temporary = folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    with storage_errors("write", str(folder)), hold_folder(str(temporary)):
        yield temporary
        os.replace(temporary, folder)


def write_recipe_file(folder: Path, text: str) -> None:
    """Write a recipe whose first line names the JSON schema beside it."""
    (folder / RECIPE).write_text(f"{MODELINE}\n{text}", encoding="utf-8")
    (folder / SCHEMA).write_text(schema_text(), encoding="ascii")
