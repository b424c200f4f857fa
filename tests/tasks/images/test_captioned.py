"""Captioned images from versions, folders and files, in order, in part and by lot, and every way to be wrong."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from pydantic import ValidationError

from tailforge.catalog.images.captions import METADATA
from tailforge.catalog.images.pixels import BATCH
from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError, NotFoundError, VerificationError
from tailforge.schemas.training.generator import ImageSource
from tailforge.tasks.images.captioned import CaptionedImages, open_captioned
from tests.support.captioned_files import PIXELS, open_folder, picture, save, tell, write_rows
from tests.support.fabricate import encode_png, make_build, make_recipe, publish_build

NAMES = ("gear", "hook", "ring")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Version 1.0.0 of `parts`: two splits, several shards each."""
    store = Store.open(str(tmp_path_factory.mktemp("store")), create=True)
    recipe = make_recipe(sharding={"max_samples": 16})
    publish_build(make_build(store, recipe, dict.fromkeys(NAMES, 20)), {"report/index.html": b"<html>"})
    return store


def open_version(store: Store, seed: int = 0, **source: Any) -> CaptionedImages:
    source = {"dataset": "parts@1.0.0", "store": store.uri, **source}
    return open_captioned(ImageSource(**source), Path("nowhere"), seed)


def test_a_version_is_read_as_its_reader_reads_it(store: Store) -> None:
    published = open_dataset(store.uri, "1.0.0", "train", name="parts")
    assert len(published.shards) > 1
    images = open_version(store)
    assert images.origin == "parts@1.0.0 (train)"
    assert len(images) == len(published)
    for sample, caption, pixels in zip(published, images.captions, images.read(PIXELS, PIXELS), strict=True):
        assert caption == sample["caption"]
        assert np.array_equal(pixels, np.asarray(sample["image"]))
    assert open_version(store, dataset="parts", split="test").origin == "parts@1.0.0 (test)"


def test_a_store_is_found_from_the_recipes_folder(store: Store) -> None:
    here = Path(store.root)
    source = ImageSource(dataset="parts", store=here.name)
    assert open_captioned(source, here.parent, 0).captions == open_version(store).captions


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ([("concept", "==", "hook")], lambda row: row["concept"] == "hook"),
        ([("concept", "in", ["gear", "ring"])], lambda row: row["concept"] != "hook"),
        ([("split", "==", "train"), ("prompt_index", "<", 7)], lambda row: row["prompt_index"] < 7),
    ],
)
def test_conditions_choose_rows_of_the_manifest(store: Store, where: Any, holds: Any) -> None:
    file = Path(store.root) / "datasets/parts/1.0.0/manifest.parquet"
    rows = [row for row in pq.read_table(file).to_pylist() if row["split"] == "train" and holds(row)]
    samples = {sample["key"]: sample for sample in open_dataset(store.uri, split="train", name="parts")}
    images = open_version(store, where=where)
    assert images.captions == tuple(row["caption"] for row in rows)
    for row, pixels in zip(rows, images.read(PIXELS, PIXELS), strict=True):
        assert np.array_equal(pixels, np.asarray(samples[row["sample_id"]]["image"]))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([("colour", "==", "red")], r"no column 'colour'; the manifest of parts@1.0.0 has the columns sample_id, "),
        ([("sharpness", ">", "much")], r'\["sharpness", ">", "much"\].* cannot be compared: .* the columns sample_id'),
        ([("concept", "in", [3])], r"cannot be compared"),
        ([("slots", "==", 1)], r"cannot be compared"),
        ([("concept", "==", "bolt")], r'no sample of parts@1.0.0 \(train\) fulfils \[\["concept", "==", "bolt"\]\]'),
    ],
)
def test_conditions_that_cannot_hold_are_refused(store: Store, where: Any, message: str) -> None:
    with pytest.raises(ImagesError, match=message):
        open_version(store, where=where)


