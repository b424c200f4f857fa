"""Accelerators are those that CUDA_VISIBLE_DEVICES leaves, in its order."""

import pytest

from tailforge.tasks.artifacts.accelerators import Accelerator, choose_visible

FOUND = tuple(Accelerator(str(number), f"GPU-{number}a", f"card {number}", 1, 1, "1") for number in range(3))


@pytest.mark.parametrize(
    ("visible", "numbers"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        (" 1 ", [1]),
        ("GPU-1a,GPU-0", [1, 0]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),
        ("GPU-", []),
    ],
)
def test_the_variable_chooses(visible: str | None, numbers: list[int]) -> None:
    assert choose_visible(FOUND, visible) == tuple(FOUND[number] for number in numbers)
