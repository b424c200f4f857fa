"""Captions that follow from the classes of images, and links among images and captions."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tailforge.catalog.images.captions import METADATA
from tailforge.schemas.errors import ImagesError, UserError
from tailforge.schemas.training.generator import ImageSource
from tailforge.tasks.images.captioned import open_captioned
from tests.support.captioned_files import PIXELS, open_folder, picture, save, tell, write_rows
from tests.support.fabricate import encode_png


def test_class_folders_are_captioned_by_a_template(tmp_path: Path) -> None:
    for number, name in enumerate(("hook/b", "gear/a", "wing_nut/sub/c")):
        save(tmp_path / f"images/{name}.png", 10 * number)
    images = open_folder(tmp_path)
    assert images.captions == ("a photo of a gear", "a photo of a hook", "a photo of a wing nut")
    assert images.origin == "images (classes: 3, captions: a photo of a {class})"
    assert [int(pixels[0, 0, 0]) for pixels in images.read(PIXELS, PIXELS)] == [10, 0, 20]
    other = open_folder(tmp_path, class_caption="one {class}, close")
    assert other.captions == ("one gear, close", "one hook, close", "one wing nut, close")
    assert open_folder(tmp_path, caption="a part").captions == ("a part",) * 3
    assert len({images.digest(), other.digest(), open_folder(tmp_path, caption="a part").digest()}) == 3


def test_of_folders_train_and_test_the_first_is_learnt(tmp_path: Path) -> None:
    for number, name in enumerate(("train/hook/b", "test/gear/a")):
        save(tmp_path / f"images/{name}.png", 10 * number)
    images = open_folder(tmp_path)
    assert images.captions == ("a photo of a hook",)
    assert images.origin == "images (classes: 1, split: train, captions: a photo of a {class})"


@pytest.mark.parametrize("name", ["gear/a.txt", METADATA, "b.png"])
def test_a_folder_with_captions_or_loose_images_is_none_of_class_folders(tmp_path: Path, name: str) -> None:
    save(tmp_path / "images/gear/a.png", 1)
    save(tmp_path / "images/hook/c.png", 1)
    (tmp_path / "images" / name).write_bytes(tell("gear/a.png", "a gear"))
    with pytest.raises(ImagesError, match=r"\.png has no caption; .*one folder per class"):
        open_folder(tmp_path)


def test_rows_of_a_parquet_file_are_captioned_by_their_label(tmp_path: Path) -> None:
    files = [encode_png(picture(10 * row)) for row in range(4)]
    columns = {"label": ["gear", "hook", "ring", None], "split": ["train", "test", "train", "train"]}
    write_rows(tmp_path / "images", files, **columns, caption=[None, None, "a shiny ring", "a thing"])
    images = open_folder(tmp_path)
    assert images.captions == ("a photo of a gear", "a shiny ring", "a thing")
    assert images.origin == "images (train)"
    assert [int(pixels[0, 0, 0]) for pixels in images.read(PIXELS, PIXELS)] == [0, 20, 30]
    assert open_folder(tmp_path, split="test").captions == ("a photo of a hook",)
    write_rows(tmp_path / "images", files, label=columns["label"])
    with pytest.raises(ImagesError, match="row 3 has no caption"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("Gear", "the classes 'Gear' and 'gear' look alike"),
        ("gear ", "the classes 'gear' and 'gear ' look alike"),
        ("gear_", "the classes 'gear' and 'gear_' would have one caption, 'a photo of a gear'"),
    ],
)
def test_classes_that_would_be_one_caption_are_refused(tmp_path: Path, other: str, message: str) -> None:
    for number, name in enumerate(("gear", other)):
        save(tmp_path / f"images/{name}/a.png", number)
    with pytest.raises(ImagesError, match=message):
        open_folder(tmp_path)
    assert open_folder(tmp_path, caption="a part").captions == ("a part", "a part")
    (tmp_path / "rows").mkdir()
    files, labels = [encode_png(picture(row)) for row in range(3)], [*sorted(["gear", other]), "Gear  "]
    columns = {"label": labels, "split": ["train", "train", "test"]}
    write_rows(tmp_path / "rows/images", files, **columns)
    with pytest.raises(ImagesError, match=message):
        open_folder(tmp_path / "rows")
    write_rows(tmp_path / "rows/images", files, **columns, caption=["a gear", None, None])
    assert open_folder(tmp_path / "rows").captions[0] == "a gear"


def test_a_template_names_the_class_and_is_the_only_caption() -> None:
    with pytest.raises(ValidationError, match=r"'a photo' does not hold \{class\}"):
        ImageSource(folder="images", class_caption="a photo")
    with pytest.raises(ValidationError, match="caption, the same for all images, or class_caption, not both"):
        ImageSource(folder="images", caption="a part", class_caption="a {class}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("b.png", r"b\.png is a link that leaves"),
        ("a.txt", r"a\.txt is a link that leaves"),
        (METADATA, r"metadata\.jsonl is a link that leaves"),
        ("more", r"more is a link that leaves"),
    ],
)
def test_no_link_leaves_the_recipes_folder(tmp_path: Path, name: str, message: str) -> None:
    outside = save(tmp_path / "other/b.png", 2, "a hook")
    (outside.parent / METADATA).write_bytes(tell("a.png", "a hook"))
    targets = {"b.png": outside, "a.txt": outside.with_suffix(".txt"), METADATA: outside.parent / METADATA}
    recipe = tmp_path / "recipe"
    save(recipe / "images/a.png", 1)
    (recipe / "images" / name).symlink_to(targets.get(name, outside.parent))
    for source in ("images", str(recipe / "images")):
        with pytest.raises(ImagesError, match=message):
            open_captioned(ImageSource(folder=source, caption="a part"), recipe, 0)


def test_a_link_within_the_recipes_folder_is_read(tmp_path: Path) -> None:
    save(tmp_path / "shared/b.png", 2)
    save(tmp_path / "images/a.png", 1)
    (tmp_path / "images/b.png").symlink_to(tmp_path / "shared/b.png")
    assert len(list(open_folder(tmp_path, caption="a part").read(PIXELS, PIXELS))) == 2


def test_paths_of_a_table_start_from_the_root(tmp_path: Path) -> None:
    save(tmp_path / "photographs/gear/a.png", 10)
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe/table.csv").write_text("path,label\ngear/a.png,gear\n")
    source = ImageSource(folder="table.csv", root=str(tmp_path / "photographs"))
    assert open_captioned(source, tmp_path / "recipe", 0).captions == ("a photo of a gear",)
    for root, words in ((None, "can be used"), (str(tmp_path / "nowhere"), "is no folder; name the folder")):
        with pytest.raises(UserError, match=words):
            open_captioned(ImageSource(folder="table.csv", root=root), tmp_path / "recipe", 0)
