"""Folders of segmentation: pictures in `images`, masks of the same names in `masks`."""

from pathlib import Path

import pytest
from PIL import Image

from tailforge.catalog.images.reader import open_images
from tailforge.schemas.errors import ImagesError


def arrange(root: Path, *names: str, value: int = 0) -> Path:
    """Put pictures, and masks whose pixels are 1, 2 and so on in the order of the names."""
    for name in names:
        is_mask = "masks" in name.lower().split("/")
        value += is_mask
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 4), value if is_mask else 100).save(root / name)
    return root


def values_of(root: Path) -> dict[str, int]:
    """Return the value of each image's mask by the image's id."""
    found = {}
    for record in open_images(root):
        mask = record.read_mask()
        assert mask is not None
        (found[record.id],) = set(mask.ravel().tolist())
    return found


@pytest.mark.parametrize("names", [("images", "masks"), ("Images", "MASKS")])
def test_masks_are_found_by_the_name_before_the_suffix(names: tuple[str, str], tmp_path: Path) -> None:
    images, masks = names
    arrange(tmp_path, f"{images}/b.jpg", f"{images}/a.v1.png", f"{masks}/b.png", f"{masks}/a.v1.tiff")
    assert values_of(tmp_path) == {"a.v1.png": 2, "b.jpg": 1}
    images_found = open_images(tmp_path)
    assert (images_found.labels, images_found.splits) == ((None, None), (None, None))
    assert images_found.origin == str(tmp_path)


@pytest.mark.parametrize("below", [True, False])
def test_splits_are_below_or_above_both_folders(below: bool, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for kind in ("images", "masks"):
            folder = f"{kind}/{split}" if below else f"{split}/{kind}"
            arrange(tmp_path, f"{folder}/a.png", value=["train", "val", "test"].index(split))
    images = open_images(tmp_path)
    assert sorted(map(str, images.splits)) == ["test", "train", "validation"]
    assert {str(each.split): int(mask.max()) for each in images if (mask := each.read_mask()) is not None} == {
        "train": 1, "validation": 2, "test": 3,
    }  # fmt: skip


def test_class_folders_are_kept(tmp_path: Path) -> None:
    arrange(tmp_path, *(f"{kind}/{name}/a.png" for kind in ("images", "masks") for name in ("gear", "hook")))
    assert open_images(tmp_path).labels == ("gear", "hook")
    assert values_of(tmp_path) == {"gear/a.png": 1, "hook/a.png": 2}


def test_files_beside_both_folders_are_reported(tmp_path: Path) -> None:
    arrange(tmp_path, "images/a.png", "masks/a.png", "other.png")
    for name in ("README.md", "masks/legend.txt"):
        (tmp_path / name).write_text("x")
    images = open_images(tmp_path)
    assert len(images) == 1
    told = images.left_out.describe()
    assert "file beside the folders images and masks: 2" in told
    assert "legend.txt" in told


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ("images/a.png", "images/b.png", "images/c.png", "masks/b.png"),
            r"2 files of .*images without a mask .* a\.png",
        ),
        (("images/a.png", "masks/a.png", "masks/sub/b.png"), r"1 file of .*masks without a picture .* sub/b\.png"),
        (("images/a.png", "images/a.jpg", "masks/a.png"), r"images has a\.jpg and a\.png, so masks cannot be told"),
        (("images/a.png", "masks/a.png", "masks/a.bmp"), r"masks has a\.bmp and a\.png"),
        (("images/a.png", "masks/a.png", "Images/b.png"), "has the folders Images and images; keep one"),
        (("train/images/a.png", "train/masks/a.png", "test/images/a.png"), "test has no folders images and masks"),
    ],
)
def test_what_does_not_fit_is_one_error(names: tuple[str, ...], told: str, tmp_path: Path) -> None:
    arrange(tmp_path, *names)
    with pytest.raises(ImagesError, match=told):
        open_images(tmp_path)


def test_metadata_that_name_masks_are_followed(tmp_path: Path) -> None:
    arrange(tmp_path, "images/a.png", "masks/x.png")
    (tmp_path / "metadata.csv").write_text("file_name,mask_file_name\nimages/a.png,masks/x.png\n")
    assert values_of(tmp_path) == {"images/a.png": 1}
