"""Labels of a batch for any number of classes and any batch size."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.tasks.methods.natural_inversion.labels import spread_labels


@settings(max_examples=50)
@given(st.integers(0, 300), st.integers(1, 130), st.integers(0, 2**63 - 1))
def test_each_class_has_its_share(count: int, classes: int, seed: int) -> None:
    labels = spread_labels(count, classes, seed)
    counts = Counter(labels)
    assert len(labels) == count
    assert set(counts) <= set(range(classes))
    assert all(counts[label] - count // classes in (0, 1) for label in range(classes))
    assert labels == spread_labels(count, classes, seed)


@pytest.mark.parametrize(("classes", "each", "more"), [(10, 25, 6), (100, 2, 56)])
def test_the_published_batches(classes: int, each: int, more: int) -> None:
    counts = Counter(spread_labels(256, classes, 777))
    assert Counter(counts.values()) == {each + 1: more, each: classes - more}


def test_the_rest_is_drawn_anew_for_each_seed() -> None:
    assert len({tuple(spread_labels(3, 50, seed)) for seed in range(20)}) > 10


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="classes is 0"):
        spread_labels(4, 0, 1)