@pytest.mark.parametrize("condition", [("concept", "in", "gear"), ("concept", "==", ["gear"])])
def test_lists_stand_after_in_alone(condition: Any) -> None:
    with pytest.raises(ValidationError, match=r"concept .*: `in` and `not in` take a list of values"):
        ImageSource(dataset="parts", store="store", where=(condition,))


def test_what_does_not_exist_is_named(store: Store, tmp_path: Path) -> None:
    for changes, message in (
        ({"dataset": "bolts"}, "no dataset 'bolts'; it has: parts"),
        ({"dataset": "parts@9.0.0"}, "no version '9.0.0'; it has: 1.0.0"),
        ({"split": "validation"}, "no split 'validation'; it has: test, train"),
    ):
        with pytest.raises(NotFoundError, match=message):
            open_version(store, **changes)
    with pytest.raises(NotFoundError, match=r"images.folder: .*images does not exist"):
        open_folder(tmp_path)
    with pytest.raises(ImagesError, match=r"'\.\./images' leaves the recipe's folder .*absolute path"):
        open_captioned(ImageSource(folder="../images"), tmp_path, 0)


def test_a_version_whose_shards_lack_a_sample_is_damaged(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    publish_build(make_build(store, make_recipe(), {"gear": 10}), {"report/index.html": b"<html>"})
    file = tmp_path / "datasets/parts/1.0.0/manifest.parquet"
    manifest = pq.ParquetFile(file)
    groups = [manifest.read_row_group(number) for number in range(manifest.num_row_groups)]
    with pq.ParquetWriter(file, manifest.schema_arrow) as writer:
        for rows in groups:
            split = pa.array(["train"] * rows.num_rows)  # also of the samples that lie in the shard of test
            writer.write_table(rows.set_column(rows.schema.get_field_index("split"), "split", split))
    with pytest.raises(VerificationError, match=r"manifest\.parquet has sha256"):
        list(open_version(store).read(PIXELS, PIXELS))


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"PAR1")], ids=["lost", "cut"])
def test_a_version_whose_manifest_cannot_be_read_is_damaged(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = Store.open(str(tmp_path), create=True)
    publish_build(make_build(store, make_recipe(), {"gear": 10}), {"report/index.html": b"<html>"})
    damage(tmp_path / "datasets/parts/1.0.0/manifest.parquet")
    with pytest.raises(VerificationError, match=r"parts/1\.0\.0/manifest\.parquet (is missing|has sha256)"):
        open_version(store)


def test_a_folder_is_read_by_rising_name_with_captions_beside_or_in_metadata(tmp_path: Path) -> None:
    save(tmp_path / "images/b.png", 20, " a hook\n")
    save(tmp_path / "images/a/deep.png", 10)
    save(tmp_path / "images/c.PNG", 30)
    save(tmp_path / "images/.hidden/d.png", 40)
    lines = [
        {"file_name": "a/deep.png", "text": "a gear", "score": 1},
        {"file_name": "c.PNG", "text": "ein Rad  größer"},
    ]
    metadata = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "images/metadata.jsonl").write_text(metadata, encoding="utf-8")
    images = open_folder(tmp_path)
    assert images.origin == "images"
    assert images.captions == ("a gear", "a hook", "ein Rad  größer")
    for _ in range(2):  # any number of times
        shades = [int(pixels[0, 0, 0]) for pixels in images.read(PIXELS, PIXELS)]
        assert shades == [10, 20, 30]


