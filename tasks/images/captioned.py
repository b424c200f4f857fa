"""Captioned images from where a user keeps them: a published version, a folder, a Parquet file. They are streamed."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tailforge.catalog.pictures import SUFFIXES, show_rgb
from tailforge.catalog.reading.reader import WHOLE, open_dataset
from tailforge.catalog.reading.version import Version, open_version
from tailforge.catalog.store import Store, is_address
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError, NotFoundError, VerificationError
from tailforge.schemas.training.generator import ImageSource, filters_of
from tailforge.tasks.images.class_captions import DEFAULT, HINT, TEXTS, caption_classes, caption_rows, find_class_folder
from tailforge.tasks.images.image_bytes import (
    decode_image,
    list_image_files,
    read_image_file,
    require_image_column,
    require_inside,
    take_image_bytes,
)
from tailforge.tasks.images.labelled import choose_rows, list_class_files, rows_of_split

METADATA = "metadata.jsonl"
BATCH = 32  # rows of a Parquet file that are in memory at a time: a choice of ours

Stream = Callable[[Sequence[int]], Iterator[bytes]]  # bytes of the images of these rows, which rise


@dataclass(frozen=True)
class Found:
    """All images of a source, none of them read. `places` says where each lies; a caption is None where it has none."""

    origin: str
    places: Sequence[str]
    captions: Sequence[str | None]
    stream: Stream


@dataclass(frozen=True)
class CaptionedImages:
    """Images that are read in the captions' order, as often as wanted. `origin` is what reports call them."""

    origin: str
    captions: tuple[str, ...]
    places: tuple[str, ...]
    fit: str
    _stream: Callable[[], Iterator[bytes]]

    def __len__(self) -> int:
        return len(self.captions)

    def read(self, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """Pixels [height, width, 3], one image at a time.

        Upright as its EXIF says, RGB, what is transparent over grey. Errors: ImagesError that names an image which is
        broken or, without cropping, of another size.
        """

        def bring_to_size(image: Image.Image) -> Image.Image:
            shown = show_rgb(image)
            return ImageOps.fit(shown, (width, height), Image.Resampling.LANCZOS) if self.fit == "crop" else shown

        for place, data in zip(self.places, self._stream(), strict=True):
            pixels = decode_image(data, place, bring_to_size)
            if pixels.shape[:2] != (height, width):
                raise ImagesError(
                    f"{place} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height), the generator draws "
                    f"{width} x {height}; give images of that size, or set images.fit: crop"
                )
            yield pixels

    def require_readable(self, size: tuple[int, int] | None) -> None:
        """Read every image once; `size` is (height, width) where it is known. Errors: ImagesError, as `read`."""
        if size is not None:
            deque(self.read(*size), maxlen=0)
            return
        for place, data in zip(self.places, self._stream(), strict=True):
            decode_image(data, place, show_rgb)

    def digest(self) -> str:
        """sha256 (hex) over the bytes of the images' files and their captions, in order."""
        whole = hashlib.sha256()
        for caption, data in zip(self.captions, self._stream(), strict=True):
            for part in (caption.encode(), data):
                whole.update(len(part).to_bytes(8, "big"))
                whole.update(part)
        return whole.hexdigest()


def open_captioned(source: ImageSource, folder: Path, seed: int) -> CaptionedImages:
    """The images of a source, as many of them as it asks for; the lot is `seed`'s. `folder`: relative paths start here.

    No image is read. Errors: NotFoundError for a version, split, folder or file that does not exist; ImagesError for
    images that cannot be used, or captions.
    """
    found = _open_source(source, folder)
    captions = _complete_captions(found, source.caption)
    if source.images is not None and source.images > len(captions):
        raise ImagesError(
            f"images.images is {source.images}, {found.origin} has {len(captions)}; lower it, or leave it out "
            "to take all"
        )
    rows = choose_rows(np.zeros(len(captions), np.int64), source.images or len(captions), seed).tolist()
    return CaptionedImages(
        origin=found.origin,
        captions=tuple(captions[row] for row in rows),
        places=tuple(found.places[row] for row in rows),
        fit=source.fit,
        _stream=lambda: found.stream(rows),
    )


def _open_source(source: ImageSource, folder: Path) -> Found:
    if source.dataset is not None:
        return _open_version(source, source.dataset, folder)
    assert source.folder is not None
    named = usable_path(source.folder, "images.folder", ImagesError, folder)
    path = (folder / named).resolve()
    if not path.is_relative_to(folder.resolve()) and not named.is_absolute():
        raise ImagesError(
            f"images.folder: {source.folder!r} leaves the recipe's folder {folder}; give an absolute path instead"
        )
    template = None if source.caption is not None else source.class_caption or DEFAULT
    if path.is_dir():
        return _open_folder(path, folder.resolve() if path.is_relative_to(folder.resolve()) else path, template)
    if path.is_file():
        return _open_parquet(path, source.split, template)
    raise NotFoundError(
        f"images.folder: {path} does not exist; give a folder of images or a Parquet file, relative to the recipe"
    )


def _complete_captions(found: Found, default: str | None) -> list[str]:
    captions = [default if own is None else own for own in found.captions]
    for place, caption in zip(found.places, captions, strict=True):
        if caption is None:
            raise ImagesError(f"{place} has no caption; {HINT}")
        if not caption.strip():
            raise ImagesError(f"{place} has an empty caption; write what the image shows, or remove the image")
    return [caption.strip() for caption in captions if caption is not None]


def _open_version(source: ImageSource, dataset: str, folder: Path) -> Found:
    assert source.store is not None
    name, _, version = dataset.partition("@")
    address = source.store
    if not is_address(address):
        address = str(folder / usable_path(address, "images.store", ImagesError, folder))
    opened = open_version(Store.open(address), name, version or "latest", ("manifest",))
    published = opened.dataset.version
    origin = f"{name}@{published} ({source.split})"
    samples = open_dataset(address, published, source.split, name=name, decode=False, **WHOLE)
    keys, captions = _select_rows(opened, source)
    if not keys:
        raise ImagesError(f"images.where: no sample of {origin} fulfils {_show(source)}; loosen it")

    def stream(rows: Sequence[int]) -> Iterator[bytes]:
        """The manifest's rows are in the order of the shards, so one pass meets them all."""
        wanted = [keys[row] for row in reversed(rows)]
        for sample in samples:
            if sample["key"] == wanted[-1]:
                yield sample["image"]
                wanted.pop()
                if not wanted:
                    return
        raise VerificationError(
            f"{origin}: the shards lack sample {wanted[-1]} of the manifest; `tailforge verify` says what is damaged"
        )

    return Found(origin, [f"{origin}: sample {key}" for key in keys], captions, stream)


def _select_rows(version: Version, source: ImageSource) -> tuple[list[str], list[str]]:
    """Ids and captions of the manifest's rows in the split for which all of `where` holds."""
    columns = version.list_columns("manifest")
    hint = f"the manifest of {version.label} has the columns {', '.join(columns)}"
    if unknown := [column for column, _, _ in source.where if column not in columns]:
        raise ImagesError(f"images.where: there is no column {unknown[0]!r}; {hint}")
    filters = [("split", "==", source.split), *filters_of(source)]
    table = version.read_table("manifest", sorted({"sample_id", "caption", *(column for column, _, _ in filters)}))
    try:
        chosen = table.filter(pq.filters_to_expression(filters))
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ImagesError(
            f"images.where: {_show(source)} cannot be compared: {error}; give values of the columns' kinds; {hint}"
        ) from error
    return chosen["sample_id"].to_pylist(), chosen["caption"].to_pylist()


def _show(source: ImageSource) -> str:
    return json.dumps(source.where, default=str)


def _open_folder(folder: Path, root: Path, template: str | None) -> Found:
    """`root`: no link may leave it. `template`: of captions, for class folders in which no image has its own."""
    files = {file.relative_to(folder).as_posix(): file for file in list_image_files(folder, root)}
    if not files:
        raise ImagesError(f"images.folder: {folder} holds no image; put some there ({', '.join(SUFFIXES)})")
    told = _read_metadata(folder / METADATA, set(files), root)
    captions = [_choose_caption(file, told.get(name), root) for name, file in files.items()]
    classes = None if any(each is not None for each in captions) else find_class_folder(folder, list(files))
    if template is not None and classes is not None:
        return _open_classes(folder, classes, root, template)
    return _found_files(folder.name, list(files.values()), captions)


def _open_classes(folder: Path, classes: Path, root: Path, template: str) -> Found:
    """Images of `classes`, one folder a class, which is `folder` or lies in it."""
    files = list_class_files(classes, root)
    names = [file.relative_to(classes).parts[0] for file in files]
    part = "" if classes == folder else f"split: {classes.name}, "
    origin = f"{folder.name} (classes: {len(set(names))}, {part}captions: {template})"
    return _found_files(origin, files, caption_classes(names, template, f"images.folder: {classes}"))


def _found_files(origin: str, files: Sequence[Path], captions: Sequence[str | None]) -> Found:
    places = [str(file) for file in files]

    def stream(rows: Sequence[int]) -> Iterator[bytes]:
        return (read_image_file(Path(places[row])) for row in rows)

    return Found(origin, places, captions, stream)


def _choose_caption(image: Path, told: str | None, root: Path) -> str | None:
    """Errors: ImagesError where metadata and a file beside the image tell two captions."""
    beside = _read_caption(image.with_suffix(".txt"), root)
    if told is not None and beside is not None and told.strip() != beside.strip():
        raise ImagesError(f"{image} has one caption in {METADATA} and another in {image.stem}.txt; leave one")
    return beside if told is None else told


def _read_caption(file: Path, root: Path) -> str | None:
    if not file.is_file() and not file.is_symlink():
        return None
    require_inside(file, root)
    try:
        return file.read_text(encoding="utf-8-sig")  # editors of Windows begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ImagesError(
            f"{file} cannot be read as a caption: {describe_failure(error)}; write it in UTF-8"
        ) from error


