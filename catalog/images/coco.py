"""Read COCO JSON (https://cocodataset.org/#format-data): images with boxes and masks of their objects."""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import BaseModel, ConfigDict, Field

from tailforge.catalog.images.files import Listing, Places
from tailforge.catalog.images.left_out import Counter
from tailforge.catalog.images.pixels import file_pixels
from tailforge.catalog.images.records import Found, Instance
from tailforge.catalog.images.splits import find_split
from tailforge.catalog.images.tables import locate_files
from tailforge.schemas.documents.foreign_json import describe_damage, parse_object
from tailforge.schemas.documents.run_lengths import decode_rle, fill_runs
from tailforge.schemas.documents.sample import MOST_SIDE
from tailforge.schemas.errors import ImagesError
from tailforge.schemas.settings.annotation import Category

MOST_BYTES = 2**30
MOST_VALUES = 254  # of a mask: 0 is background, 255 ignored
IGNORE = 255
# The usual names of COCO files in a folder: those of Roboflow, of COCO itself, and plain ones.
USUAL = re.compile(r"(.*/)?_annotations\.coco\.json|(annotations/)?instances[^/]*\.json|(annotations|coco)\.json")
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Image(_Read):
    id: int | str
    file_name: str
    width: Side | None = None
    height: Side | None = None


class _Runs(_Read):
    counts: str | list[int]
    size: tuple[Side, Side]


class _Annotation(_Read):
    image_id: int | str
    category_id: int | None = None
    bbox: tuple[float, float, float, float] | None = None
    segmentation: _Runs | list[list[float]] | None = None
    iscrowd: int = 0
    score: float = 1.0
    caption: str | None = None


class _Category(_Read):
    id: int
    name: str
    isthing: int = 1


class _Document(_Read):
    images: list[_Image]
    annotations: list[_Annotation] = []
    categories: list[_Category] = []


def read_coco(file: Path, root: Path | None, left_out: Counter) -> tuple[Found, NDArray[np.int64]]:
    """Return the images of a COCO file, and the rows whose file can be used.

    `root`: folder of the images; by default the JSON file's own, images/ in it or beside it, or one that is named like
    the file. An image's label is the category of its objects if they have one. Values of masks count categories from
    1 in the order of their ids, things first; crowds are 255. Smaller objects cover larger ones.
    Errors: ImagesError for a file that is no COCO, repeats an image, or names an unknown image or category.
    """
    document = _parse(file)
    if not document.images:
        raise ImagesError(f"{file} names no image; give a COCO file with images")
    names = [image.file_name for image in document.images]
    folder = root or _find_folder(file, names[0])
    places = [f"{file}: {name}" for name in names]
    files, rows = locate_files(names, Places(folder), places, left_out)
    if not len(rows):
        raise ImagesError(f"{file}: no image that it names can be used; {left_out.report().first_error()}")

    categories = sorted(document.categories, key=lambda each: (not each.isthing, each.id))
    own = _by_image(file, document)
    values = _number(file, categories, document.annotations)
    seen = [[each for each in annotations if each.category_id is not None] for annotations in own]
    instances = partial(_list_instances, document.images, seen, {each.id: each.name for each in categories}, values)
    captions = [next((each.caption for each in annotations if each.caption), None) for annotations in own]
    has_masks = any(each.segmentation for annotations in seen for each in annotations)
    return Found(
        kind="coco",
        origin=str(file),
        ids=names if len(set(names)) == len(names) else [str(image.id) for image in document.images],
        places=files,
        pixels=file_pixels(files),
        labels=[_only_category(each, categories) for each in seen] if categories else None,
        captions=captions if any(captions) else None,
        absent={"label": f"{file} names no category; a label is the category of an image's objects"},
        unlabelled="no label: {places}; keep images whose objects are of one category",
        categories=tuple(Category(name=each.name, thing=bool(each.isthing)) for each in categories),
        instances=instances,
        mask=partial(_draw_mask, instances) if has_masks else (lambda row: None),
    ), rows


def find_coco(listing: Listing) -> list[str]:
    """Return the COCO files of a folder by their usual names."""
    return [name for name in listing.others if USUAL.fullmatch(name)]


def split_of_coco(name: str) -> str | None:
    """Return the split in a COCO file's name, such as instances_val2017.json, or in that of its folder."""
    words = re.findall(r"[a-z]+", Path(name).stem.lower())
    return next((split for word in (*words, Path(name).parent.name) if (split := find_split(word))), None)


