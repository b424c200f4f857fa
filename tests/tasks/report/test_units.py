"""Durations, sizes and shares in words."""

import pytest

from tailforge.schemas.documents.shown import count_of
from tailforge.tasks.report.units import show_bytes, show_percent, show_seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "12 ms"), (9.96, "10.0 s"), (59.94, "59.9 s"), (337, "5 min 37 s"), (7260, "2 h 01 min")],
)
def test_seconds_in_the_unit_of_a_person(value: float, text: str) -> None:
    assert show_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.76, "76 %"),
        (0.0123, "1.2 %"),
        (0.0001, "< 0.1 %"),
        (0.9999, "99.9 %"),
        (0.996, "99.6 %"),
    ],
)
def test_a_percentage_is_0_or_100_only_when_true(value: float, text: str) -> None:
    assert show_percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (292_651, "293 kB"), (999_600, "1 MB"), (4e12, "4 TB")],
)
def test_a_size_in_the_unit_of_a_person(value: float, text: str) -> None:
    assert show_bytes(value) == text


@pytest.mark.parametrize(
    ("number", "word", "text"),
    [
        (0, "image", "0 images"),
        (1, "image", "1 image"),
        (1200, "image", "1,200 images"),
        (1, "batch", "1 batch"),
        (2, "batch", "2 batches"),
        (2, "class", "2 classes"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, word: str, text: str) -> None:
    assert count_of(number, word) == text
