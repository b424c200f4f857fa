"""Reference photographs: found in order, and refused with a clear text."""

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailforge.catalog.pictures import show_rgb
from tailforge.catalog.sources.references import SMALLEST_SIDE, digest_references, open_references, require_references
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.recipe import Concept


def concept(references: str | None = "photos") -> Concept:
    return Concept(name="gear", wanted=1, references=references)


def photograph(path: Path, colour: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SMALLEST_SIDE, SMALLEST_SIDE), (colour, 0, 0)).save(path)
    return path


def test_photographs_are_listed_by_name_and_digested(tmp_path: Path) -> None:
    files = [photograph(tmp_path / "photos" / name, i) for i, name in enumerate(["a.png", "b.JPG", "c.webp"])]
    for hidden in (".hidden.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "photos" / hidden).write_text("not an image")
    assert [photograph.file for photograph in open_references(tmp_path, concept())] == files
    assert digest_references(tmp_path, concept()) == tuple(hashlib.sha256(f.read_bytes()).hexdigest() for f in files)


def test_a_concept_without_folder_has_none(tmp_path: Path) -> None:
    assert list(open_references(tmp_path, concept(None))) == []
    assert digest_references(tmp_path, concept(None)) == ()


def _empty(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / ".DS_Store").write_text("no image")


def _others(folder: Path) -> None:
    photograph(folder / "photos" / "a.png")
    for name in ("b.gif", "c.HEIC", "notes.txt"):
        (folder / "photos" / name).write_text("no image")
    (folder / "photos" / "more.png").mkdir()


def _small(folder: Path) -> None:
    photograph(folder / "photos" / "a.png")
    Image.new("RGB", (64, SMALLEST_SIDE - 1)).save(folder / "photos" / "b.png")


def _bomb(folder: Path) -> None:
    """A PNG of a few bytes whose header says 20,000 x 20,000."""
    content = photograph(folder / "photos" / "b.png").read_bytes()
    header = b"IHDR" + struct.pack(">2I", 20_000, 20_000) + content[24:29]
    crc = struct.pack(">I", zlib.crc32(header))
    (folder / "photos" / "b.png").write_bytes(content[:12] + header + crc + content[33:])


def _file(folder: Path) -> None:
    (folder / "photos").write_text("a file")


def _broken(folder: Path) -> None:
    photograph(folder / "photos" / "a.png")
    (folder / "photos" / "b.png").write_bytes((folder / "photos" / "a.png").read_bytes()[:40])


def _garbage(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "b.png").write_bytes(b"nothing like an image")


def _linked_folder(folder: Path) -> None:
    photograph(folder.parent / "elsewhere" / "a.png")
    (folder / "photos").symlink_to(folder.parent / "elsewhere")


def _linked_file(folder: Path) -> None:
    outside = photograph(folder.parent / "elsewhere" / "a.png")
    (folder / "photos").mkdir()
    (folder / "photos" / "a.png").symlink_to(outside)


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda folder: None, "is not a folder"), (_file, "is not a folder"), (_empty, "holds no image"),
        (_broken, r"b\.png cannot be read"), (_garbage, r"b\.png cannot be read"),
        (_others, r"holds b\.gif, c\.HEIC, more\.png, notes\.txt, which cannot be read as photographs; save images as"),
        (_small, r"b\.png has 64 x 15 pixels; give a photograph of 16 x 16 or more"),
        (_bomb, r"b\.png cannot be read as an image: it has more than 178,956,970 pixels, too many to be opened"),
        (_linked_folder, "leaves the recipe's folder"), (_linked_file, "leaves the recipe's folder"),
    ],
)  # fmt: skip
def test_unusable_references_are_named(tmp_path: Path, arrange: Callable[[Path], None], message: str) -> None:
    folder = tmp_path / "recipe"
    folder.mkdir()
    arrange(folder)
    with pytest.raises(RecipeError, match=message) as raised:
        list(open_references(folder, concept()))
    assert "'gear'" in str(raised.value)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "photos/../../elsewhere"])
def test_a_path_cannot_leave_the_recipes_folder(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "recipe"
    photograph(folder / "photos" / "a.png")
    photograph(tmp_path / "elsewhere" / "a.png")
    with pytest.raises(RecipeError, match="leaves the recipe's folder"):
        list(open_references(folder, concept(path)))


def test_a_search_needs_three_different_photographs(tmp_path: Path) -> None:
    for number in range(2):
        photograph(tmp_path / "photos" / f"{number}.png", number)
    with pytest.raises(RecipeError, match=r"holds 2 photograph\(s\); give 3 or more"):
        require_references(tmp_path, concept())
    photograph(tmp_path / "photos" / "2.bmp", 1)  # the same pixels in another file format
    with pytest.raises(RecipeError, match=r"1\.png and 2\.bmp are the same picture"):
        require_references(tmp_path, concept())
    photograph(tmp_path / "photos" / "2.bmp", 2)
    assert require_references(tmp_path, concept()) == digest_references(tmp_path, concept())


def test_a_photograph_is_read_as_a_viewer_shows_it() -> None:
    grey = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    assert np.asarray(show_rgb(grey)).tolist() == np.full((4, 4, 3), 0x80).tolist()
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert np.asarray(show_rgb(clear)).tolist() == np.full((4, 4, 3), 128).tolist()
