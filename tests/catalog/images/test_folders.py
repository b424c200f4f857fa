"""Folders of images as people have them: each gives records and a report, or one clear error."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.schemas.errors import ImagesError, NotFoundError
from tests.support.image_files import encode, put, red_of, shade


def arrange(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        put(root / name, number)
    return root


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def write(file: Path, content: bytes = b"x") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def test_class_folders_give_one_record_per_image(tmp_path: Path) -> None:
    images = open_images(arrange(tmp_path, "hook/b.png", "gear/a.png", "gear/more/c.png"))
    assert images.ids == ("gear/a.png", "gear/more/c.png", "hook/b.png")
    assert images.labels == ("gear", "gear", "hook")
    assert images.splits == images.groups == images.captions == (None, None, None)
    assert [red_of(data) for data in images.stream()] == [1, 2, 0]
    assert images.origin == str(tmp_path)
    record = images[2]
    assert (record.id, record.source, record.label) == ("hook/b.png", str(tmp_path / "hook/b.png"), "hook")
    assert record.open_image().size == (record.shown.width, record.shown.height) == (6, 4)
    assert record.read_mask() is None
    assert record.instances == ()
    assert [each.id for each in images[1:]] == ["gear/more/c.png", "hook/b.png"]


@pytest.mark.parametrize(
    ("names", "spoken"),
    [
        (("train", "test"), ("train", "test")),
        (("Training", "valid", "TESTING"), ("train", "validation", "test")),
        (("train", "val"), ("train", "validation")),
        (("test",), ("test",)),
    ],
)
def test_folders_of_splits_are_recognised(tmp_path: Path, names: tuple[str, ...], spoken: tuple[str, ...]) -> None:
    arrange(tmp_path, *(f"{name}/{label}/a.png" for name in names for label in ("gear", "hook")))
    images = open_images(tmp_path)
    assert set(images.splits) == set(spoken)
    for name, split in zip(names, spoken, strict=True):
        part = images.of_split(split)
        assert part.origin == str(tmp_path / name)
        assert part.labels == ("gear", "hook")
    with pytest.raises(ImagesError, match=f"has no image of split 'holdout'; it has: {', '.join(sorted(spoken))}"):
        images.of_split("holdout")


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    images = open_images(arrange(tmp_path, "test/a.png", "control/b.png"))
    assert images.labels == ("control", "test")
    assert images.of_split("train") is images


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    arrange(tmp_path, "train/gear/a.png", "val/gear/a.png", "valid/gear/a.png")
    with pytest.raises(ImagesError, match=r"has the folders val and valid, which both mean validation"):
        open_images(tmp_path)


def _nothing(root: Path) -> None:
    del root


SHAPES: dict[str, tuple[tuple[str, ...], Callable[[Path], object], list[str], str | None]] = {
    # name: (images, what is added, labels of the records in their order, part of the report)
    "flat": (("a.png", "b.jpg.png"), _nothing, ["-", "-"], None),
    "classes": (("gear/a.png", "hook/b.png"), _nothing, ["gear", "hook"], None),
    "one class": (("gear/a.png",), _nothing, ["gear"], None),
    "one image in a class": (("gear/a.png", "gear/b.png", "hook/a.png"), _nothing, ["gear", "gear", "hook"], None),
    "nested": (("gear/2020/01/a.png", "gear/2021/a.png"), _nothing, ["gear", "gear"], None),
    "loose beside classes": (("gear/a.png", "z.png"), _nothing, ["gear", "-"], None),
    "unicode": (("größe/ä.png", "日本/画像.png", "é/x y.png"), _nothing, ["größe", "é", "日本"], None),
    "a name that is no UTF-8": (("gear/\udcff.png",), _nothing, ["gear"], None),
    "upper case suffix": (("gear/A.PNG",), _nothing, ["gear"], None),
    "equal images": (("gear/a.png",), lambda root: put(root / "hook/a.png", 0), ["gear", "hook"], None),
    "hidden file": (("gear/a.png",), lambda root: write(root / "gear/.a.png"), ["gear"], "hidden file or folder: 1"),
    "hidden folder": (("gear/a.png",), lambda root: write(root / ".git/a.png"), ["gear"], "hidden file or folder: 1"),
    "macOS archive": (
        ("gear/a.png",),
        lambda root: (write(root / "__MACOSX/gear/._a.png"), write(root / "gear/.DS_Store")),
        ["gear"],
        "file or folder of an operating system: 1",
    ),
    "Windows": (("gear/a.png",), lambda root: write(root / "gear/Thumbs.db"), ["gear"], "operating system: 1"),
    "texts": (("gear/a.png",), lambda root: write(root / "README.md"), ["gear"], "file that is no picture: 1"),
    "foreign format": (
        ("gear/a.png",),
        lambda root: write(root / "gear/a.heic"),
        ["gear"],
        "format that is not read: 1",
    ),
    "empty class": (("gear/a.png",), lambda root: (root / "bolt").mkdir(), ["gear"], "class without an image: 1"),
    "link out": (("gear/a.png",), lambda root: link(root / "gear/b.png", Path("/etc/fstab")), ["gear"], "leaves"),
    "link to a folder": (("gear/x/a.png",), lambda root: link(root / "gear/b", root / "gear/x"), ["gear"], "link to a"),
    "folder linked out": (("gear/a.png",), lambda root: link(root / "hook", Path("/etc")), ["gear"], "leaves"),
    "link in a ring": (
        ("gear/a.png",),
        lambda root: link(root / "gear/b.png", root / "gear/b.png"),
        ["gear"],
        "leaves",
    ),
    "lost link": (
        ("gear/a.png",),
        lambda root: link(root / "gear/b.png", root / "no.png"),
        ["gear"],
        "missing file: 1",
    ),
    "pipe": (("gear/a.png",), lambda root: os.mkfifo(root / "gear/b.png"), ["gear"], "missing file: 1"),
    "link inside": (
        ("gear/a.png",),
        lambda at: link(at / "hook/b.png", Path("../gear/a.png")),
        ["gear", "hook"],
        None,
    ),
    "beside splits": (
        ("train/gear/a.png", "test/gear/a.png"),
        lambda root: (put(root / "unlabelled/a.png"), put(root / "b.png")),
        ["gear", "gear"],
        "beside the folders of the splits: 2",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_folder_gives_records_and_a_report(tmp_path: Path, shape: str) -> None:
    names, add, labels, reported = SHAPES[shape]
    add(arrange(tmp_path / "set", *names))
    images = open_images(tmp_path / "set")
    assert [label or "-" for label in images.labels] == labels
    assert len({*images.ids}) == len(images)
    assert all(record.open_image().size == (6, 4) for record in images)
    report = images.left_out.describe()
    assert report == "nothing was left out" if reported is None else reported in report


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"holds no image; put some there \(\.bmp, .*\), in one subfolder per class"),
        (("gear/a.png", "Gear/b.png"), r"the classes 'Gear' and 'gear' look alike"),
        (("gear/a.png", "gear /b.png"), r"the classes 'gear' and 'gear ' look alike"),
    ],
)
def test_a_folder_that_cannot_be_used_gives_one_error(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    (tmp_path / "set").mkdir()
    arrange(tmp_path / "set", *names)
    with pytest.raises(ImagesError, match=message):
        open_images(tmp_path / "set")


def test_a_source_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing does not exist; give a folder of images"):
        open_images(tmp_path / "nothing")


def test_a_thousand_classes(tmp_path: Path) -> None:
    data = encode(shade(1))
    for number in range(1000):
        write(tmp_path / f"class {number:04d}/a.png", data)
    images = open_images(tmp_path)
    assert images.labels == tuple(f"class {number:04d}" for number in range(1000))


def test_images_that_cannot_be_decoded_are_reported_by_reading_all(tmp_path: Path) -> None:
    arrange(tmp_path, "gear/a.png", "hook/b.png")
    write(tmp_path / "gear/c.png", b"no picture")
    write(tmp_path / "gear/d.png", b"")
    write(tmp_path / "gear/e.png", encode(shade(3))[:-8])
    images = open_images(tmp_path)
    assert len(images) == 5
    read = images.readable()
    assert read.ids == ("gear/a.png", "hook/b.png")
    assert "image that cannot be decoded: 3" in read.left_out.describe()
    with pytest.raises(ImagesError, match=r"c\.png cannot be read as an image: it is no BMP.*; replace or remove it"):
        read.left_out.refuse()
    with pytest.raises(ImagesError, match=r"c\.png cannot be read as an image"):
        images[1].open_image()


def test_the_report_counts_per_reason_with_examples(tmp_path: Path) -> None:
    arrange(tmp_path, "gear/a.png")
    for number in range(5):
        write(tmp_path / f"gear/{number}.xml")
        write(tmp_path / f"gear/.{number}")
    lines = open_images(tmp_path).left_out.lines()
    gear = tmp_path / "gear"
    assert lines == [
        f"hidden file or folder: 5 ({gear}/.0, {gear}/.1, {gear}/.2, ...)",
        f"file that is no picture: 5 ({gear}/0.xml, {gear}/1.xml, {gear}/2.xml, ...)",
    ]


def test_unlabelled_images_are_left_out_where_labels_are_needed(tmp_path: Path) -> None:
    images = open_images(arrange(tmp_path, "gear/a.png", "x.png", "y.png"))
    labelled = images.with_labels()
    assert labelled.labels == labelled.require_labels() == ("gear",)
    assert labelled.left_out.lines() == [f"image without a label: 2 ({tmp_path}/x.png, {tmp_path}/y.png)"]
    with pytest.raises(ImagesError, match=r"x\.png is in no folder of its class"):
        images.require_labels()


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_metadata_of_an_imagefolder_are_read(tmp_path: Path, name: str) -> None:
    """As the library `datasets` reads them: in the folder of a split, with names relative to it."""
    arrange(tmp_path, "train/a.png", "train/deep/b.png", "test/c.png")
    rows = {
        "metadata.jsonl": '{"file_name": "a.png", "text": "a gear, big", "label": "gear", "group": "line 1"}\n'
        '{"file_name": "deep/b.png", "label": 3}\n',
        "metadata.csv": 'file_name,text,label,group\na.png,"a gear, big",gear,line 1\ndeep/b.png,,3,\n',
    }
    (tmp_path / "train" / name).write_text(rows[name])
    images = open_images(tmp_path)
    assert images.ids == ("test/c.png", "train/a.png", "train/deep/b.png")
    assert images.splits == ("test", "train", "train")
    assert images.labels == (None, "gear", "3")
    assert images.captions == (None, "a gear, big", None)
    assert images.groups == (None, "line 1", None)


def test_masks_that_metadata_name_are_no_images(tmp_path: Path) -> None:
    arrange(tmp_path, "train/a.png", "train/b.png", "train/masks/a.png")
    put(tmp_path / "train/masks/a.png", 0, mode="L")
    table = "file_name,label,mask_file_name\na.png,gear,masks/a.png\nb.png,hook,\n"
    (tmp_path / "train/metadata.csv").write_text(table)
    images = open_images(tmp_path)
    assert images.ids == ("train/a.png", "train/b.png")
    assert images.labels == ("gear", "hook")
    mask = images[0].read_mask()
    assert mask is not None
    assert mask.shape == (4, 6)
    assert images[1].read_mask() is None
    assert images.left_out.describe() == "nothing was left out"
    (tmp_path / "train/masks/a.png").unlink()
    with pytest.raises(ImagesError, match=r"masks/a\.png is no file"):
        open_images(tmp_path)[0].read_mask()


def test_texts_beside_images_are_captions(tmp_path: Path) -> None:
    arrange(tmp_path, "gear/a.png", "gear/b.png")
    (tmp_path / "gear/a.txt").write_text("a gear")
    (tmp_path / "gear/notes.txt").write_text("not of an image")
    images = open_images(tmp_path)
    assert images.captions == ("a gear", None)
    assert images.with_captions().ids == ("gear/a.png",)
    assert images.left_out.lines() == [f"file that is no picture: 1 ({tmp_path}/gear/notes.txt)"]
