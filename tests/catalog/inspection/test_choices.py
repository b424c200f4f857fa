"""References differ and are no outliers; gates hold the photographs; sizes decide the fit; copies have equal bytes."""

from pathlib import Path

import numpy as np
import pytest

from tailforge.catalog.images.reader import open_images
from tailforge.catalog.inspection.copies import find_copies
from tailforge.catalog.inspection.gates import derive_gates
from tailforge.catalog.inspection.references import choose_references
from tailforge.catalog.inspection.sizes import choose_reading, summarise_sizes
from tailforge.schemas.settings.gates import DEFAULT_GATES
from tests.support.image_files import put


def test_references_are_far_apart_and_no_outliers() -> None:
    near = np.repeat(np.array([[0, 0], [10, 0], [0, 10]], np.float32), 6, axis=0)
    features = np.concatenate([near, np.array([[900, 900]], np.float32)])
    chosen = choose_references(features, 3)
    assert {int(place) // 6 for place in chosen} == {0, 1, 2}
    assert len(set(chosen.tolist())) == 3


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_photographs_are_all_chosen(count: int) -> None:
    features = np.arange(count, dtype=np.float32)[:, None]
    assert sorted(choose_references(features, 8).tolist()) == list(range(count))


def test_equal_photographs_are_each_chosen_once() -> None:
    assert sorted(choose_references(np.zeros((4, 2), np.float32), 4).tolist()) == [0, 1, 2, 3]


def test_gates_hold_almost_all_photographs() -> None:
    draws = np.random.default_rng(0)
    scores = {
        "brightness": draws.uniform(0.3, 0.6, 500),
        "contrast": draws.uniform(0.2, 0.3, 500),
        "clipped": draws.uniform(0, 0.1, 500),
        "sharpness": draws.uniform(100, 400, 500),
    }
    gates = derive_gates(scores)
    for name, gate in gates.items():
        low, high = gate.min if gate.min is not None else -1, gate.max if gate.max is not None else 1e9
        assert ((scores[name] >= low) & (scores[name] <= high)).all()
    assert 0.1 < (gates["brightness"].min or 0) < 0.3 < 0.6 < (gates["brightness"].max or 0) < 0.8
    assert 20 < (gates["sharpness"].min or 0) < 30
    assert (gates["contrast"].max, gates["clipped"].min) == (None, None)


def test_few_photographs_keep_the_default_gates() -> None:
    few = {name: np.zeros(5) for name in ("brightness", "contrast", "clipped", "sharpness")}
    assert derive_gates(few) == DEFAULT_GATES


def test_dark_pictures_without_grey_get_no_bound_that_they_miss() -> None:
    black = {name: np.full(50, value) for name, value in
             {"brightness": 0.0, "contrast": 0.0, "clipped": 1.0, "sharpness": 0.0}.items()}  # fmt: skip
    gates = derive_gates(black)
    assert all(gate.min is None for gate in gates.values())
    assert "clipped" not in gates


@pytest.mark.parametrize(
    ("shapes", "fit"),
    [
        ([(64, 64)] * 3, "exact"),
        ([(100, 100)] * 3, "crop"),
        ([(24, 40)] * 10, "stretch"),
        ([(24, 40)] * 5 + [(40, 24)] * 5, "crop"),
        ([(105, 100)] * 3, "crop"),
        ([(200, 100)] * 10, "pad"),
        ([(100, 300)] * 10, "pad"),
    ],
)
def test_one_aspect_that_the_generator_lacks_is_stretched(shapes: list[tuple[int, int]], fit: str) -> None:
    sizes = summarise_sizes([(width, height, 1) for width, height in shapes])
    assert sizes.choose_fit((64, 64)) == fit
    assert sizes.is_grey


@pytest.mark.parametrize(
    ("real", "drawn", "found"),
    [
        ([(40, 24)], [(40, 24)], ((40, 24), "exact")),  # read as they are
        ([(40, 24)], [(512, 512)], ((40, 24), "stretch")),  # the network reads the real ones
        ([(640, 480)], [(64, 64)], ((64, 64), "stretch")),
        ([(640, 480), (480, 640)], [(64, 64)], ((64, 64), "crop")),
        ([(512, 512)], [(512, 512)], ((64, 64), "crop")),
        ([(1024, 128)], [(1024, 128)], ((64, 16), "pad")),  # a side would be too short
        ([(32, 32)], [(32, 32), (48, 48)], ((32, 32), "crop")),  # a rival has another size
    ],
)
def test_a_network_reads_one_size(
    real: list[tuple[int, int]], drawn: list[tuple[int, int]], found: tuple[tuple[int, int], str]
) -> None:
    own, other = (summarise_sizes([(*size, 3) for size in sizes]) for sizes in (real, drawn))
    assert choose_reading(own, other, (16, 64)) == found


def test_aspects_are_in_lowest_terms() -> None:
    sizes = summarise_sizes([(640, 480, 3), (320, 240, 3), (24, 40, 1)])
    assert sizes.aspects == (((4, 3), 2), ((3, 5), 1))
    assert sizes.channels == ((3, 2), (1, 1))
    assert not sizes.is_grey


def test_copies_have_the_same_bytes(tmp_path: Path) -> None:
    for number, name in ((1, "a/x.png"), (1, "b/y.png"), (2, "b/z.png"), (1, "b/w.png")):
        put(tmp_path / name, number)
    images = open_images(tmp_path)
    (found,) = find_copies(images)
    assert [images.ids[place] for place in found] == ["a/x.png", "b/w.png", "b/y.png"]
