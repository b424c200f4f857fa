"""Each planted kind of leak is found, and different photographs are not taken for twins."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tailforge.tasks.methods.evaluation.leakage import Fingerprints, find_leaks

SIZE = (24, 32)


def draw_scene(number: int) -> NDArray[np.uint8]:
    """Return a soft random picture [24, 32, 1]."""
    noise = np.random.default_rng(number).integers(0, 256, SIZE, np.uint8)
    soft = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2.5)), float)
    return ((soft - soft.min()) / np.ptp(soft) * 255).astype(np.uint8)[..., None]


def recompress(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image after JPEG of low quality."""
    out = io.BytesIO()
    Image.fromarray(image[..., 0]).save(out, "JPEG", quality=40)
    return np.asarray(Image.open(out))[..., None]


def fingerprints(kind: str, images: list[NDArray[np.uint8]], **told: object) -> Fingerprints:
    names = [f"{kind} {number}" for number in range(len(images))]
    digests = [f"{kind} {number}" for number in range(len(images))]
    return Fingerprints(kind, names, told.pop("digests", digests), np.stack(images), **told)  # type: ignore[arg-type]


KNOWN = [draw_scene(number) for number in range(40)]


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda image: image, "near twin"),
        (recompress, "near twin"),
        (lambda image: (image * 0.9).astype(np.uint8), "near twin"),
        (lambda image: image[:, ::-1], "mirrored twin"),
        (lambda image: image[::-1], "mirrored twin"),
        (lambda image: recompress(image[::-1, ::-1]), "mirrored twin"),
    ],
    ids=["equal pixels", "recompressed", "darker", "mirrored", "upside down", "turned and recompressed"],
)
def test_a_planted_twin_is_found(change: object, how: str) -> None:
    images = [draw_scene(100), change(KNOWN[7]), draw_scene(101)]  # type: ignore[operator]
    (leak,) = find_leaks(fingerprints("test", images), [fingerprints("training image", KNOWN)])
    assert (leak.image, leak.how, leak.other) == (1, how, "training image 7")
    assert leak.describe() == f"test 1: {how} of the training image training image 7"


def test_different_scenes_are_no_twins() -> None:
    images = [draw_scene(number) for number in range(200, 260)]
    assert find_leaks(fingerprints("test", images), [fingerprints("training image", KNOWN)]) == []


def test_an_equal_file_is_a_copy_even_without_pixels() -> None:
    known = Fingerprints("reference photograph", ["gear/1.png"], ["test 1"])
    (leak,) = find_leaks(fingerprints("test", [draw_scene(1), draw_scene(2)]), [known])
    assert (leak.image, leak.how, leak.kind) == (1, "copy", "reference photograph")


def test_an_image_of_a_training_group_leaks() -> None:
    test = fingerprints("test", [draw_scene(90), draw_scene(91)], groups=("module 1", None))
    known = fingerprints("training image", [draw_scene(92), draw_scene(93)], groups=(None, "module 1"))
    (leak,) = find_leaks(test, [known])
    assert (leak.image, leak.how, leak.other) == (0, "same group", "training image 1")


def test_blank_images_are_no_twins() -> None:
    blank = np.full((*SIZE, 1), 7, np.uint8)
    assert find_leaks(fingerprints("test", [blank]), [fingerprints("training image", [blank])]) == []