def test_images_without_a_caption_get_the_sources(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", 1, "a gear")
    save(tmp_path / "images/b.png", 2)
    assert open_folder(tmp_path, caption="a part").captions == ("a gear", "a part")
    with pytest.raises(ImagesError, match=r"b\.png has no caption; .*\.txt.*metadata\.jsonl.*images\.caption"):
        open_folder(tmp_path)


@pytest.mark.parametrize("nested", [False, True])
def test_a_parquet_file_is_read_row_by_row(tmp_path: Path, nested: bool) -> None:
    count = 2 * BATCH + 20  # two row groups, the first of two batches
    files = [encode_png(picture(row)) for row in range(count)]
    captions = [f"picture {row}" if row % 10 else None for row in range(count)]
    column = [{"bytes": file, "path": None} for file in files] if nested else files
    write_rows(tmp_path / "images", column, **{"text" if nested else "caption": captions})
    images = open_folder(tmp_path, caption="a part")
    assert images.captions == tuple(caption or "a part" for caption in captions)
    assert [int(pixels[0, 0, 0]) for pixels in images.read(PIXELS, PIXELS)] == list(range(count))
    some = open_folder(tmp_path, caption="a part", images=7)
    rows = [int(pixels[0, 0, 0]) for pixels in some.read(PIXELS, PIXELS)]
    assert some.captions == tuple(captions[row] or "a part" for row in rows)


def test_a_lot_is_the_seeds(store: Store) -> None:
    whole, some = open_version(store), open_version(store, images=9, seed=1)
    assert len(some) == 9
    assert some.captions == open_version(store, images=9, seed=1).captions
    everything = [pixels.tobytes() for pixels in whole.read(PIXELS, PIXELS)]
    lots = {}
    for seed in (1, 2):
        drawn = open_version(store, images=9, seed=seed).read(PIXELS, PIXELS)
        lots[seed] = [everything.index(pixels.tobytes()) for pixels in drawn]
        assert lots[seed] == sorted(set(lots[seed]))
    assert lots[1] != lots[2]
    with pytest.raises(
        ImagesError, match=rf"images\.images is 999, parts@1\.0\.0 \(train\) has {len(whole)}; lower it"
    ):
        open_version(store, images=999)


def test_the_digest_is_of_the_chosen_images_their_captions_and_classes(tmp_path: Path, store: Store) -> None:
    for name, shade in (("a", 1), ("b", 2), ("c", 3)):
        save(tmp_path / f"images/{name}.png", shade, f"part {name}")
    first = open_folder(tmp_path).digest()
    whole = hashlib.sha256()
    for name in ("a", "b", "c"):
        for part in (f"part {name}".encode(), b"", (tmp_path / f"images/{name}.png").read_bytes()):
            whole.update(len(part).to_bytes(8, "big") + part)
    assert first == whole.hexdigest()
    assert open_folder(tmp_path, images=2).digest() != first
    (tmp_path / "images/b.txt").write_text("part d")
    assert open_folder(tmp_path).digest() != first
    (tmp_path / "images/b.txt").write_text("part b")
    assert open_folder(tmp_path).digest() == first
    save(tmp_path / "images/b.png", 9)
    assert open_folder(tmp_path).digest() != first
    assert open_version(store).digest() != open_version(store, split="test").digest()


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32), (8, 24), (16, 16)])
def test_cropping_scales_the_shorter_side_and_keeps_the_middle(tmp_path: Path, height: int, width: int) -> None:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    down = np.linspace(0, 255, height, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(across[None, :], down[:, None], np.uint8(90)), axis=-1)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(encode_png(pixels))
    (found,) = open_folder(tmp_path, caption="a ramp", fit="crop").read(PIXELS, PIXELS)
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    middle = (np.arange(PIXELS) + 0.5) * side / PIXELS - 0.5
    x = (left + middle) * 255 / (width - 1)
    y = (top + middle) * 255 / (height - 1)
    assert found.shape == (PIXELS, PIXELS, 3)
    inner = slice(3, -3)  # at the rim the filter has no pixels beyond
    assert np.abs(found[8, inner, 0] - x[inner]).max() < 4
    assert np.abs(found[inner, 8, 1] - y[inner]).max() < 4
    assert np.abs(found[..., 2].astype(int) - 90).max() <= 1


