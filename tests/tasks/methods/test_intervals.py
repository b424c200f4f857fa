"""The interval of a share: a textbook case, and the share is always inside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.intervals import wilson_interval


def test_wilson_interval_of_a_textbook_case() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_interval_holds_the_share(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    low, high = wilson_interval(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