def _parse(file: Path) -> _Document:
    """Return the document. Errors: ImagesError."""
    try:
        return _Document.model_validate(parse_object(file.read_bytes(), MOST_BYTES))
    except (OSError, ValueError) as error:
        raise ImagesError(
            f"{file} cannot be read as COCO: {describe_damage(error)}; give a JSON file with images, annotations and "
            "categories"
        ) from error


def _find_folder(file: Path, name: str) -> Path:
    """Return the first usual folder that holds the first image, else the JSON file's own."""
    split = file.stem.rpartition("_")[2]
    beside = file.parent.parent
    usual = [file.parent, file.parent / "images", file.parent / "data", file.parent / split]
    usual += [beside, beside / "images", beside / split, beside / "images" / split]
    return next((folder for folder in usual if (folder / name).is_file()), file.parent)


def _by_image(file: Path, document: _Document) -> list[list[_Annotation]]:
    """Return the annotations per image. Errors: ImagesError for a repeated or an unknown image."""
    rows = {image.id: row for row, image in enumerate(document.images)}
    if len(rows) < len(document.images):
        raise ImagesError(f"{file} gives two images one id; give each its own")
    own: Mapping[int, list[_Annotation]] = defaultdict(list)
    for annotation in document.annotations:
        if annotation.image_id not in rows:
            raise ImagesError(
                f"{file} annotates image {annotation.image_id!r}, which it does not name; add or remove it"
            )
        own[rows[annotation.image_id]].append(annotation)
    return [own[row] for row in range(len(document.images))]


def _number(file: Path, categories: Sequence[_Category], annotations: Sequence[_Annotation]) -> dict[int, int]:
    """Return the value in masks per category's id. Errors: ImagesError for a repeated or an unknown category."""
    values = {category.id: value for value, category in enumerate(categories, 1)}
    if len(values) < len(categories):
        raise ImagesError(f"{file} gives two categories one id; give each its own")
    unknown = {each.category_id for each in annotations} - {None, *values}
    if unknown:
        raise ImagesError(f"{file} annotates category {min(map(str, unknown))}, which it does not name; add its name")
    return values


def _only_category(annotations: Sequence[_Annotation], categories: Sequence[_Category]) -> str | None:
    found = {each.category_id for each in annotations}
    return next((each.name for each in categories if found == {each.id}), None)


def _list_instances(
    images: Sequence[_Image],
    own: Sequence[Sequence[_Annotation]],
    names: Mapping[int, str],
    values: Mapping[int, int],
    row: int,
) -> tuple[Instance, ...]:
    found = []
    for each in own[row]:
        assert each.category_id is not None
        region = None if not each.segmentation else partial(_draw_region, images[row], each.segmentation)
        name, value = names[each.category_id], values[each.category_id]
        found.append(Instance(name, value, each.bbox, each.score, bool(each.iscrowd), region))
    return tuple(found)


def _draw_region(image: _Image, segmentation: Any) -> NDArray[np.bool_]:
    """Return the pixels of an object, bool [height, width]. Errors: ImagesError."""
    try:
        if isinstance(segmentation, _Runs):
            counts, size = segmentation.counts, segmentation.size
            return decode_rle(counts, *size) if isinstance(counts, str) else fill_runs(counts, *size)
        if image.width is None or image.height is None:
            raise ValueError("the image has no width or height")
        canvas = Image.new("L", (image.width, image.height))
        for polygon in segmentation:
            if len(polygon) < 6 or len(polygon) % 2:
                raise ValueError(f"a polygon of {len(polygon)} numbers; give x and y of three corners or more")
            ImageDraw.Draw(canvas).polygon(polygon, fill=1)
        return np.asarray(canvas, bool)
    except ValueError as error:
        raise ImagesError(f"the region of an object of {image.file_name} cannot be used: {error}; mend it") from error


def _draw_mask(instances: Callable[[int], tuple[Instance, ...]], row: int) -> NDArray[np.uint8] | None:
    """Return the values of a mask, uint8 [height, width]; None without a region. Errors: ImagesError."""
    drawn = [(each.region(), IGNORE if each.crowd else each.value) for each in instances(row) if each.region]
    if not drawn:
        return None
    if len({region.shape for region, _ in drawn}) > 1:
        raise ImagesError(
            f"regions of one image have the sizes {sorted({region.shape for region, _ in drawn})}; mend them"
        )
    if any(value > MOST_VALUES for _, value in drawn if value != IGNORE):
        raise ImagesError(f"a mask holds {MOST_VALUES} categories at most; leave categories out")

    mask = np.zeros(drawn[0][0].shape, np.uint8)
    for region, value in sorted(drawn, key=lambda each: -int(each[0].sum())):
        mask[region] = value
    return mask