def test_cropping_an_image_of_the_right_size_changes_nothing(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", 7, "a part")
    (exact,) = open_folder(tmp_path).read(PIXELS, PIXELS)
    (cropped,) = open_folder(tmp_path, fit="crop").read(PIXELS, PIXELS)
    assert np.array_equal(exact, cropped)


def test_images_are_upright_and_rgb_whatever_they_are(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(200, dtype=np.uint8).reshape(10, 20))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees to the right
    palette = grey.convert("RGB").quantize(16)
    clear = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    (tmp_path / "images").mkdir()
    for name, image, options in (
        ("a", grey, {}),
        ("b", palette, {}),
        ("c", clear, {}),
        ("d", grey.rotate(90, expand=True), {"exif": turned}),
    ):
        image.save(tmp_path / f"images/{name}.png", **options)
    found = list(open_folder(tmp_path, caption="a part").read(10, 20))
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    assert np.array_equal(found[0], expected)
    assert np.array_equal(found[1], np.asarray(palette.convert("RGB")))
    assert np.unique(found[2]).tolist() == [128]
    assert np.array_equal(found[3], expected)


def test_images_that_cannot_be_learnt_are_named_when_they_are_read(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", 1, "a part", height=10, width=20)
    with pytest.raises(ImagesError, match=r"a\.png is 20 x 10 pixels .* draws 16 x 12; .* images\.fit: crop"):
        list(open_folder(tmp_path).read(12, 16))
    file = save(tmp_path / "images/b.png", 2, "a part", height=10, width=20)
    images = open_folder(tmp_path)
    for content in (b"no image", file.read_bytes()[:60], b""):
        file.write_bytes(content)
        with pytest.raises(ImagesError, match=r"b\.png cannot be read as an image"):
            list(images.read(10, 20))
    file.unlink()
    for use in (lambda: list(images.read(10, 20)), images.digest):
        with pytest.raises(ImagesError, match=r"b\.png cannot be read: it does not exist"):
            use()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"images holds no image; put some there \(\.bmp, .*\)"),
        ({"a.gif": b"GIF89a"}, r"a\.gif cannot be read; save it as one of \.bmp"),
        ({"a.txt": b" \n"}, r"a\.png has an empty caption"),
        ({"a.txt": b"\xff\xfe\xff"}, r"a\.txt cannot be read as a caption: .*UTF-8"),
        ({METADATA: tell("a.png", "")}, r"line 1: a\.png has an empty caption"),
        ({METADATA: b"\n" + tell("b.png", "b")}, r"line 2 names b\.png, which is no image"),
        ({METADATA: tell("../a.png", "a")}, r"line 1 names \.\./a\.png, which is no image"),
        ({METADATA: b"a.png: a gear"}, r"metadata\.jsonl line 1 is not JSON"),
        ({METADATA: b"[" * 100_000}, r"metadata\.jsonl line 1 is not JSON"),
        ({METADATA: b'["a.png", "a gear"]'}, r"line 1 has no file_name or no text"),
        ({METADATA: tell("a.png", None)}, r"line 1 has no file_name or no text"),
        ({METADATA: tell("a.png", "a") * 2}, r"line 2 names a\.png a second time"),
    ],
)
def test_folders_that_cannot_be_used_are_refused_unread(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "images").mkdir()
    pictures = {} if "holds no image" in message else {"a.png": b"not read"}
    for name, content in {**pictures, **files}.items():
        (tmp_path / "images" / name).write_bytes(content)
    with pytest.raises(ImagesError, match=message):
        open_folder(tmp_path)


