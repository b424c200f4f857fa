"""Each planted kind of leak is found, and different photographs are not taken for twins."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from tailforge.tasks.methods.evaluation.leakage import CERTAIN_CORRELATION, Fingerprints, bound_likeness, find_leaks
from tailforge.tasks.methods.quality.likeness import LEAST_CORRELATION

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


def draw_panel(number: int) -> NDArray[np.uint8]:
    """Return a bright panel below a dark edge, as a thermal photograph [24, 32, 1]: smooth, and like all others."""
    edge = np.tanh((np.arange(24) - 5 - number % 7 / 10) / 2)[:, None]
    return (120 + 90 * edge + (draw_scene(number)[..., 0] - 128.0) * 0.25).clip(0, 255).astype(np.uint8)[..., None]


def test_smooth_photographs_of_one_kind_are_no_twins_and_a_twin_among_them_is_found() -> None:
    panels = [draw_panel(number) for number in range(200)]
    known = fingerprints("training image", panels)
    others = fingerprints("test", [draw_panel(number) for number in range(500, 560)])
    assert ((others.profiles @ known.profiles.T).max(1) >= LEAST_CORRELATION).mean() > 0.9
    assert find_leaks(others, [known]) == []

    # Every kind of twin is found among them.
    for change in (
        lambda image: image,
        recompress,
        lambda image: image[:, ::-1],
        lambda image: recompress(image[::-1]),
    ):
        twins = fingerprints("test", [change(panel) for panel in panels[:20]])
        assert [leak.other for leak in find_leaks(twins, [known])] == [f"training image {row}" for row in range(20)]


def test_a_pair_of_certain_likeness_is_a_twin_in_a_long_series_of_copies() -> None:
    series = [(KNOWN[3] * (1 - number / 200)).astype(np.uint8) for number in range(12)]
    (leak,) = find_leaks(fingerprints("test", [KNOWN[3]]), [fingerprints("training image", series)])
    assert leak.how == "near twin"


def test_the_bound_is_a_third_of_the_distance_of_the_fifth_nearest() -> None:
    row = [0.99, 0.98, 0.97, 0.96, 0.955, 0.1]
    assert bound_likeness(np.array([row], np.float32))[0] == pytest.approx(1 - 0.045 / 3)
    assert bound_likeness(np.array([[0.99, 0.98, 0.97, 0.96, 0.5]], np.float32))[0] == pytest.approx(LEAST_CORRELATION)
    assert bound_likeness(np.array([[0.999] * 9], np.float32))[0] == pytest.approx(CERTAIN_CORRELATION)
    assert bound_likeness(np.array([[0.999] * 4], np.float32))[0] == pytest.approx(LEAST_CORRELATION)


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
