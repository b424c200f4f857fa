"""Controls as strong as what they are compared with, and curves that tell a region from the rest."""

import numpy as np
import pytest
import torch

from tailforge.tasks.methods.regional_primitives.patches import PatchGrid
from tests.benchmarks.primitives.measures import area, count_for, measure_curves, random_directions
from tests.support.tiny_tails import SIZE, planted_subject

GRID = PatchGrid(3, 3, SIZE, SIZE)
SINGLES: list[tuple[int, ...]] = [(patch,) for patch in range(9)]


def test_random_directions_are_as_long_as_the_components() -> None:
    subject = planted_subject(GRID, SINGLES)
    changes = torch.rand(4, 9, 1, 1, dtype=torch.float64)
    made = random_directions(subject, changes, torch.Generator().manual_seed(0))
    torch.testing.assert_close(made.flatten(1).norm(dim=1), changes.flatten(1).norm(dim=1))


@pytest.mark.parametrize("metric", ["deletion", "insertion"])
def test_a_region_that_goes_first_has_the_whole_area(metric: str) -> None:
    subject = planted_subject(GRID, SINGLES)
    parts = torch.diag((subject.feature - subject.baseline)[0, :, 0, 0])[:, :, None, None]
    region = GRID.numbers() < 2
    assert area(measure_curves(subject, parts, region)[metric]) == pytest.approx(1)
    assert area(measure_curves(subject, parts.flip(0), region)[metric]) == pytest.approx(0)


def test_the_strongest_are_counted() -> None:
    assert count_for(np.array([1.0, 6.0, 3.0])) == 2
