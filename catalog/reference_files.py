"""Reference photographs that a recipe names: a folder a concept, below the recipe's own folder."""

import hashlib
from pathlib import Path

from PIL import Image

from schemas.errors import RecipeError
from schemas.recipe import Concept

FEWEST = 3  # of which a search can tell what they have in common
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def list_references(folder: Path, concept: Concept) -> list[Path]:
    """A concept's photographs by rising file name; none where it names no folder. `folder`: of the recipe.

    Every photograph is opened and decoded once. Files of other kinds and hidden ones are passed over.
    Errors: RecipeError for a folder that is missing, empty or outside of `folder`, and for a broken photograph.
    """
    if concept.references is None:
        return []
    field = f"concept {concept.name!r}: references"
    own = (folder / concept.references).resolve()
    if not own.is_relative_to(folder.resolve()):
        raise RecipeError(
            f"{field} {concept.references!r} leaves the recipe's folder {folder}; copy the photographs into it"
        )
    if not own.is_dir():
        raise RecipeError(f"{field} {concept.references!r} is not a folder: {own} does not exist or is a file")
    photographs = sorted(file for file in own.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    if not photographs:
        raise RecipeError(f"{field} {concept.references!r} holds no image ({', '.join(SUFFIXES)}): {own}")
    for file in photographs:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise RecipeError(
                f"{field}: {file} is a link that leaves the recipe's folder {folder}; copy the file instead"
            )
        _check_image(file, field)
    return photographs


def require_references(folder: Path, concept: Concept) -> None:
    """Prove that a concept has the photographs that a search needs: `FEWEST` or more, all different.

    Errors: RecipeError that names the folder or the two files, and those of `list_references`.
    """
    files = list_references(folder, concept)
    field = f"concept {concept.name!r}: references {concept.references!r}"
    if len(files) < FEWEST:
        raise RecipeError(f"{field} holds {len(files)} photograph(s); give {FEWEST} to 10, all of the concept itself")
    seen: dict[str, Path] = {}
    for file in files:
        with Image.open(file) as image:
            pixels = hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()
        if pixels in seen:
            raise RecipeError(
                f"{field}: {seen[pixels].name} and {file.name} are the same picture and would count twice; remove one"
            )
        seen[pixels] = file


def digest_references(folder: Path, concept: Concept) -> tuple[str, ...]:
    """sha256 (hex) of each photograph that `list_references` finds, in its order, with the same errors."""
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in list_references(folder, concept))


def _check_image(file: Path, field: str) -> None:
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecipeError(f"{field}: {file} cannot be read as an image: {error}; replace or remove it") from error
