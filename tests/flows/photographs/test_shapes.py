"""Photographs as people have them: `tailforge init` writes a right recipe, or says one error and writes nothing."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.sources.recipes import load_recipe
from tailforge.catalog.sources.references import require_references
from tailforge.flows.photographs.inspect import Question
from tailforge.flows.photographs.start import start_from_photographs
from tailforge.flows.photographs.wording import read_prompts
from tailforge.schemas.errors import UserError
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.training.generator import AdaptedSource, PixelNetwork
from tailforge.tasks.images.captioned import open_captioned
from tailforge.tasks.images.evaluated import open_real
from tests.support.image_files import encode
from tests.support.photographs import scene, write_photographs

Make = Callable[[Path], Path]
TAIL = {"gear": 12, "hook": 4, "ring": 8}


def start(source: Path, out: Path, **settings: Any) -> dict[str, Any]:
    generator = settings.pop("generator", None)
    return start_from_photographs(Question(str(source), **settings), out, generator, read_prompts(None, ()))


def check(out: Path) -> dict[str, list[dict[str, str]]]:
    """Read everything that was written; return the table's rows by split."""
    recipe = load_recipe(str(out / "recipe.yaml"))
    for concept in recipe.recipe.concepts:
        if concept.references is not None:
            folder = recipe.folder / concept.references
            assert 1 <= len(list(folder.iterdir())) <= 8
            if len(list(folder.iterdir())) > 2:
                require_references(recipe.folder, concept)
    adapt = recipe.recipe.adaptation
    assert adapt is not None
    assert adapt.learning.balance in ("class", "root")
    captioned = open_captioned(adapt.images, out, 0)
    assert all(caption.startswith("a photo of a ") for caption in captioned.captions)
    assert all("# " in line for line in (out / "recipe.yaml").read_text().splitlines())
    assert "<html" in (out / "photographs.html").read_text()

    if (out / "photographs.csv").exists():
        rows = list(csv.DictReader((out / "photographs.csv").read_text(encoding="utf-8").splitlines()))
    else:
        rows = pq.read_table(out / "photographs.parquet").to_pylist()
    by_split: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_split.setdefault(row["split"], []).append(row)
    assert len(by_split["train"]) == len(captioned)
    names = {concept.name for concept in recipe.recipe.concepts}
    assert names <= {row["label"] for row in rows}
    return by_split


def nested(root: Path) -> Path:
    write_photographs(root / "gear" / "2024", {"bench": 7, "floor": 5})
    return write_photographs(root, TAIL | {"gear": 0}, first=50)


def mixed_types(root: Path) -> Path:
    write_photographs(root, TAIL)
    for number, (name, mode) in enumerate((("a.jpg", "L"), ("b.tif", "RGB"), ("c.webp", "RGB"), ("d.bmp", "P"))):
        scene(100 + number).convert(mode).save(root / "gear" / name)
    return root


