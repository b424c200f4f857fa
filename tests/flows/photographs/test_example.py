"""`tailforge example` writes class folders with a long tail that every reader takes."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.flows.photographs.defect_example import write_defect_example
from tailforge.flows.photographs.example import write_example
from tailforge.tasks.methods.workshop import DEFECTS
from tests.flows.conftest import Command, build, rows_of

RARE = {"cross fitting", "star knob", "wing nut", "hook"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "parts"
    write_example(folder, folder.parent / "more")
    return folder


def test_four_classes_are_rare_in_train_and_none_in_test(written: Path) -> None:
    images = open_images(written)
    train, test = (Counter(images.of_split(split).labels_as_found) for split in ("train", "test"))
    assert {name for name, count in train.items() if count == min(train.values())} == RARE
    assert len(train) == len(test) == 12
    assert min(train.values()) * 5 < max(train.values())
    assert len(set(test.values())) == 1


def test_rare_classes_alone_are_held_back(written: Path) -> None:
    kept, held = open_images(written).of_split("train"), open_images(written.parent / "more")
    both = Counter([*kept.labels_as_found, *held.labels_as_found])
    assert set(held.labels_as_found) == RARE
    assert len(set(both.values())) == 1


def test_no_picture_comes_twice(written: Path) -> None:
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in written.parent.rglob("*.png")]
    assert len(digests) == len(set(digests))


def test_a_folder_that_holds_something_is_kept(command: Command, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mine.txt").write_text("mine")
    code, _, error = command("example", "--out", tmp_path / "parts")
    assert code == 2
    assert "is not empty, and nothing in it is overwritten" in error
    assert [file.name for file in (tmp_path / "parts").iterdir()] == ["mine.txt"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "parts"
    write_defect_example(folder)
    return folder


def test_every_defect_is_rare_and_every_split_has_all(broken: Path) -> None:
    images = open_images(broken / "photographs")
    assert images.left_out.describe() == "nothing was left out"
    for split in ("train", "validation", "test"):
        counts = Counter(images.of_split(split).labels_as_found)
        assert set(counts) == {"good", *DEFECTS}
        assert max(counts[defect] for defect in DEFECTS) * 3 < counts["good"]


def test_masks_of_photographs_count_the_defects(broken: Path) -> None:
    for record in open_images(broken / "photographs"):
        mask, value = record.read_mask(), [None, *DEFECTS].index(None if record.label == "good" else record.label)
        assert mask is not None
        assert set(np.unique(mask)) == {0, value}


def test_good_parts_have_masks_of_the_part(broken: Path) -> None:
    masks = [record.read_mask() for record in open_images(broken / "good")]
    assert all(mask is not None and 0.05 < mask.mean() < 0.5 for mask in masks)


@pytest.mark.parametrize("defect", DEFECTS)
def test_references_are_training_photographs_with_their_masks(broken: Path, defect: str) -> None:
    references = list(open_images(broken / "references" / defect))
    assert len(references) == 5
    for reference in references:
        assert reference.read_bytes() == (broken / "photographs" / "train" / defect / reference.id).read_bytes()
        mask = reference.read_mask()
        assert mask is not None
        assert 10 < mask.sum() < 400


def test_the_command_writes_defects_and_says_what_comes_next(command: Command, tmp_path: Path) -> None:
    code, output, _ = command("example", "--defects", "--out", tmp_path / "parts")
    assert code == 0
    assert f"next: tailforge build {tmp_path}/parts/recipe.yaml\n" in output


@pytest.mark.flow
def test_the_recipe_beside_the_defects_is_built_and_evaluated(
    broken: Path, tmp_path: Path, command: Command, prefect_server: str
) -> None:
    fewer = [word for place in range(len(DEFECTS)) for word in ("--set", f"concepts.{place}.requested=2")]
    made = build(command, broken / "recipe.yaml", tmp_path / "store", *fewer)
    assert Counter(row["concept"] for row in rows_of(made)) == dict.fromkeys(DEFECTS, 2)
    store = ("--store", tmp_path / "store")
    assert command("report", "part-defects", *store)[0] == 0
    code, told, error = command(
        "evaluate", "part-defects", "--real", broken / "photographs", "--task", "segmentation",
        "--mask-classes", ",".join(DEFECTS), "--few", "5", *store, "--seeds", "2", "--shares", "0.5",
        "--steps", "2", "--batch", "4", "--checks", "1", "--augmentations", "1",
    )  # fmt: skip
    assert code == 0, error
    assert "verdict: " in told
