"""`tailforge example` writes class folders with a long tail that every reader takes."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.flows.photographs.example import write_example
from tests.flows.conftest import Command

RARE = {"cross fitting", "star knob", "wing nut", "hook"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "parts"
    write_example(folder)
    return folder


def test_four_classes_are_rare_in_train_and_none_in_test(written: Path) -> None:
    images = open_images(written)
    train, test = (Counter(images.of_split(split).labels_as_found) for split in ("train", "test"))
    assert {name for name, count in train.items() if count == min(train.values())} == RARE
    assert len(train) == len(test) == 12
    assert min(train.values()) * 5 < max(train.values())
    assert len(set(test.values())) == 1


def test_no_picture_comes_twice(written: Path) -> None:
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in written.rglob("*.png")]
    assert len(digests) == len(set(digests))


def test_a_folder_that_holds_something_is_kept(command: Command, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mine.txt").write_text("mine")
    code, _, error = command("example", "--out", tmp_path / "parts")
    assert code == 2
    assert "is not empty, and nothing in it is overwritten" in error
    assert [file.name for file in (tmp_path / "parts").iterdir()] == ["mine.txt"]