def unreadable(root: Path) -> Path:
    write_photographs(root, TAIL)
    (root / "hook" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (root / "hook" / "empty.png").write_bytes(b"")
    whole = encode(scene(200))
    (root / "ring" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return root


def single(root: Path) -> Path:
    return write_photographs(root, {"gear": 8, "hook": 1})


def strange_names(root: Path) -> Path:
    return write_photographs(root, {"gear": 8, "Wing_Nut": 3, "größe 3": 3, "крестовина": 2, "🔩": 2, "A+B (old)": 2})


def links(root: Path) -> Path:
    write_photographs(root, TAIL)
    (root / "hook" / "inside.png").symlink_to(root / "gear" / "000.png")
    outside = write_photographs(root.parent / "outside", {"more": 1}, first=300)
    (root / "hook" / "outside.png").symlink_to(outside / "more" / "000.png")
    (root / "hook" / "lost.png").symlink_to(root / "nowhere.png")
    (root / "linked").symlink_to(root / "hook")
    return root


def system_files(root: Path) -> Path:
    write_photographs(root, TAIL)
    write_photographs(root / "__MACOSX", {"gear": 1}, first=400)
    write_photographs(root, {".thumbnails": 2}, first=410)
    for name in ("hook/Thumbs.db", "hook/.DS_Store", "desktop.ini", "hook/._000.png", "notes.txt"):
        (root / name).write_bytes(b"x")
    return root


def empty_class(root: Path) -> Path:
    write_photographs(root, TAIL)
    (root / "nothing").mkdir()
    return root


def two_classes(root: Path) -> Path:
    write_photographs(root, TAIL)
    shutil.copy(root / "gear" / "000.png", root / "hook" / "same.png")
    return root


def paths(root: Path) -> Path:
    write_photographs(root / "files", TAIL)
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.png"))]
    (root / "table.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    return root / "table.csv"


def in_bytes(root: Path) -> Path:
    write_photographs(root / "files", TAIL)
    files = sorted(root.rglob("*.png"))
    table = {"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]}
    pq.write_table(pa.table(table), root / "table.parquet")
    return root / "table.parquet"


def coco(root: Path) -> Path:
    write_photographs(root / "images", TAIL)
    files = sorted((root / "images").rglob("*.png"))
    names = sorted(TAIL)
    document = {
        "images": [
            {"id": n, "file_name": str(file.relative_to(root / "images")), "width": 48, "height": 48}
            for n, file in enumerate(files)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": names.index(file.parent.name), "bbox": [1, 1, 9, 9]}
            for n, file in enumerate(files)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
    }
    (root / "annotations.json").write_text(json.dumps(document))
    return root / "annotations.json"


def split_folders(root: Path) -> Path:
    for number, split in enumerate(("train", "val", "test")):
        write_photographs(root / split, TAIL, first=100 * number)
    return root


def grey(root: Path) -> Path:
    return write_photographs(root, TAIL, size=(24, 40), mode="L", suffix=".jpg")


def thumbnails(root: Path) -> Path:
    return write_photographs(root, TAIL, size=(8, 8))


def many_classes(root: Path) -> Path:
    return write_photographs(root, {f"class {number}": 1 + (number % 3) for number in range(300)}, size=(9, 9))


SHAPES: list[Make] = [
    nested, mixed_types, unreadable, single, strange_names, links, system_files, empty_class, two_classes, paths,
    in_bytes, coco, split_folders, grey, thumbnails, many_classes,
]  # fmt: skip


@pytest.mark.parametrize("make", SHAPES, ids=lambda make: make.__name__)
def test_photographs_give_a_recipe_that_is_right(make: Make, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    source = make(tmp_path / "photos")
    start(source, tmp_path / "out")
    check(tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) in (["out", "photos"], ["out", "outside", "photos"])


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    made = start(unreadable(tmp_path / "one"), tmp_path / "1")
    assert [line for line in made["findings"] if "cannot be decoded: 3" in line]
    made = start(two_classes(tmp_path / "two"), tmp_path / "2")
    assert "contradictions: 1 pair of one picture with two classes: gear/000.png and hook/same.png" in made["findings"]
    made = start(strange_names(tmp_path / "three"), tmp_path / "3")
    assert made["renamed"] == {"A+B (old)": "A B old", "Wing_Nut": "Wing Nut", "🔩": "class 6"}
    assert "Class 'Wing_Nut' of the photographs is concept 'Wing Nut'" in (tmp_path / "3" / "recipe.yaml").read_text()


def test_a_twin_across_given_splits_is_a_leak(tmp_path: Path) -> None:
    source = split_folders(tmp_path / "photos")
    scene(0).save(source / "test" / "gear" / "again.jpg", quality=70)
    made = start(source, tmp_path / "out")
    assert made["leaks"] == [["test/gear/again.jpg", "train/gear/000.png"]]
    assert "leak" in (tmp_path / "out" / "photographs.html").read_text()
    assert {split: len(rows) for split, rows in check(tmp_path / "out").items()} == {
        "train": 24, "validation": 24, "test": 25
    }  # fmt: skip


def test_own_splits_never_divide_twins_and_groups(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", {"gear": 60, "hook": 30})
    for number in range(30):
        file = source / "hook" / f"{number:03}.png"
        scene(60 + number).transpose(0).save(source / "hook" / f"{number:03}-mirrored.jpg", quality=80)
        file.rename(file.with_name(f"{number:03}-plain.png"))
    made = start(source, tmp_path / "out", group_pattern=r"^(\d\d)\d")
    assert made["leaks"] == []
    splits: dict[str, set[str]] = {}
    for split, rows in check(tmp_path / "out").items():
        for row in rows:
            splits.setdefault(row["group"], set()).add(split)
    assert set(map(len, splits.values())) == {1}
    again = start(source, tmp_path / "again", group_pattern=r"^(\d\d)\d")
    assert again["classes"] == made["classes"]
    for name in ("photographs.csv", "recipe.yaml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_table_is_read_by_the_one_reader(tmp_path: Path) -> None:
    source = strange_names(tmp_path / "photos")
    start(source, tmp_path / "out")
    images = open_images(tmp_path / "out" / "photographs.csv", root=source)
    assert len(images) == 20
    assert set(images.labels) == {"gear", "Wing Nut", "größe 3", "крестовина", "class 6", "A B old"}
    assert not images.left_out.entries


def test_own_splits_are_those_of_an_evaluation(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", {"gear": 12, "hook": 5})
    start(source, tmp_path / "out")
    real = open_real(str(tmp_path / "out" / "photographs.csv"), "", source)
    assert sorted(real) == ["test", "train", "validation"]
    assert all(set(images.require_labels()) == {"gear", "hook"} for images in real.values())


def test_only_a_named_number_of_photographs_is_decoded(tmp_path: Path) -> None:
    made = start(write_photographs(tmp_path / "photos", {"gear": 40, "hook": 5}), tmp_path / "out", measured=12)
    assert (made["photographs"], made["measured"]) == (45, 12)
    assert "12 of 45, rare classes first" in (tmp_path / "out" / "photographs.html").read_text()
    assert len(check(tmp_path / "out")["train"]) == 35


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_named_generator_is_adapted(mode: str, tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", TAIL, mode=mode)
    made = start(source, tmp_path / "out", generator="catalog:workshop")
    recipe = load_recipe(str(tmp_path / "out" / "recipe.yaml")).recipe
    assert recipe.source == ModelSource(model="catalog:workshop")
    assert [line.split()[1] for line in made["commands"]] == ["plan", "build"]  # a class is too small for all splits
    commit = "0" * 40
    start(source, tmp_path / "hub", generator=f"owner/name@{commit}")
    recipe = load_recipe(str(tmp_path / "hub" / "recipe.yaml")).recipe
    assert recipe.source == ModelSource(model="owner/name", revision=commit)
    assert recipe.adaptation is not None
    assert recipe.adaptation.weights == "lora"


@pytest.mark.parametrize(
    ("size", "mode", "drawn"),
    [
        ((24, 40), "L", PixelNetwork(height=40, width=24, grey=True)),
        ((28, 28), "RGB", PixelNetwork(height=32, width=32)),
        ((64, 48), "RGB", PixelNetwork(height=48, width=64)),
        ((25, 40), "RGB", None),
        ((96, 96), "RGB", None),
    ],
)
def test_small_photographs_get_a_network_of_their_size(
    size: tuple[int, int], mode: str, drawn: PixelNetwork | None, tmp_path: Path
) -> None:
    start(write_photographs(tmp_path / "photos", TAIL, size=size, mode=mode), tmp_path / "out")
    check(tmp_path / "out")
    generator = load_recipe(str(tmp_path / "out" / "recipe.yaml")).recipe.generator
    assert isinstance(generator, AdaptedSource)
    assert generator.network == drawn
    assert generator.adapt.learning.balance == ("class" if drawn is None else "root")
    if drawn is not None:
        assert generator.adapt.learning.batch == (64 if drawn.height * drawn.width <= 1024 else 16)
    assert (generator.base == ModelSource(model="catalog:workshop")) == (drawn is None)


def fill(root: Path) -> None:
    (root / "out").mkdir()
    (root / "out" / "mine.txt").write_text("mine")


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (lambda root: write_photographs(root, {"a": 3, "b": 3}), {}, "no tail to fill: 2 classes of 3 each"),
        (lambda root: write_photographs(root, {"a": 3}), {}, "no tail to fill"),
        (lambda root: write_photographs(root, {"": 3}), {}, "holds no image in a folder of its class"),
        (lambda root: write_photographs(root, {"Gear": 3, "gear": 2}), {}, "look alike"),
        (lambda root: root / "nowhere", {}, "does not exist; give a folder of images"),
        (lambda root: root, {}, "holds no image"),
        (lambda root: write_photographs(root, TAIL), {"fill": "most"}, "--fill 'most'"),
        (lambda root: write_photographs(root, TAIL), {"group_pattern": "("}, "--group-pattern"),
        (lambda root: write_photographs(root, TAIL), {"generator": "nobody"}, "--generator 'nobody'"),
        (lambda root: write_photographs(root, TAIL), {"generator": "catalog:workshop-teacher"}, "it has: workshop"),
        (lambda root: write_photographs(root, TAIL), {"generator": "owner/name"}, "with its commit"),
    ],
    ids=[
        "balanced",
        "one class",
        "no class",
        "alike",
        "missing",
        "empty",
        "fill",
        "pattern",
        "model",
        "teacher",
        "hub",
    ],
)
def test_otherwise_one_error_is_told_and_nothing_written(
    make: Make, settings: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    source = make(tmp_path / "photos")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as raised:
        start(source, tmp_path / "out", **settings)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_all_photographs_unreadable_is_one_error(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"no photograph of .* can be read"):
        start(tmp_path / "photos", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", TAIL)
    fill(tmp_path)
    for out, words in ((tmp_path / "out", "is not empty"), (source / "out", "is inside the photographs")):
        with pytest.raises(UserError, match=words):
            start(source, out)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "new").mkdir()
    start(source, tmp_path / "new")
    check(tmp_path / "new")


def test_file_names_that_no_table_can_hold_are_one_error(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", TAIL)
    shutil.copy(source / "hook" / "000.png", os.fsencode(source / "hook") + b"/\xff.png")
    with pytest.raises(UserError, match="rename"):
        start(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
