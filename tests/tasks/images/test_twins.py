"""Photographs are measured once; twins are found among copies that were recompressed, resized or mirrored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tailforge.catalog.images.reader import open_images
from tailforge.tasks.images.measures import Measures, choose_measured, measure_images, measure_sizes
from tailforge.tasks.images.references import Candidates, pick_references
from tailforge.tasks.images.twins import Twin, find_twins


def scene(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a picture of soft spots, `size` (width, height)."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def save(file: Path, image: Image.Image, **options: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)


def measure(folder: Path) -> tuple[tuple[str, ...], Measures]:
    images = open_images(folder)
    return images.ids, measure_images(images, range(len(images)), (32, 32), "crop")


@pytest.mark.parametrize(
    ("change", "mirrored"),
    [
        (lambda image: image, False),
        (lambda image: image.resize((192, 128)), False),
        (lambda image: image.resize((48, 32)), False),
        (lambda image: image.convert("L"), False),
        (ImageOps.mirror, True),
    ],
    ids=["recompressed", "enlarged", "reduced", "grey", "mirrored"],
)
def test_a_changed_copy_is_a_twin(tmp_path: Path, change: object, mirrored: bool) -> None:
    for number in range(12):
        save(tmp_path / "a" / f"{number:02}.png", scene(number))
    save(tmp_path / "b" / "copy.jpg", change(scene(7)), quality=60)  # type: ignore[operator]
    ids, measures = measure(tmp_path)
    assert find_twins(measures) == [Twin(ids.index("a/07.png"), ids.index("b/copy.jpg"), mirrored)]


def test_different_and_blank_photographs_are_no_twins(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / "a" / f"{number}.png", scene(number))
    for shade in (0, 100, 101):
        save(tmp_path / "b" / f"{shade}.png", Image.new("RGB", (64, 64), (shade, shade, shade)))
    assert find_twins(measure(tmp_path)[1]) == []


def test_many_copies_of_one_picture_have_few_pairs_and_hang_together(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / "a" / f"{number:02}.jpg", scene(1), quality=60 + number)
    pairs = find_twins(measure(tmp_path)[1])
    assert len(pairs) <= 3 * 30
    assert {each.other for each in pairs} == set(range(1, 30))


def test_measures_tell_sizes_scores_and_failures(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", scene(1, (40, 24)).convert("L"))
    save(tmp_path / "a" / "2.jpg", scene(2, (1200, 800)))
    (tmp_path / "a" / "3.jpg").write_bytes(b"none")
    images = open_images(tmp_path)
    measures = measure_images(images, range(3), (32, 32), "stretch")
    assert measures.shown == ((40, 24, 1), (1200, 800, 3)) == tuple(measure_sizes(images, range(3)))
    assert list(measures.failures) == [2]
    assert measures.places.tolist() == [0, 1]
    assert all(0 < value < 1 for value in (*measures.scores["brightness"], *measures.scores["contrast"]))
    assert measures.features.shape == (2, 768)
    assert measures.moved({0: 5, 1: 9}).places.tolist() == [5, 9]


def test_rare_classes_are_measured_entirely(tmp_path: Path) -> None:
    for name, count in (("common", 20), ("rare", 3)):
        for number in range(count):
            save(tmp_path / name / f"{number}.png", scene(number))
    images = open_images(tmp_path)
    chosen = [images.labels[place] for place in choose_measured(images, 8, 1)]
    assert (chosen.count("common"), chosen.count("rare")) == (5, 3)
    assert choose_measured(images, 99, 1) == list(range(23))


def test_references_are_of_train_and_no_twins(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "a" / f"{number}.png", scene(number))
    save(tmp_path / "b" / "tiny.png", scene(9, (12, 12)))
    _, measures = measure(tmp_path)
    labels, splits = ["a"] * 6 + ["b"], ["train"] * 5 + ["test", "train"]
    sets = np.array([0, 0, 1, 2, 3, 4, 5])
    found = pick_references(Candidates(measures, labels, splits, sets, 16), ["b", "a"], 8)
    assert {name: sorted(places) for name, places in found.items()} == {"a": [0, 2, 3, 4]}


def test_a_picture_with_two_classes_is_no_reference(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save(tmp_path / name, scene(int(name[2])))
    _, measures = measure(tmp_path)
    candidates = Candidates(measures, ["a", "a", "b"], ["train"] * 3, np.array([0, 1, 0]), 16)
    assert pick_references(candidates, ["a", "b"], 8) == {"a": (1,)}
