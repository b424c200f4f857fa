"""Requested images fill every class up to the target."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.catalog.inspection.counts import measure_tail
from tailforge.schemas.errors import ImagesError


def spread(**counts: int) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def tail_of(fill: str, **counts: int) -> dict[str, int]:
    labels = spread(**counts)
    return {each.name: each.requested for each in measure_tail(labels, ["train"] * len(labels), fill).rare}


@pytest.mark.parametrize(
    ("fill", "requested"),
    [("median", {"c": 3, "b": 0}), ("largest", {"c": 8, "b": 5}), ("7", {"c": 5, "b": 2})],
)
def test_classes_are_filled_up(fill: str, requested: dict[str, int]) -> None:
    assert tail_of(fill, a=10, b=5, c=2) == {name: count for name, count in requested.items() if count}


def test_of_two_classes_in_the_middle_the_larger_counts() -> None:
    assert tail_of("median", a=100, b=10) == {"b": 90}


def test_only_training_photographs_fill_a_class() -> None:
    tail = measure_tail(["a"] * 4 + ["b"] * 4, ["train"] * 4 + ["train", "test", "test", "test"])
    assert [(each.name, each.train, each.total, each.requested) for each in tail.rare] == [("b", 1, 4, 3)]
    assert tail.ratio == 4


@pytest.mark.parametrize(
    ("fill", "counts", "words"),
    [
        ("median", {"a": 4, "b": 4}, "2 classes of 4 each"),
        ("3", {"a": 5, "b": 4}, "4 to 5 in 2 classes; name what to fill up to, such as --fill 10"),
        ("median", {"a": 5, "b": 4, "c": 4}, "4 to 5 in 3 classes; name what to fill up to, such as --fill largest"),
        ("most", {"a": 4, "b": 1}, "give median, largest, or a number"),
        ("0", {"a": 4, "b": 1}, "give median, largest, or a number"),
        ("1000000", {f"c{number}": 1 for number in range(11)}, "a recipe makes 10,000,000 at most"),
    ],
)
def test_without_a_tail_there_is_one_error(fill: str, counts: dict[str, int], words: str) -> None:
    with pytest.raises(ImagesError, match=words):
        tail_of(fill, **counts)


def test_of_a_thousand_classes_the_rarest_254_request_images() -> None:
    labels = [f"class {number}" for number in range(1000) for _ in range(1 + number)]
    tail = measure_tail(labels, ["train"] * len(labels))
    assert [each.train for each in tail.rare] == list(range(1, 255))
    assert len(tail.left_out) == 500 - 254
    assert not {each.name for each in tail.rare} & set(tail.left_out)


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 30), min_size=2),
    st.sampled_from(["median", "largest"]),
)
def test_no_class_exceeds_the_target_by_its_request(counts: dict[str, int], fill: str) -> None:
    if len(set(counts.values())) == 1:
        return
    labels = [name for name, count in counts.items() for _ in range(count)]
    try:
        tail = measure_tail(labels, ["train"] * len(labels), fill)
    except ImagesError:
        assert min(counts.values()) == sorted(counts.values(), reverse=True)[(len(counts) - 1) // 2]
        return
    assert all(each.train + each.requested == max(each.train, tail.target) for each in tail.classes)
