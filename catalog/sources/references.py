"""Read the reference photographs of a recipe, one folder per concept inside the recipe's folder."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tailforge.catalog.pictures import PHOTOGRAPHS, SUFFIXES, open_picture, show_rgb
from tailforge.catalog.sources.links import leaves
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import PictureError, RecipeError
from tailforge.schemas.recipe import Concept

FEWEST = 3  # photographs from which a search can learn their common features
SMALLEST_SIDE = 16  # pixels, chosen by Tailforge; smaller files are thumbnails or accidents
SYSTEM_FILES = ("desktop.ini", "thumbs.db")  # hidden files of file managers without a leading dot


@dataclass(frozen=True)
class Photograph:
    """A file, the sha256 (hex) of its bytes, and its picture after `show_rgb`."""

    file: Path
    sha256: str
    image: Image.Image


def open_references(folder: Path, concept: Concept) -> Iterator[Photograph]:
    """Yield a concept's photographs in the order of their file names; none without references. `folder`: the recipe's.

    The function decodes each file once and ignores hidden files. Errors: RecipeError for a folder that is missing,
    empty or outside `folder`, for other files in it, and for a broken or too small photograph.
    """
    if concept.references is not None:
        yield from open_photographs(folder, concept.references, f"concept {concept.name!r}: references")


def open_photographs(folder: Path, place: str, field: str) -> Iterator[Photograph]:
    """Yield the photographs in the folder `place` of a recipe's `folder`. `field`: the recipe's key for errors.

    Errors: as `open_references`.
    """
    # The folder must be inside the recipe's folder, also after following links.
    own = folder / usable_path(place, field, RecipeError, folder)
    if leaves(own, folder):
        raise RecipeError(f"{field} {place!r} leaves the recipe's folder {folder}; copy the photographs into it")
    if not own.is_dir():
        raise RecipeError(f"{field} {place!r} is not a folder: {own} does not exist or is a file")

    own = own.resolve()
    for file in _list_photographs(own, f"{field} {place!r}"):
        if leaves(file, folder):
            raise RecipeError(
                f"{field}: {file} is a link that leaves the recipe's folder {folder}; copy the file instead"
            )
        yield _open_photograph(file, field)


def digest_references(folder: Path, concept: Concept) -> tuple[str, ...]:
    """Return the sha256 (hex) of each photograph in the order of `open_references`. Errors: as `open_references`."""
    return tuple(photograph.sha256 for photograph in open_references(folder, concept))


def require_references(folder: Path, concept: Concept) -> tuple[str, ...]:
    """Return `digest_references` of a concept with enough photographs for a search: FEWEST or more, all different.

    Errors: RecipeError with the folder or the two equal files; others as `open_references`.
    """
    found = [(each.file.name, each.sha256, _hash_pixels(each.image)) for each in open_references(folder, concept)]
    field = f"concept {concept.name!r}: references {concept.references!r}"
    if len(found) < FEWEST:
        raise RecipeError(f"{field} holds {len(found)} photograph(s); give {FEWEST} or more, all of the concept itself")

    seen: dict[str, str] = {}
    for name, _, pixels in found:
        if pixels in seen:
            raise RecipeError(
                f"{field}: {seen[pixels]} and {name} are the same picture and would count twice; remove one"
            )
        seen[pixels] = name
    return tuple(sha256 for _, sha256, _ in found)


def _list_photographs(own: Path, field: str) -> list[Path]:
    """Return the photographs in a folder, sorted. Errors: RecipeError for other files, or none."""
    shown = sorted(file for file in own.iterdir() if file.name[0] != "." and file.name.lower() not in SYSTEM_FILES)
    if foreign := [file.name for file in shown if file.suffix.lower() not in SUFFIXES or file.is_dir()]:
        raise RecipeError(
            f"{field} holds {', '.join(foreign[:5])}{', ...' if foreign[5:] else ''}, which cannot be read as "
            f"photographs; save images as {', '.join(SUFFIXES)} and move everything else out of {own}"
        )
    if not shown:
        raise RecipeError(f"{field} holds no image ({', '.join(SUFFIXES)}): {own}")
    return shown


def _hash_pixels(image: Image.Image) -> str:
    """Return a digest of size and pixels, for any file format."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def _open_photograph(file: Path, field: str) -> Photograph:
    """Return a decoded photograph. Errors: RecipeError if it is broken or too small."""
    try:
        content = file.read_bytes()
        image = open_picture(content, PHOTOGRAPHS, show_rgb)
    except (OSError, PictureError) as error:
        raise RecipeError(
            f"{field}: {file} cannot be read as an image: {describe_failure(error)}; replace or remove it"
        ) from error

    if min(image.size) < SMALLEST_SIDE:
        raise RecipeError(
            f"{field}: {file} has {image.width} x {image.height} pixels; give a photograph of {SMALLEST_SIDE} x "
            f"{SMALLEST_SIDE} or more"
        )
    return Photograph(file, hashlib.sha256(content).hexdigest(), image)
