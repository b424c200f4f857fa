"""Confidence rises with what speaks for a mask, and stays a share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.masks.confidence import USUAL_AGREEMENT, Parts, estimate_drawn, estimate_overlap

SHARE = st.floats(0, 1)
GOOD = Parts(area=0.2, separability=0.92, largest_share=1.0, agreement=0.85, components=1)


@given(SHARE, SHARE, SHARE, SHARE)
def test_it_is_a_share(area: float, separability: float, largest: float, agreement: float) -> None:
    found = Parts(area=area, separability=separability, largest_share=largest, agreement=agreement)
    assert 0 < estimate_overlap(found) < 1


@pytest.mark.parametrize("worse", [{"separability": 0.7}, {"largest_share": 0.5}, {"agreement": 0.4}])
def test_each_part_can_cost_confidence(worse: dict[str, float]) -> None:
    doubtful = Parts(**{**GOOD.__dict__, **worse})
    assert estimate_overlap(doubtful) < estimate_overlap(GOOD)
    assert estimate_overlap(GOOD) > 0.8


def test_a_single_reading_counts_as_usual_agreement() -> None:
    single, usual = ({**GOOD.__dict__, "agreement": value} for value in (None, USUAL_AGREEMENT))
    assert estimate_overlap(Parts(**single)) == estimate_overlap(Parts(**usual))


@given(SHARE, SHARE, st.floats(0.01, 0.3))
def test_steady_attention_speaks_for_a_drawn_object(separability: float, agreement: float, more: float) -> None:
    chance = estimate_drawn(separability, agreement)
    assert 0 <= chance <= estimate_drawn(separability, agreement + more) <= 1
    assert chance <= estimate_drawn(separability + more, agreement)
