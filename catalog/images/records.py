"""Records of images before decoding: what a source says of each image, in columns, and how its bytes are read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.catalog.images.left_out import UNCAPTIONED, UNLABELLED, UNREADABLE, Counter, LeftOut
from tailforge.catalog.images.pixels import Pixels
from tailforge.catalog.images.splits import match_split
from tailforge.catalog.pictures import PHOTOGRAPHS, Shown, measure_shown, open_picture, show_picture
from tailforge.schemas.documents.shown import show
from tailforge.schemas.errors import ImagesError, NotFoundError, PictureError
from tailforge.schemas.settings.annotation import Category
from tailforge.schemas.settings.fields import look, tidy

SHOWN = 5  # images named in an error
NO_LABEL = "no label: {places}; label each image or remove it"

Column = Sequence[str | None]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Instance:
    """One object of an image. `box`: x, y, width and height in pixels from the top left.

    `value`: its category's number in masks, counted from 1. `region` returns its pixels, bool [height, width].
    """

    category: str
    value: int
    box: Box | None = None
    score: float = 1.0
    crowd: bool = False
    region: Callable[[], NDArray[np.bool_]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Found:
    """All images of a source, in columns of equal length; a column is None where the source has none.

    `origin` is the source's name in reports, `places` that of each image in errors. `absent` is the error for a missing
    column. `unlabelled` is the error for images without a label. `split_origins` are the origins of single splits.
    `mask` returns values uint8 [height, width] of an image, `instances` its objects.
    """

    kind: str
    origin: str
    ids: Sequence[str]
    places: Sequence[str]
    pixels: Pixels
    labels: Column | None = None
    splits: Column | None = None
    groups: Column | None = None
    captions: Column | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    unlabelled: str = NO_LABEL
    split_origins: Mapping[str, str] = field(default_factory=dict)
    categories: tuple[Category, ...] = ()
    instances: Callable[[int], tuple[Instance, ...]] = lambda row: ()
    mask: Callable[[int], NDArray[np.uint8] | None] = lambda row: None


@dataclass(frozen=True)
class Record:
    """One image. `id` is unique in its source; `source` says where the image is stored.

    Nothing is decoded before it is used. Errors of all methods: ImagesError naming `source`.
    """

    id: str
    source: str
    label: str | None
    split: str | None
    group: str | None
    caption: str | None
    _found: Found = field(repr=False, compare=False)
    _row: int = field(repr=False, compare=False)

    def read_bytes(self) -> bytes:
        """Return the bytes of the image file."""
        return self._found.pixels.read(self._row)

    def open_image(self) -> Image.Image:
        """Return the picture as a viewer shows it: upright, mode L or RGB; see `catalog.pictures.show_picture`."""
        return decode_picture(self.read_bytes(), self.source)

    def read_mask(self) -> NDArray[np.uint8] | None:
        """Return the values of the mask, uint8 [height, width]; None without a mask."""
        return self._found.mask(self._row)

    @property
    def is_published(self) -> bool:
        """Whether the image is a sample of a published version."""
        return self._found.kind == "version"

    @property
    def is_empty(self) -> bool:
        """Whether a COCO file says that the image shows no object."""
        return self._found.kind == "coco" and not self.instances

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The image's objects."""
        return self._found.instances(self._row)

    @cached_property
    def shown(self) -> Shown:
        """Width, height and channels of the picture that `open_image` returns, by the file's header alone."""
        try:
            return measure_shown(self.read_bytes(), PHOTOGRAPHS)
        except PictureError as error:
            raise _unreadable(self.source, error) from error

    @property
    def channels(self) -> int:
        """1 for a grey picture, 3 for one in colour."""
        return self.shown.channels


