"""Scores of a region: equal to the quality scores, lowest where nothing is wrong, and the right patches are blamed."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.quality.pixel_scores import score_image
from tailforge.tasks.methods.regional_primitives.defects import (
    PIXEL_MEASURES,
    blame_patches,
    score_artifacts,
    score_gate,
)
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tailforge.tasks.methods.sampling.pixels import to_pixels

GRID = PatchGrid(3, 3, 24, 24)


def noise(seed: int = 0) -> Tensor:
    """An image whose levels are whole, so that nothing is rounded on the way to pixels."""
    levels = torch.randint(0, 256, (1, 3, 24, 24), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 127.5 - 1


@pytest.mark.parametrize("name", PIXEL_MEASURES)
def test_a_measure_is_the_quality_score(name: str) -> None:
    expected = getattr(score_image(to_pixels(noise())[0]), name)
    assert float(PIXEL_MEASURES[name](noise())) == pytest.approx(expected, rel=1e-4)


def test_a_gates_score_is_the_distance_past_the_bound() -> None:
    image, bright = noise(), float(PIXEL_MEASURES["brightness"](noise()))
    low = score_gate(PIXEL_MEASURES["brightness"], 2 * bright, "low")
    assert float(low(image)) == pytest.approx(0.5, rel=1e-5)
    assert float(score_gate(PIXEL_MEASURES["brightness"], 2 * bright, "high")(image)) == 0
    assert float(score_gate(PIXEL_MEASURES["brightness"], bright / 2, "high")(image)) == pytest.approx(1, rel=1e-5)


def test_artifacts_are_counted_inside_the_region_alone() -> None:
    region = torch.zeros(24, 24, dtype=torch.bool)
    region[:8, :8] = True
    spoiled = torch.zeros(2, 3, 24, 24)
    spoiled[0, :, 12:, 12:] = 1
    spoiled[1, :, 0, 0] = 1
    scores = score_artifacts(torch.zeros_like, region)(spoiled)
    assert scores.tolist() == pytest.approx([0, 1 / 64])


def test_the_blurred_patch_of_the_mask_is_blamed() -> None:
    image = noise()
    image[..., :8, :8] = 0
    image[..., 16:, 16:] = 0
    mask = np.zeros((24, 24), bool)
    mask[:12, :12] = True
    region = blame_patches(GRID, image, "sharpness", 100.0, "low", mask)
    assert region[:8, :8].all()
    assert int(region.sum()) == 64
    everywhere = blame_patches(GRID, image, "sharpness", 100.0, "low", None)
    assert int(everywhere.sum()) == 128


def test_the_worst_quarter_is_blamed_where_no_patch_misses_the_bound() -> None:
    region = blame_patches(GRID, noise(), "brightness", 1e-3, "low", None)
    assert int(region.sum()) == 2 * 64


def test_a_gate_without_a_place_is_refused() -> None:
    with pytest.raises(ExplanationError, match="no part of the image can be blamed for gate 'clip_score'"):
        blame_patches(GRID, noise(), "clip_score", 0.2, "low", None)
