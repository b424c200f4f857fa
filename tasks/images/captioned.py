"""Stream captioned images from a published version, a folder or a Parquet file."""

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
from PIL import Image

from tailforge.catalog.images.resizing import resize_image
from tailforge.catalog.pictures import SUFFIXES, show_rgb
from tailforge.catalog.reading.reader import WHOLE, open_dataset
from tailforge.catalog.reading.version import Version, open_version
from tailforge.catalog.store import Store, is_address
from tailforge.catalog.user_paths import usable_path
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ImagesError, NotFoundError, VerificationError
from tailforge.schemas.settings.fields import Fit
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
BATCH = 32  # rows of a Parquet file in memory at a time; our choice

Stream = Callable[[Sequence[int]], Iterator[bytes]]  # yields the image bytes of these rows, in rising order


@dataclass(frozen=True)
class Found:
    """All images of a source, unread. `places` says where each is stored; a missing caption is None."""

    origin: str
    places: Sequence[str]
    captions: Sequence[str | None]
    stream: Stream


@dataclass(frozen=True)
class CaptionedImages:
    """Images that can be read repeatedly, in the order of the captions. `origin` is their name in reports."""

    origin: str
    captions: tuple[str, ...]
    places: tuple[str, ...]
    fit: Fit
    _stream: Callable[[], Iterator[bytes]]

    def __len__(self) -> int:
        return len(self.captions)

    def read(self, height: int, width: int) -> Iterator[NDArray[np.uint8]]:
        """Yield pixels [height, width, 3], one image at a time.

        They are upright by EXIF, in RGB, with grey behind transparent pixels. Errors: ImagesError naming an
        image that is
        broken or, without cropping, has another size.
        """

        def bring_to_size(image: Image.Image) -> Image.Image:
            """Return the image in RGB and, with cropping, at the requested size."""
            shown = show_rgb(image)
            return resize_image(shown, (height, width), self.fit)

        for place, data in zip(self.places, self._stream(), strict=True):
            pixels = decode_image(data, place, bring_to_size)
            if pixels.shape[:2] != (height, width):
                raise ImagesError(
                    f"{place} is {pixels.shape[1]} x {pixels.shape[0]} pixels (width x height), the generator draws "
                    f"{width} x {height}; give images of that size, or set images.fit: crop"
                )
            yield pixels

    def require_readable(self, size: tuple[int, int] | None) -> None:
        """Read every image once; `size` is (height, width) if known. Errors: ImagesError, as `read`."""
        if size is not None:
            deque(self.read(*size), maxlen=0)
            return
        for place, data in zip(self.places, self._stream(), strict=True):
            decode_image(data, place, show_rgb)

    def digest(self) -> str:
        """Return the sha256 (hex) over the bytes of the image files and their captions, in order."""
        whole = hashlib.sha256()
        for caption, data in zip(self.captions, self._stream(), strict=True):
            for part in (caption.encode(), data):
                whole.update(len(part).to_bytes(8, "big"))
                whole.update(part)
        return whole.hexdigest()


def open_captioned(source: ImageSource, folder: Path, seed: int) -> CaptionedImages:
    """Return the requested number of images of a source, chosen at random by `seed`, without reading any.

    `folder`: start of relative paths. Errors: NotFoundError for a missing version, split, folder or file;
    ImagesError for
    unusable images or captions.
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
    """Open the version, folder or Parquet file that the source names. Errors: NotFoundError, ImagesError."""
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
    """Return all captions, with `default` for missing ones. Errors: ImagesError for a missing or empty caption."""
    captions = [default if own is None else own for own in found.captions]
    for place, caption in zip(found.places, captions, strict=True):
        if caption is None:
            raise ImagesError(f"{place} has no caption; {HINT}")
        if not caption.strip():
            raise ImagesError(f"{place} has an empty caption; write what the image shows, or remove the image")
    return [caption.strip() for caption in captions if caption is not None]


def _open_version(source: ImageSource, dataset: str, folder: Path) -> Found:
    """Open the samples of a published version that fulfil `where`.

    Errors: ImagesError if no sample does; VerificationError during streaming for a sample that the shards lack.
    """
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
        raise ImagesError(f"images.where: no sample of {origin} fulfils {_show(source)}; loosen the condition")

    def stream(rows: Sequence[int]) -> Iterator[bytes]:
        # The manifest lists samples in the order of the shards, so one pass finds all of them.
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
    """Return ids and captions of the manifest's rows in the split that fulfil all of `where`.

    Errors: ImagesError for an unknown column or a value of the wrong kind.
    """
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
            f"images.where: {_show(source)} cannot be compared: {error}; give values of the columns' types; {hint}"
        ) from error
    return chosen["sample_id"].to_pylist(), chosen["caption"].to_pylist()


def _show(source: ImageSource) -> str:
    return json.dumps(source.where, default=str)


def _open_folder(folder: Path, root: Path, template: str | None) -> Found:
    """Open a folder of images. No link may leave `root`; `template` captions class folders without own captions.

    Errors: ImagesError for an empty folder or unusable captions.
    """
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
    """Open the images of `classes`, which has one subfolder per class and is `folder` or inside it."""
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
    """Return the caption of an image. Errors: ImagesError if metadata and the file beside it differ."""
    beside = _read_caption(image.with_suffix(".txt"), root)
    if told is not None and beside is not None and told.strip() != beside.strip():
        raise ImagesError(f"{image} has one caption in {METADATA} and another in {image.stem}.txt; leave one")
    return beside if told is None else told


def _read_caption(file: Path, root: Path) -> str | None:
    if not file.is_file() and not file.is_symlink():
        return None
    require_inside(file, root)
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise ImagesError(
            f"{file} cannot be read as a caption: {describe_failure(error)}; write it in UTF-8"
        ) from error


def _read_metadata(file: Path, images: set[str], root: Path) -> dict[str, str]:
    """Return captions by file name; empty without the file. Errors: ImagesError for a repeated name."""
    captions: dict[str, str] = {}
    for number, line in enumerate((_read_caption(file, root) or "").split("\n"), 1):
        if line.strip():
            name, caption = _read_entry(line, f"{file} line {number}", images)
            if name in captions:
                raise ImagesError(f"{file} line {number} names {name} a second time; leave one of the two")
            captions[name] = caption
    return captions


def _read_entry(line: str, place: str, images: set[str]) -> tuple[str, str]:
    """Return name and caption of a line. Errors: ImagesError."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ImagesError(f"{place} is not JSON: {error}; each line is one object with file_name and text") from error

    name, caption = (entry.get("file_name"), entry.get("text")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(caption, str):
        raise ImagesError(f"{place} has no file_name or no text; each line is one object with both, as texts")
    if name not in images:
        raise ImagesError(
            f"{place} names {name}, which is no image in the folder ({', '.join(SUFFIXES)}); add the image or remove "
            "the line"
        )
    if not caption.strip():
        raise ImagesError(f"{place}: {name} has an empty caption; write what the image shows, or remove the image")
    return name, caption


def _open_parquet(file: Path, split: str, template: str | None) -> Found:
    """Open a Parquet file; with a column split, only the rows of `split`. Errors: ImagesError."""
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
    """Yield the images of `rows`, reading a few rows at a time from the row groups that hold one.

    Errors: ImagesError for a damaged file.
    """
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