@dataclass(frozen=True, eq=False)
class Images(Sequence[Record]):
    """Some images of a source as a sequence of records; the columns are properties.

    `rows` are their numbers in the source, rising. `left_out` reports what the source holds besides.
    """

    found: Found
    rows: NDArray[np.int64]
    origin: str
    left_out: LeftOut = field(default_factory=LeftOut)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "Images": ...
    def __getitem__(self, place: int | slice) -> "Record | Images":
        if isinstance(place, slice):
            return replace(self, rows=self.rows[place])
        row, found = int(self.rows[place]), self.found
        told = (found.splits, found.groups, found.captions)
        split, group, caption = (None if column is None else column[row] for column in told)
        label = None if found.labels is None else found.labels[row]
        label = None if label is None else tidy(label)
        return Record(found.ids[row], found.places[row], label, split, group, caption, found, row)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Unique names of the images in their source."""
        return tuple(self.found.ids[row] for row in self.rows)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Where the images are stored, for errors."""
        return tuple(self.found.places[row] for row in self.rows)

    @cached_property
    def labels(self) -> tuple[str | None, ...]:
        """Class names in their stored form; None for a missing one."""
        return tuple(None if label is None else tidy(label) for label in self.labels_as_found)

    @cached_property
    def labels_as_found(self) -> tuple[str | None, ...]:
        """Class names as the source spells them."""
        return self._take(self.found.labels)

    @cached_property
    def splits(self) -> tuple[str | None, ...]:
        """Splits as the source names them."""
        return self._take(self.found.splits)

    @cached_property
    def groups(self) -> tuple[str | None, ...]:
        """Groups, whose images belong in one split."""
        return self._take(self.found.groups)

    @cached_property
    def captions(self) -> tuple[str | None, ...]:
        """Captions as the source writes them."""
        return self._take(self.found.captions)

    def read(self, place: int) -> bytes:
        """Return the bytes of one image file. Errors: ImagesError."""
        return self.found.pixels.read(int(self.rows[place]))

    def file_of(self, place: int) -> str | None:
        """Return the path of one image file; None for bytes in a table, a tar or a version."""
        return self.found.pixels.file_of(int(self.rows[place]))

    def stream(self, places: Sequence[int] | NDArray[np.int64] | None = None) -> Iterator[bytes]:
        """Yield the bytes of some image files, by default of all; rising places cost one pass. Errors: ImagesError."""
        return self.found.pixels.stream(self.rows if places is None else self.rows[np.asarray(places, np.int64)])

    def select(self, places: Sequence[int] | NDArray[np.int64], origin: str | None = None) -> "Images":
        """Return the images at some places, in this order."""
        rows = self.rows[np.asarray(places, np.int64)]
        return Images(self.found, rows, self.origin if origin is None else origin, self.left_out)

    def of_split(self, split: str) -> "Images":
        """Return the images of a split; all if the source has no splits.

        Errors: ImagesError, or NotFoundError for a version, if the source has other splits only.
        """
        if self.found.splits is None:
            return self
        name = match_split(split, self.splits)
        if name is None:
            known = ", ".join(sorted({each for each in self.splits if each is not None})) or "none"
            if self.found.kind == "version":
                raise NotFoundError(f"{self.origin} has no split {split!r}; it has: {known}")
            raise ImagesError(f"{self.origin} has no {self._unit} of split {split!r}; it has: {known}")
        places = [place for place, each in enumerate(self.splits) if each == name]
        return self.select(places, self.found.split_origins.get(name, f"{self.origin} ({name})"))

    def require_labels(self) -> tuple[str, ...]:
        """Return the labels. Errors: ImagesError naming the images without one, and that of `check_classes`."""
        if self.found.labels is None:
            raise ImagesError(self.found.absent.get("label", f"{self.origin} has no labels"))
        self.check_classes()
        missing = [source for source, label in zip(self.sources, self.labels, strict=True) if label is None]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            places = f"{', '.join(missing[:SHOWN])}{more}"
            raise ImagesError(self.found.unlabelled.format(places=places, first=missing[0]))
        return tuple(label for label in self.labels if label is not None)

    def check_classes(self) -> "Images":
        """Return the same images. Errors: ImagesError for two class names that look alike."""
        tidy_classes(self.labels_as_found, self.origin)
        return self

    def with_labels(self) -> "Images":
        """Return the images that have a label; the others are reported in `left_out`."""
        return self._keep([label is not None for label in self.labels], UNLABELLED)

    def with_captions(self) -> "Images":
        """Return the images that have a caption; the others are reported in `left_out`."""
        return self._keep([bool(caption and caption.strip()) for caption in self.captions], UNCAPTIONED)

    def readable(self) -> "Images":
        """Decode every image; return those that can be, and report the others in `left_out`."""
        counter, places = Counter(), []
        for place, source in enumerate(self.sources):
            try:
                open_picture(self.read(place), PHOTOGRAPHS, show_picture)
                places.append(place)
            except (PictureError, ImagesError) as error:
                counter.add(UNREADABLE, source, str(error))
        kept = self.select(places)
        return replace(kept, left_out=self.left_out.joined(counter.report()))

    @property
    def _unit(self) -> str:
        return "row" if self.found.kind == "table" else "image"

    def _take(self, column: Column | None) -> tuple[str | None, ...]:
        return (None,) * len(self) if column is None else tuple(column[row] for row in self.rows)

    def _keep(self, flags: Sequence[bool], reason: object) -> "Images":
        counter = Counter()
        for source, flag in zip(self.sources, flags, strict=True):
            if not flag:
                counter.add(reason, source)  # type: ignore[arg-type]
        kept = self.select(np.flatnonzero(np.array(flags, bool)))
        return replace(kept, left_out=self.left_out.joined(counter.report()))


def tidy_classes(labels: Column, origin: str) -> tuple[str | None, ...]:
    """Return the class names in their stored form. Errors: ImagesError for two names that look alike."""
    names = {label: tidy(label) for label in dict.fromkeys(labels) if label is not None}
    seen: dict[str, str] = {}
    for label in names:
        if (other := seen.setdefault(look(label), label)) != label:
            raise ImagesError(
                f"{origin}: the classes {show(other)} and {show(label)} look alike (upper case, spaces and the form of "
                "accents do not count); give both one name, or names that differ"
            )
    return tuple(None if label is None else names[label] for label in labels)


def decode_picture(
    data: bytes, place: str, convert: Callable[[Image.Image], Image.Image] = show_picture
) -> Image.Image:
    """Return the picture in the bytes of a file, brought to 8 bits by `convert`.

    Errors: ImagesError naming `place` for bytes that cannot be decoded.
    """
    try:
        return open_picture(data, PHOTOGRAPHS, convert)
    except PictureError as error:
        raise _unreadable(place, error) from error


def _unreadable(place: str, error: PictureError) -> ImagesError:
    return ImagesError(f"{place} cannot be read as an image: {error}; replace or remove it")
