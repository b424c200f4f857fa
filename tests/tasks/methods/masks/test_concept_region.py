"""What is left of a concept in an image."""

import numpy as np
import pytest

from tailforge.tasks.methods.masks.codec import describe_instance
from tailforge.tasks.methods.masks.concept_region import keeps_concept, measure_concept


def test_the_shape_of_the_concept_is_measured_alone() -> None:
    region, other = np.zeros((10, 20), np.bool_), np.zeros((10, 20), np.bool_)
    region[0:2, 0:3], region[5, 5:7], other[9] = True, True, True
    instances = [
        describe_instance(other, 2, "bench", 0.5, "surface"),
        describe_instance(region, 1, "gear", 0.5),
    ]
    assert measure_concept(instances, 10, 20) == {
        "mask_area": 8 / 200, "mask_components": 2, "mask_largest_share": 6 / 8,
    }  # fmt: skip
    assert set(measure_concept(instances[:1], 10, 20).values()) == {0}


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [(0.5, 0.5, True), (0.5, 0.05, True), (0.5, 0.049, False), (0.2, 0.0, False), (0.0, 0.0, True)],
)
def test_a_concept_is_lost_with_nine_tenths_of_its_share(before: float, after: float, kept: bool) -> None:
    assert keeps_concept(before, after) is kept
