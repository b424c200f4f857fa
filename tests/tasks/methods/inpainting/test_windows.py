"""The window of a photograph, and the drawing put back: outside the regions no byte changes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.catalog.images.resizing import place_inside
from tailforge.tasks.methods.inpainting.windows import (
    Window,
    choose_window,
    composite,
    fit_region,
    restore_window,
    soften_edge,
)

SIDES = st.integers(8, 90)


def blob(draws: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A rectangle at random, with holes."""
    region = np.zeros(size, np.bool_)
    top, left = (int(draws.integers(side)) for side in size)
    region[top : top + int(draws.integers(1, 30)), left : left + int(draws.integers(1, 30))] = True
    return region & ((draws.random(size) > 0.1) | (region.sum() < 4))


@settings(max_examples=60, deadline=None)
@given(size=st.tuples(SIDES, SIDES), side=st.sampled_from([16, 32, 64]), feather=st.integers(0, 6), seed=st.integers(0))
def test_outside_the_regions_every_pixel_is_the_photographs(
    size: tuple[int, int], side: int, feather: int, seed: int
) -> None:
    draws = np.random.default_rng(seed)
    regions = [region for region in (blob(draws, size), blob(draws, size)) if region.any()]
    if not regions:
        return
    photograph = draws.integers(0, 256, (*size, 3), np.uint8)
    window = choose_window(regions, (side, side))
    place = place_inside((window.height, window.width), (side, side))
    drawn = restore_window(draws.integers(0, 256, (side, side, 3), np.uint8), place, window)
    image = composite(photograph, drawn, soften_edge(regions, feather), window)
    outside = ~np.any(regions, axis=0)
    assert np.array_equal(image[outside], photograph[outside])
    # The window holds every region, and the cells of the generator's image hold every pixel of them.
    seen = np.zeros(size, np.bool_)
    seen[window.inside] = True
    assert not (~outside & ~seen).any()
    cells = fit_region(~outside[window.inside], place, (side, side))
    back = restore_window(np.repeat(255 * cells[..., None].astype(np.uint8), 3, -1), place, window)
    assert (back[~outside[window.inside]] > 0).all()


def test_the_window_has_the_generators_size_and_stays_inside() -> None:
    region = np.zeros((100, 200), np.bool_)
    region[2:6, 190:196] = True
    assert choose_window([region], (32, 64)) == Window(0, 136, 32, 64)
    region[90:92, 20:22] = True  # too far apart for the generator: the window grows
    assert choose_window([region], (32, 64)) == Window(2, 20, 90, 176)
    assert choose_window([np.ones((20, 30), np.bool_)], (32, 64)) == Window(0, 0, 20, 30)


def test_the_soft_edge_is_inside_the_region() -> None:
    wide, thin = np.zeros((9, 40), np.bool_), np.zeros((9, 40), np.bool_)
    wide[:, 2:20], thin[:, 30:33] = True, True
    shares = soften_edge([wide, thin], 3)
    # The photograph's border is no edge; the middle of a thin region is drawn whole.
    assert shares[4, :7].tolist() == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert shares[4, 29:34].tolist() == [0, 0.5, 1, 0.5, 0]
    assert np.array_equal(soften_edge([wide], 0), wide.astype(np.float32))
    assert (soften_edge([np.ones((4, 4), np.bool_)], 2) == 1).all()


def test_a_hard_edge_takes_the_drawing_as_it_is() -> None:
    draws = np.random.default_rng(0)
    photograph, drawn = (draws.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(2))
    region = np.zeros((8, 8), np.bool_)
    region[2:5, 3:6] = True
    image = composite(photograph, drawn, soften_edge([region], 0), Window(0, 0, 8, 8))
    assert np.array_equal(image, np.where(region[..., None], drawn, photograph))
