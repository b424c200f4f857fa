"""A view moves image and regions alike, changes colours of the image alone, and is decided by seed, step and number."""

import numpy as np
import pytest

from tailforge.schemas.training.pretraining import MaskedSettings
from tailforge.tasks.methods.pretraining.views import RegionViews

SIDE = 32
PLAIN = MaskedSettings(jitter=0.0)


def draw_scene(count: int, regions: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Images that are white where the first region is; further regions are strips."""
    areas = np.zeros((count, regions, SIDE, SIDE), bool)
    areas[:, 0, 5:21, 9:15] = True
    for place in range(1, regions):
        areas[:, place, 2 * place] = True
    pixels = np.where(areas[:, 0, :, :, None], 255, 0).astype(np.uint8).repeat(3, axis=3)
    return pixels, areas


@pytest.mark.parametrize("regions", [1, 2, 6])
def test_image_and_regions_move_alike(regions: int) -> None:
    pixels, areas = draw_scene(40, regions)
    view = RegionViews(SIDE, PLAIN).draw(pixels, areas, step=3)
    assert view.areas is not None
    assert view.areas.shape == areas.shape
    light = view.pixels[..., 0] > 127
    differ = (light != view.areas[:, 0]).mean(axis=(1, 2))
    assert differ.max() < 0.08  # the border: the image is interpolated, a region is not
    assert len({area.tobytes() for area in view.areas[:, 0]}) > 30


def test_colours_change_in_the_image_alone() -> None:
    pixels, areas = draw_scene(8, 1)
    pixels[..., 0] //= 2
    settings = PLAIN.model_copy(update={"jitter": 0.8, "smallest_crop": 1.0, "flip": False, "turn": False})
    still = settings.model_copy(update={"jitter": 0.0})
    changed, same = (RegionViews(SIDE, each).draw(pixels, areas, 0) for each in (settings, still))
    assert not np.array_equal(changed.pixels, same.pixels)
    assert changed.areas is not None
    assert changed.areas.any(axis=(2, 3)).all()
    grey = RegionViews(SIDE, still, grey=1.0).draw(pixels, None, 0)
    assert np.ptp(grey.pixels.astype(int), axis=3).max() == 0


def test_seed_step_and_number_decide() -> None:
    pixels, _ = draw_scene(4, 1)
    views = RegionViews(SIDE, PLAIN)
    first = views.draw(pixels, None, 5, 0).pixels
    assert np.array_equal(RegionViews(SIDE, PLAIN).draw(pixels, None, 5, 0).pixels, first)
    others = [views.draw(pixels, None, 5, 1), views.draw(pixels, None, 6, 0)]
    others.append(RegionViews(SIDE, PLAIN.model_copy(update={"seed": 1})).draw(pixels, None, 5, 0))
    assert all(not np.array_equal(other.pixels, first) for other in others)


def test_regions_do_not_change_the_view() -> None:
    pixels, areas = draw_scene(4, 2)
    views = RegionViews(SIDE, PLAIN)
    assert np.array_equal(views.draw(pixels, areas, 2).pixels, views.draw(pixels, None, 2).pixels)
