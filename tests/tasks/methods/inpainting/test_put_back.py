"""A drawing put back into its photograph: the photograph stays where nothing was drawn, inside the regions too."""

import numpy as np

from tailforge.tasks.methods.inpainting.render import Layout
from tailforge.tasks.methods.inpainting.windows import Window, choose_window, soften_edge

DRAWS = np.random.default_rng(3)
PHOTOGRAPH = DRAWS.integers(0, 256, (40, 60, 3), np.uint8)
REGION = np.zeros((40, 60), np.bool_)
REGION[10:30, 15:45] = True


def lay_out(window: Window, size: tuple[int, int]) -> Layout:
    """A layout whose frame has this size."""
    frame = np.resize(PHOTOGRAPH[window.inside], (*size, 3))
    return Layout(PHOTOGRAPH, [REGION], window, frame, (0, 0, *size), {})


def test_the_autoencoder_alone_changes_no_photograph() -> None:
    """Not at the generator's size, and not after scaling from half of it."""
    window = choose_window([REGION], (32, 32))
    for size in ((32, 32), (16, 16)):
        layout = lay_out(window, size)
        alone = DRAWS.integers(0, 256, (*size, 3), np.uint8)
        image, own = layout.put_back(alone, alone, soften_edge([REGION], 2))
        assert own > 2.3
        assert np.array_equal(image, PHOTOGRAPH)


def test_what_is_drawn_is_published_and_nothing_beside_it() -> None:
    window = Window(0, 0, 40, 60)
    layout, edges = lay_out(window, (40, 60)), soften_edge([REGION], 2)
    alone = np.clip(PHOTOGRAPH + DRAWS.normal(0, 2, PHOTOGRAPH.shape), 0, 255).astype(np.uint8)
    drawn = alone.copy()
    drawn[15:25, 20:30] = 255 - alone[15:25, 20:30] // 2
    image, _ = layout.put_back(drawn, alone, edges)
    near = np.zeros_like(REGION)
    near[11:29, 16:34] = True  # the average over neighbours reaches so far
    assert np.array_equal(image[~near], PHOTOGRAPH[~near])
    assert np.abs(image[16:24, 21:29].astype(int) - drawn[16:24, 21:29]).mean() < 5
