"""Labelled images of another size are refused, cropped, padded or stretched, as asked."""

from pathlib import Path

import numpy as np
import pytest

from tailforge.schemas.errors import ImagesError
from tailforge.schemas.options import Fit
from tailforge.tasks.images.labelled import decode_images, open_labelled
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tests.support.tiny_pictures import NAMES, SIDE, toy_pictures, write_parquet


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "toy.parquet", {"train": toy_pictures(3, seed=1)})
    images = open_labelled(file, "train")
    with pytest.raises(ImagesError, match=r"toy.parquet: row 2 is 16 x 16 pixels .* reads 24 x 8"):
        decode_images(images, NAMES.index, (8, 24), 3, np.array([2]))


def test_images_of_another_size_are_cropped_where_that_is_asked_for(tmp_path: Path) -> None:
    """The middle is kept, also of an image that is smaller than what is asked for."""
    wide = np.zeros((1, 8, 24, 3), np.uint8)
    wide[:, :, 8:16] = 200
    file = write_parquet(tmp_path / "wide.parquet", {"train": Pictures(wide, np.zeros(1, np.int64))})
    images = open_labelled(file, "train")
    for side in (4, 8, 16):
        cropped = decode_images(images, NAMES.index, (side, side), 1, np.array([0]), "crop").images
        assert cropped.shape == (1, side, side, 1)
        assert cropped.mean() > 190
    exact = decode_images(images, NAMES.index, (8, 24), 3, np.array([0]), "crop").images
    assert np.array_equal(exact, wide)


@pytest.mark.parametrize(("fit", "rows"), [("pad", slice(4, 12)), ("stretch", slice(0, 16))])
def test_images_are_padded_or_stretched(tmp_path: Path, fit: Fit, rows: slice) -> None:
    wide = np.full((1, 8, 16, 3), 200, np.uint8)
    file = write_parquet(tmp_path / "wide.parquet", {"train": Pictures(wide, np.zeros(1, np.int64))})
    found = decode_images(open_labelled(file, "train"), NAMES.index, (SIDE, SIDE), 3, np.array([0]), fit).images[0]
    expected = np.zeros((SIDE, SIDE, 3), np.uint8)
    expected[rows] = 200
    assert np.array_equal(found, expected)
