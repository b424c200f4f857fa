"""The interval of a share: a textbook case, and the share is always inside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.intervals import student_interval, wilson_interval


def test_wilson_interval_of_a_textbook_case() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500), st.data())
def test_interval_holds_the_share(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    low, high = wilson_interval(hits, count)
    assert 0 <= low <= hits / count <= high <= 1


def test_student_interval_of_a_textbook_case() -> None:
    # Five values with mean 3 and deviation sqrt(2.5): the quantile of four degrees of freedom is 2.776445.
    low, high = student_interval([1, 2, 3, 4, 5])
    assert (low + high) / 2 == pytest.approx(3)
    assert high - 3 == pytest.approx(2.776445 * (2.5 / 5) ** 0.5, abs=1e-5)