def _read_metadata(file: Path, images: set[str], root: Path) -> dict[str, str]:
    """Captions by file name, as far as the file tells them; none where there is no such file."""
    captions: dict[str, str] = {}
    for number, line in enumerate((_read_caption(file, root) or "").split("\n"), 1):
        if line.strip():
            name, caption = _read_entry(line, f"{file} line {number}", images)
            if name in captions:
                raise ImagesError(f"{file} line {number} names {name} a second time; leave one of the two")
            captions[name] = caption
    return captions


def _read_entry(line: str, place: str, images: set[str]) -> tuple[str, str]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ImagesError(f"{place} is not JSON: {error}; each line is one object with file_name and text") from error
    name, caption = (entry.get("file_name"), entry.get("text")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(caption, str):
        raise ImagesError(f"{place} has no file_name or no text; each line is one object with both, as texts")
    if name not in images:
        raise ImagesError(
            f"{place} names {name}, which is no image in the folder ({', '.join(SUFFIXES)}); put it there or remove "
            "the line"
        )
    if not caption.strip():
        raise ImagesError(f"{place}: {name} has an empty caption; write what the image shows, or remove the image")
    return name, caption


def _open_parquet(file: Path, split: str, template: str | None) -> Found:
    """Rows of `split` where the file has a column of that name."""
    hint = "give a Parquet file with columns image and caption, or a folder of images"
    try:
        with pq.ParquetFile(file) as parquet:
            schema, count = parquet.schema_arrow, parquet.metadata.num_rows
            told = [name for name in (*TEXTS, "label", "split") if name in schema.names]
            table = parquet.read(told, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ImagesError(f"{file} cannot be read as Parquet: {describe_failure(error)}; {hint}") from error
    if "image" not in schema.names:
        raise ImagesError(f"{file} has no column 'image'; it has: {', '.join(schema.names)}; {hint}")
    require_image_column(file, schema.field("image").type)
    if not count:
        raise ImagesError(f"{file} has no rows; give a file with captioned images")

    divided = "split" in schema.names
    own = rows_of_split(file, table, split) if divided else range(count)

    def stream(rows: Sequence[int]) -> Iterator[bytes]:
        return _stream_parquet(file, [own[row] for row in rows])

    captions = caption_rows(file, table, own, template)
    origin = f"{file.name} ({split})" if divided else file.name
    return Found(origin, [f"{file}: row {row}" for row in own], captions, stream)


def _stream_parquet(file: Path, rows: Sequence[int]) -> Iterator[bytes]:
    """Reads the row groups that hold a row of `rows`, a few rows of each at a time."""
    wanted = np.asarray(rows, np.int64)
    try:
        with pq.ParquetFile(file) as parquet:
            start = 0
            for group in range(parquet.num_row_groups):
                end = start + parquet.metadata.row_group(group).num_rows
                if np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                    for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=["image"], use_threads=False):
                        low, high = np.searchsorted(wanted, (start, start + len(batch)))
                        for row in wanted[low:high]:
                            yield take_image_bytes(batch.column(0)[int(row) - start].as_py())
                        start += len(batch)
                start = end
    except (pa.ArrowException, OSError) as error:
        raise ImagesError(f"{file} cannot be read as Parquet: {describe_failure(error)}; copy it again") from error