def test_two_captions_of_one_image_are_refused_unless_they_are_equal(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", 1, "a gear\n")
    (tmp_path / "images" / METADATA).write_bytes(tell("a.png", "a gear"))
    assert open_folder(tmp_path).captions == ("a gear",)
    (tmp_path / "images" / METADATA).write_bytes(tell("a.png", "a hook"))
    with pytest.raises(ImagesError, match=r"a\.png has one caption in metadata\.jsonl and another in a\.txt"):
        open_folder(tmp_path)


def test_a_byte_order_mark_is_no_word_of_a_caption(tmp_path: Path) -> None:
    for name, caption in (("a", "a gear"), ("b", None)):
        save(tmp_path / f"images/{name}.png", 1)
        if caption:
            (tmp_path / f"images/{name}.txt").write_bytes(caption.encode("utf-8-sig"))
    (tmp_path / "images" / METADATA).write_bytes(b"\xef\xbb\xbf" + tell("b.png", "a hook"))
    assert open_folder(tmp_path).captions == ("a gear", "a hook")


def test_numbers_are_captions_where_the_file_names_them_alone(tmp_path: Path) -> None:
    image, feature = encode_png(picture(1)), {"text": {"names": ["a gear", "a hook"], "_type": "ClassLabel"}}
    table = pa.table({"image": [image] * 3, "text": [1, 0, -1]})
    told = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": feature}})})
    pq.write_table(told, tmp_path / "images")
    assert open_folder(tmp_path, caption="a part").captions == ("a hook", "a gear", "a part")
    pq.write_table(table, tmp_path / "images")
    with pytest.raises(ImagesError, match="column text holds int64; it needs one text per row"):
        open_folder(tmp_path)


def test_parquet_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    file, data = tmp_path / "images", encode_png(picture(1))
    file.write_bytes(b"PAR1 no")
    with pytest.raises(ImagesError, match="images cannot be read as Parquet"):
        open_folder(tmp_path)
    for images, columns, message in (
        ([], {"caption": pa.array([], pa.string())}, "images has no rows"),
        ([data], {}, "images: row 0 has no caption"),
        ([data, data], {"caption": ["a", ""]}, "images: row 1 has an empty caption"),
        ([data], {"caption": [["a", "b"]]}, "column caption holds list<.*>; it needs one text per row"),
        (["a.png"], {"caption": ["a"]}, "no file that column image names can be used; .*row 0: .*a.png is no file"),
        ([{"path": "a"}], {"caption": ["a"]}, "column image is struct<path: string>, which has no field bytes"),
    ):
        write_rows(file, images, **columns)
        with pytest.raises(ImagesError, match=message):
            open_folder(tmp_path)
    pq.write_table(pa.table({"picture": [data]}), file)
    with pytest.raises(ImagesError, match="no column 'image'; it has: picture"):
        open_folder(tmp_path)
    write_rows(file, [data, None], caption=["a", "b"])
    with pytest.raises(ImagesError, match="images: row 1 cannot be read as an image"):
        list(open_folder(tmp_path).read(PIXELS, PIXELS))


def test_captions_of_a_tar_and_of_a_table_with_paths(tmp_path: Path) -> None:
    tmp_path.joinpath("photos").mkdir()
    with webdataset.TarWriter(str(tmp_path / "images.tar"), encoder=False) as writer:
        for row, caption in enumerate(["a gear", None, "a ring"]):
            save(tmp_path / f"photos/{row}.png", row)
            told = {"cls": b"hook"} if caption is None else {"txt": caption.encode()}
            writer.write({"__key__": str(row), "png": encode_png(picture(row)), **told})
    (tmp_path / "photos/images.csv").write_text("image,caption,label\n0.png,a gear,\n1.png,,hook\n2.png,a ring,\n")
    for folder, origin in (("images.tar", "images.tar"), ("photos/images.csv", "images.csv")):
        images = open_captioned(ImageSource(folder=folder), tmp_path, 0)
        assert images.origin == origin
        assert images.captions == ("a gear", "a photo of a hook", "a ring")
        assert [int(pixels[0, 0, 0]) for pixels in images.read(PIXELS, PIXELS)] == [0, 1, 2]


def test_of_folders_train_and_test_with_captions_one_is_learnt(tmp_path: Path) -> None:
    for number, name in enumerate(("train/a", "test/b")):
        save(tmp_path / f"images/{name}.png", number, name)
    assert open_folder(tmp_path).captions == ("train/a",)
    assert open_folder(tmp_path, split="test").captions == ("test/b",)
